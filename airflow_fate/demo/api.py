"""What is asked of a running Airflow? Its public API: DAGs, runs, tasks and their logs. For the demo and for tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

START_TIMEOUT_S = 180.0
_LIMITS = httpx.Limits(max_keepalive_connections=0)
"""No connection is used again: the server may have closed it just then."""


class StackError(RuntimeError):
    """A part of Airflow did not start, or not do what it should; its log is named."""


@dataclass
class AirflowApi:
    """The API of one Airflow.

    :param user: of the simple auth manager; empty where everybody is its admin.
    :param check: raises when waiting makes no sense any more.
    """

    url: str
    user: str = ""
    password: str = ""
    check: Callable[[], None] = lambda: None
    _token: str = ""
    _client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60, trust_env=False, limits=_LIMITS))
    """One for all requests: each client reads the machine's certificates anew, which takes longer than a request."""

    def call(self, method: str, path: str, check: bool = True, **options: Any) -> httpx.Response:
        """Call a route below ``/api/v2``.

        :raises httpx.HTTPError: when it fails; unless ``check`` is off, also for what is refused.
        """
        if not self._token:
            self._token = self.log_in()
        headers = {"Authorization": f"Bearer {self._token}"}
        answer = self._client.request(method, f"{self.url}/api/v2{path}", headers=headers, **options)
        if check:
            answer.raise_for_status()
        return answer

    def wait_dag(self, dag_id: str) -> None:
        """Wait until a DAG is parsed; the API server may be away meanwhile, as in ``wait_run``.

        :raises StackError: with its import error, when it has one.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            self.check()
            with suppress(httpx.TransportError):
                if self.call("GET", f"/dags/{dag_id}", check=False).status_code == 200:
                    return
                for error in self.call("GET", "/importErrors").json()["import_errors"]:
                    raise StackError(f"{error['filename']}: {error['stack_trace']}")
            time.sleep(0.3)
        raise StackError(f"DAG {dag_id!r} was not parsed in {START_TIMEOUT_S:.0f} s")

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None, run_id: str | None = None) -> str:
        """Trigger a run; returns its id."""
        body = {"logical_date": None, "conf": dict(conf or {})} | ({"dag_run_id": run_id} if run_id else {})
        return str(self.call("POST", f"/dags/{dag_id}/dagRuns", json=body).json()["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        return str(self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}").json()["state"])

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        return list(self.call("GET", path, params={"limit": 500}).json()["task_instances"])

    def wait_run(self, dag_id: str, run_id: str, timeout_s: float = 300.0) -> str:
        """Wait until a run has ended; returns its state.

        :raises StackError: when the time runs out, with the states of its tasks.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self.check()
            with suppress(httpx.TransportError):
                state = self.run_state(dag_id, run_id)
                if state in ("success", "failed"):
                    return state
            time.sleep(0.3)
        states = [(ti["task_id"], ti["map_index"], ti["state"]) for ti in self.task_instances(dag_id, run_id)]
        raise StackError(f"run {run_id} of {dag_id} did not end in {timeout_s:.0f} s: {states}")

    def task_log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1) -> str:
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        return self.call("GET", path, params={"map_index": map_index, "full_content": True}).text

    def log_in(self) -> str:
        """A token that is good for a day."""
        url = f"{self.url}/auth/token"
        who = {"username": self.user, "password": self.password}
        answer = self._client.post(url, json=who) if self.user else self._client.get(url)
        answer.raise_for_status()
        return str(answer.json()["access_token"])
