"""docs/troubleshooting.md, row by row: somebody makes the mistake, and reads the sentence that stands there.

Those that need an Airflow that runs are walked by ``tests/integration/test_troubleshooting.py``.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from sqlalchemy import create_engine
from typer.testing import CliRunner

from airflow_fate.cli import extras
from airflow_fate.cli.fleetdir import make_folder, supervisor_lock, write_fleet
from airflow_fate.cli.main import app
from airflow_fate.doctor import gateways, versions
from airflow_fate.doctor.configuration import check_executor, check_inner_executor, check_keys
from airflow_fate.doctor.connection import check_connection
from airflow_fate.doctor.database import check_database
from airflow_fate.doctor.finding import Finding
from airflow_fate.doctor.fleet import check_fleet
from airflow_fate.executor import database
from airflow_fate.executor.runs.connections import Known
from airflow_fate.executor.runs.dags import DagError, read_dag_file
from airflow_fate.executor.settings import SettingsError, read_settings
from airflow_fate.gateway.supervisor import Supervisor
from airflow_fate.operators import hook
from airflow_fate.provider_info import OPTIONS
from airflow_fate.state import fleetfile
from airflow_fate.state.ledger import transaction
from airflow_fate.state.source import FleetView
from airflow_fate.state.tables import metadata
from tests.integration.test_troubleshooting import WALKED as WALKED_ON_AIRFLOW
from tests.troubleshooting import rows
from tests.unit.executor.builders import SECRET, report, view
from tests.unit.simulator.builders import fleet_document

ROWS = rows()
MODEL = {"weights_gb": 1, "load_gb_per_s": {"disk": 1, "host": 1}, "prefill_tps": {"cpu": 1}, "decode_tps": {"cpu": 1}}
DEVICE = {"node": "n", "gpu": "cpu", "engine": "simulated", "memory_gb": 1, "kv_tokens": 8}
DAG = """
from airflow.sdk import DAG, task
from airflow_fate.operators import LLMOperator
with DAG("d", schedule=None):
    a = LLMOperator(task_id="a", model="m", prompt="x")
    plain = task(lambda: 1, task_id="plain")()
    THIS
"""


@dataclass(frozen=True)
class Place:
    """Where a mistake is made."""

    folder: Path
    patch: pytest.MonkeyPatch

    def fate(self, *arguments: str) -> str:
        """What a command prints; it fails."""
        self.patch.chdir(self.folder)
        done = CliRunner().invoke(app, list(arguments))
        assert done.exit_code != 0
        assert done.exception is None or isinstance(done.exception, SystemExit)
        return done.output

    def up(self, device: Mapping[str, Any], model: Mapping[str, Any] = MODEL, folder: str = "fleet") -> str:
        """What ``fate fleet up`` says to a fleet with such a device."""
        fleet = {"models": {"m": dict(model)}, "nodes": {"n": {}}, "devices": {"d0": {**DEVICE, **device}}}
        (self.folder / "fleet.yaml").write_text(yaml.safe_dump(fleet))
        return self.fate("fleet", "up", "--dir", folder)

    def without(self, *modules: str) -> None:
        """They aren't installed."""
        find_spec = importlib.util.find_spec
        self.patch.setattr(extras, "find_spec", lambda name: None if name in modules else (find_spec(name) or object()))

    def without_model(self) -> None:
        self.patch.setattr(importlib.util, "find_spec", lambda name: None)


Walk = Callable[[Place], str]


def dag(line: str) -> Walk:
    """The import error of a DAG with such a line."""

    def walk(place: Place) -> str:
        file = place.folder / "d.py"
        file.write_text(DAG.replace("THIS", line))
        with pytest.raises(DagError) as refused:
            read_dag_file(file)
        return str(refused.value)

    return walk


def setting(**given: str) -> Walk:
    """What is said of such settings."""

    def walk(place: Place) -> str:
        values = {key: str(option["default"]) for key, option in OPTIONS.items()} | given
        with pytest.raises(SettingsError) as refused:
            read_settings(values.__getitem__, 600.0)
        return str(refused.value)

    return walk


def finding(check: Callable[[], Finding]) -> Walk:
    def walk(place: Place) -> str:
        seen_finding = check()
        assert seen_finding.grade in ("warning", "failure")
        assert seen_finding.remedy
        return f"{seen_finding.seen} {seen_finding.remedy}"

    return walk


