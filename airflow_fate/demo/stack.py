"""How is a whole Airflow started beside everything else, and stopped without a trace? For the demo and for tests.

api-server, dag-processor and any number of schedulers as processes of their own, each in its own session, with an
AIRFLOW_HOME of their own and a free port; all settings go through the environment.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from airflow_fate.demo.api import START_TIMEOUT_S, AirflowApi, StackError
from airflow_fate.gateway.child import free_port

STOP_TIMEOUT_S = 15.0
_COMMANDS = {"celery-worker": ("celery", "worker", "--skip-serve-logs", "--without-gossip", "--without-mingle")}


@dataclass
class AirflowStack:
    """An Airflow of its own.

    :param home: its AIRFLOW_HOME; created.
    :param dags: folder of DAG files.
    :param database: SQLAlchemy URL; SQLite in ``home`` by default.
    :param settings: further settings as ``{"section__key": value}``.
    :param connections: connection id -> its fields, besides ``fate_default``.
    :param path: prefix below which its pages lie, such as ``/airflow``.
    """

    home: Path
    dags: Path
    database: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    connections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    path: str = ""
    port: int = 0
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _orphaned: list[int] = field(default_factory=list)
    _secret: str = field(default_factory=lambda: secrets.token_hex(32))

    def __post_init__(self) -> None:
        self.home = self.home.resolve()
        self.home.mkdir(parents=True, exist_ok=True)
        self.database = self.database or f"sqlite:///{self.home / 'airflow.db'}"
        self.port = self.port or free_port()
        self.url = f"http://127.0.0.1:{self.port}{self.path}"
        self.api = AirflowApi(self.url, check=self.check_running)

    def environment(self) -> dict[str, str]:
        """The environment of every process of this Airflow."""
        values = {
            "core__dags_folder": str(self.dags.resolve()),
            "core__load_examples": "False",
            "core__executor": "airflow_fate.executor.FateExecutor",
            "core__execution_api_server_url": f"{self.url}/execution/",
            "core__simple_auth_manager_all_admins": "True",
            "core__dags_are_paused_at_creation": "False",
            "core__max_active_tasks_per_dag": "1000",
            "core__max_active_runs_per_dag": "100",
            "core__parallelism": "16",
            "core__default_pool_task_slot_count": "1000",
            "database__sql_alchemy_conn": self.database,
            "api__port": str(self.port),
            "api__host": "127.0.0.1",
            "api__base_url": self.url,
            "api__workers": "1",
            "api__secret_key": self._secret,
            "api_auth__jwt_secret": self._secret,
            # An idle scheduler looks for work in a loop, which takes a good part of a core from the engines.
            "scheduler__scheduler_idle_sleep_time": "0.25",
            "scheduler__max_tis_per_query": "100",
            "scheduler__enable_health_check": "False",
            "dag_processor__min_file_process_interval": "600",
            "dag_processor__refresh_interval": "5",
            "dag_processor__parsing_processes": "1",
            "dag_processor__print_stats_interval": "0",
            "logging__base_log_folder": str(self.home / "logs"),
            "usage_data_collection__enabled": "False",
            **self.settings,
        }
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW__", "AIRFLOW_"))}
        return {
            **inherited,
            **{f"AIRFLOW__{key.upper()}": value for key, value in values.items()},
            # Parts of Airflow start each other as `airflow`.
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))),
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW_CONN_FATE_DEFAULT": json.dumps({"conn_type": "fate"}),
            **{f"AIRFLOW_CONN_{name.upper()}": json.dumps(fields) for name, fields in self.connections.items()},
            "NO_PROXY": "127.0.0.1,localhost",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            "_AIRFLOW_PROCESS_CONTEXT": "server",
        }

    def migrate(self) -> None:
        """Create or upgrade the database, FATE's own tables included."""
        done = subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"], env=self.environment(), capture_output=True, check=False
        )
        if done.returncode:
            raise StackError(f"airflow db migrate failed:\n{(done.stdout + done.stderr).decode()[-2000:]}")

    def start(self, *names: str) -> None:
        """Start parts by name: ``api-server``, ``dag-processor``, ``triggerer``, ``celery-worker``, ``scheduler``,
        ``scheduler-2``, ...
        """
        for name in names:
            part = "scheduler" if name.startswith("scheduler") else name
            command = [sys.executable, "-m", "airflow", *_COMMANDS.get(part, (part,))]
            if part == "api-server":
                command += ["--port", str(self.port), "--host", "127.0.0.1"]
            with self.log(name).open("ab") as output:
                self.processes[name] = subprocess.Popen(
                    command,
                    env=self.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )

    def log(self, name: str) -> Path:
        return self.home / f"{name}.log"

    def wait_healthy(self) -> None:
        """Wait until the API answers, warm, and tasks can reach it.

        :raises StackError: when a part ends or the time runs out.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        for path in ("/api/v2/monitor/health", "/execution/health"):
            while True:
                self.check_running()
                try:
                    if httpx.get(self.url + path, timeout=30, trust_env=False).status_code == 200:
                        break
                except httpx.HTTPError:
                    pass
                if time.monotonic() > deadline:
                    raise StackError(f"Airflow did not answer on {path} in {START_TIMEOUT_S:.0f} s, see {self.home}")
                time.sleep(0.2)

    def kill(self, name: str) -> None:
        """End a part at once, with all it started in its session, as if its machine had failed."""
        process = self.processes.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def crash(self, name: str) -> None:
        """Kill a part's own process only: what it started lives on, as after a crash."""
        process = self.processes[name]
        process.kill()
        process.wait()
        self._orphaned.append(self.processes.pop(name).pid)

    def stop(self) -> None:
        """End everything: first politely, then for good."""
        for process in self.processes.values():
            if process.poll() is None:
                os.kill(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for process in self.processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(deadline - time.monotonic(), 0.1))
            # Whatever it left behind in its own session: workers can outlive a terminated scheduler.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.processes.clear()
        for group in self._orphaned:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def check_running(self) -> None:
        """:raises StackError: when a part has ended by itself, with the end of its log."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                tail = self.log(name).read_text(errors="replace")[-2000:]
                raise StackError(f"Airflow's {name} ended with {process.returncode}:\n{tail}")