def up(model: Mapping[str, Any] = MODEL, **device: Any) -> Walk:
    return lambda place: place.up(device, model)


def command(*arguments: str) -> Walk:
    return lambda place: place.fate(*arguments)


def demo_without(*modules: str) -> Walk:
    def walk(place: Place) -> str:
        place.without(*modules)
        return place.fate("demo")

    return walk


def demo_without_model(place: Place) -> str:
    place.without()
    place.without_model()
    return place.fate("demo")


def up_without(module: str, **device: Any) -> Walk:
    def walk(place: Place) -> str:
        place.without(module)
        return place.up(device)

    return walk


def up_without_model(place: Place) -> str:
    place.without_model()
    return place.up({"engine": "llamacpp"}, {**MODEL, "file": "smollm2-135m"})


def without_celery(place: Place) -> str:
    def missing(path: str) -> Any:
        raise ImportError("No module named 'airflow.providers.celery'")

    place.patch.setattr("airflow_fate.executor.inner.import_string", missing)
    return finding(lambda: check_inner_executor("CeleryExecutor"))(place)


def another_airflow(place: Place) -> str:
    place.patch.setattr(versions, "version", lambda name: "2.11.0")
    return finding(versions.check_versions)(place)


def with_airflow(text: str, **variables: str) -> Walk:
    """What ``fate`` says beside an Airflow that is set so; in a process of its own, for Airflow is read once."""

    def walk(place: Place) -> str:
        (place.folder / "airflow.cfg").write_text(text)
        environment = os.environ | {"AIRFLOW_HOME": str(place.folder)} | variables
        asked = [sys.executable, "-m", "airflow_fate.cli.main", "doctor"]
        done = subprocess.run(asked, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Traceback" not in done.stderr
        return done.stderr

    return walk


def without_tables() -> Finding:
    return check_database(partial(transaction, create_engine("sqlite://")))[0]


def models_of(**device: Any) -> Walk:
    """What is found of the only model, where devices are so."""
    seen = view(report("d0", serves=["m"]), report("d1", serves=["m"]))
    fleet = replace(
        seen.fleet,
        devices={name: replace(old_device, **device) for name, old_device in seen.fleet.devices.items()},
        models={name: replace(model, weights_bytes=40e9) for name, model in seen.fleet.models.items()},
    )
    return finding(lambda: check_fleet(replace(seen, fleet=fleet), 10.0, "")[-1])


def no_device() -> Finding:
    return check_fleet(FleetView(view().fleet.__class__({}, {}, {})), 10.0, "fate fleet up")[0]


def another_key(place: Place) -> str:
    transport = httpx.MockTransport(lambda request: httpx.Response(401))
    usual = partial(httpx.AsyncClient, transport=transport)
    place.patch.setattr(httpx, "AsyncClient", lambda **options: usual())
    seen_finding = asyncio.run(gateways.check_gateways({"d0": "http://gateway"}, SECRET))[0]
    return finding(lambda: seen_finding)(place)


def broken_yaml(place: Place) -> str:
    (place.folder / "fleet.yaml").write_text("models: [")
    return place.fate("fleet", "up")


def benchmarks_fleet(place: Place) -> str:
    (place.folder / "fleet.yaml").write_text(json.dumps(fleet_document()))
    return place.fate("fleet", "up")


def taken_port(place: Place) -> str:
    with socket.create_server(("127.0.0.1", 0)) as other:
        return place.up({"port": other.getsockname()[1]})


def impossible_folder(place: Place) -> str:
    (place.folder / "file").touch()
    return place.up({}, folder="file/fleet")


def two_at_once(place: Place) -> str:
    with supervisor_lock(place.folder / "fleet"):
        return place.up({})


def killed_gateway(place: Place) -> str:
    """What ``fate fleet up`` says while it goes on."""
    folder = place.folder / "fleet"
    make_folder(folder)
    fleet = {"models": {"m": MODEL}, "nodes": {"n": {}}, "devices": {"d0": DEVICE | {"threads": 1}}}
    write_fleet(folder, fleetfile.parse_fleet_file(yaml.safe_dump(fleet)).model_dump_json())

    async def walk() -> str:
        said: asyncio.Queue[str] = asyncio.Queue()
        supervisor = Supervisor(folder, ["d0"], said.put_nowait)
        running = asyncio.create_task(supervisor.run())
        try:
            while "d0" not in supervisor.pids:
                await asyncio.sleep(0)
            os.kill(supervisor.pids["d0"], signal.SIGKILL)
            return await said.get()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    return asyncio.run(walk())


def engine(answer: httpx.Response | Exception) -> Walk:
    """What is said of an engine that answers so; its gateway can't start either, lest something is left running."""

    def walk(place: Place) -> str:
        def serve(request: httpx.Request) -> httpx.Response:
            if isinstance(answer, Exception):
                raise answer
            return answer

        client = httpx.Client
        transport = httpx.MockTransport(serve)
        place.patch.setattr(httpx, "Client", lambda **options: client(transport=transport))
        with supervisor_lock(place.folder / "fleet"):
            return place.up({"engine": "openai", "url": "http://127.0.0.1:9/v1"})

    return walk


def another_executor(place: Place) -> str:
    place.patch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor")
    return hook._advice()


def run_of_long_ago(place: Place) -> str:
    engine = create_engine(f"sqlite:///{place.folder / 'ledger.db'}")
    metadata.create_all(engine)
    place.patch.setattr(database, "connect", partial(transaction, engine))
    return place.fate("explain", "dag", "run")


WALKED: dict[str, Walk] = {
    "asked for a run of long ago, of no LLM tasks, or by a wrong name": run_of_long_ago,
    "`fate demo` without the extra `local`": demo_without("xllamacpp"),
    "`fate demo` without the extra `bench`": demo_without("matplotlib"),
    "`fate demo` without the model's wheel": demo_without_model,
    "`fate fleet up` with `engine: llamacpp`, without the extra `local`": up_without("xllamacpp", engine="llamacpp"),
    "`fate fleet up` with `file: smollm2-135m`, without the model's wheel": up_without_model,
    "`fate fleet up` with `events_url`, without the extra `vllm`": up_without(
        "zmq", engine="vllm", url="http://127.0.0.1:9", events_url="tcp://127.0.0.1:9"
    ),
    "`inner_executor = CeleryExecutor` without its provider": without_celery,
    "another Airflow than 3.3": another_airflow,
    "a second section `[fate]` at the end of `airflow.cfg`": with_airflow("[fate]\n[core]\n[fate]\n"),
    "a word where Airflow wants a number": with_airflow("", AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT="long"),
    "`search_ms = soon`": setting(search_ms="soon"),
    "`max_frontier = 0`": setting(max_frontier="0"),
    "`objective = fast`": setting(objective="fast"),
    "`policy = best`": setting(policy="best"),
    "`state_source = k8s`": setting(state_source="k8s"),
    "`state_source = kubernetes` without `models_file`": setting(state_source="kubernetes"),
    "`gateway_port = 99999`": setting(gateway_port="99999"),
    "`tenants = finance`": setting(tenants="finance"),
    "`price_per_gpu_hour = cheap`": setting(price_per_gpu_hour="cheap"),
    "`budgets = 600`": setting(budgets="600"),
    "a budget in `money` without a price": setting(
        budgets='[{"dag": "*", "per": "run", "money": 1, "action": "warn"}]'
    ),
    "`inner_executor = FateExecutor`": setting(inner_executor="FateExecutor"),
    "`inner_executor = SpeedyExecutor`": finding(lambda: check_inner_executor("SpeedyExecutor")),
    "left `[core] executor` as it was": finding(lambda: check_executor("LocalExecutor")),
    "misspelled a key of `[fate]`": finding(lambda: check_keys(["fleet_dri"], OPTIONS)),
    "made no connection": finding(lambda: check_connection(list, lambda name: Known())),
    "made the connection of another type": finding(lambda: check_connection(list, lambda name: Known("openai"))),
    "never ran `airflow db migrate`, or before FATE was installed": finding(without_tables),
    "has the fleet in another folder than `[fate] fleet_dir`": finding(no_device),
    "devices smaller than every model": models_of(memory_bytes=16e9),
    "a `gpu` by a name under which no model has speeds": models_of(memory_bytes=80e9, gpu="NVIDIA-X"),
    "the scheduler's key is not the gateways'": another_key,
    "no fleet file there": command("fleet", "up", "--file", "none.yaml"),
    "broken YAML": broken_yaml,
    "a misspelled key": up(memory=1),
    "a negative size": up(memory_gb=-1),
    "a node that isn't listed": up(node="elsewhere"),
    "a model's file that isn't there": up({**MODEL, "file": "no.gguf"}),
    "an engine that there is not": up(engine="tgi"),
    "`engine: openai` without `url`": up(engine="openai"),
    "`url: localhost:8000`, without `http://`": up(engine="openai", url="localhost:8000"),
    "`url` for an engine that the gateway starts": up(url="http://127.0.0.1:9"),
    "a key's variable that isn't set": up(engine="openai", url="http://127.0.0.1:9", key_env="NO_SUCH_KEY"),
    "the benchmark's `F.json`": benchmarks_fleet,
    "a port that somebody else listens on": taken_port,
    "a folder that can't be made": impossible_folder,
    "`up`, where a fleet runs": two_at_once,
    "`status`, where none was ever": command("fleet", "status", "--dir", "."),
    "killed a gateway, or the machine did for want of memory": killed_gateway,
    "the engine at `url` isn't started": engine(httpx.ConnectError("Connection refused")),
    "a model by another name than the engine's": engine(httpx.Response(200, json={"data": [{"id": "llama3.2:1b"}]})),
    "a template as the model": dag('LLMOperator(task_id="t", model="{{ params.m }}", prompt="x")'),
    "neither `prompt` nor `prompts`, or both": dag('LLMOperator(task_id="t", model="m")'),
    "an empty list of prompts": dag('LLMOperator(task_id="t", model="m", prompts=[])'),
    "`max_tokens=0`": dag('LLMOperator(task_id="t", model="m", prompt="x", max_tokens=0)'),
    '`max_tokens="many"`': dag('LLMOperator(task_id="t", model="m", prompt="x", max_tokens="many")'),
    '`priority="high"`': dag('LLMOperator(task_id="t", model="m", prompt="x", priority="high")'),
    "`priority=-1`": dag('LLMOperator(task_id="t", model="m", prompt="x", priority=-1)'),
    "`max_shards=0`": dag('LLMOperator(task_id="t", model="m", prompts=["x"], max_shards=0)'),
    "`continues` of a task that isn't upstream": dag('LLMOperator(task_id="t", model="m", prompt="x", continues="a")'),
    "`continues` of a plain `@task`": dag('LLMOperator(task_id="t", model="m", prompt="x", continues=plain)'),
    "`continues` of something that is no task": dag('LLMOperator(task_id="t", model="m", prompt="x", continues=7)'),
    "`expand(model=[...])`": dag('LLMOperator.partial(task_id="t", prompt="x").expand(model=["a", "b"])'),
    "a template as the connection's id": dag(
        'LLMOperator(task_id="t", model="m", prompt="x", llm_conn_id="{{ params.c }}")'
    ),
    "`prompts` with `require_approval`": dag(
        'LLMOperator(task_id="t", model="m", prompts=["x"], require_approval=True)'
    ),
    "another executor runs the tasks": another_executor,
    "a fleet file that isn't there": command("simulate", "d.py", "--fleet", "none.yaml"),
    "a DAG's file that isn't there": lambda place: simulate(place, "ghost.py"),
    "a policy that there is not": lambda place: simulate(place, "d.py", "--policy", "best"),
    "`--workload` without `--fleet`": command("bench", "run", "--workload", "W.json"),
}


def simulate(place: Place, *arguments: str) -> str:
    fleet = {"models": {"m": MODEL}, "nodes": {"n": {}}, "devices": {"d0": DEVICE}}
    (place.folder / "fleet.yaml").write_text(yaml.safe_dump(fleet))
    (place.folder / "d.py").write_text(DAG.replace("THIS", ""))
    return place.fate("simulate", *arguments, "--fleet", "fleet.yaml")


def test_every_row_is_walked_and_there_are_enough() -> None:
    assert set(ROWS) == WALKED.keys() | WALKED_ON_AIRFLOW
    assert len(ROWS) >= 40


@pytest.mark.parametrize("did", WALKED)
def test_the_sentence_is_the_one_that_stands_there(did: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FATE_FLEET_DIR", raising=False)
    monkeypatch.setenv("AIRFLOW__FATE__FLEET_DIR", str(tmp_path / "fleet"))
    said = WALKED[did](Place(tmp_path, monkeypatch))
    assert ROWS[did].is_told_by(said), said
