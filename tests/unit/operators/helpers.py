"""An engine behind its gateway on a loopback port, and the context in which Airflow runs a task."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace
from typing import Any

from airflow.sdk import DAG
from airflow.sdk.execution_time.context import set_current_context

from airflow_fate.messages import BINDING_KEY, SEAL_KEY, Binding, Facts, Share, new_seal_key, sealed, sign_facts

SECRET = "s" * 32
TRY = "11111111-1111-1111-1111-111111111111"
LIMIT_S = 10.0
SEAL = new_seal_key()
KEEP = new_seal_key()


@dataclass
class Gateway:
    """What one gateway was asked.

    :ivar failing: answers nothing but 500 to these kinds of request: ``chat``, ``facts``.
    :ivar refused: prompts that are answered with 400.
    :ivar unlucky: prompts at which the engine fails.
    :ivar answer: what every prompt is answered; ``<device> heard <prompt>`` if nothing is said.
    :ivar new_token: what a token is renewed to.
    :ivar asked: bodies of the requests for an answer, in order of arrival.
    """

    device: str
    url: str = ""
    failing: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    unlucky: set[str] = field(default_factory=set)
    answer: str = ""
    new_token: str = ""
    renewals: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    artifacts: dict[str, bytes] = field(default_factory=dict)

    @property
    def prompts(self) -> list[str]:
        return [body["messages"][-1]["content"] for body in self.asked]

    def share(self, prompts: int = 1) -> Share:
        return Share(device=self.device, node="n", url=self.url, token=f"token-{self.device}", prompts=prompts)


@contextmanager
def serving(device: str = "gpu-0") -> Iterator[Gateway]:
    """A gateway whose engine answers each prompt with ``<device> heard <prompt>``."""
    gateway = Gateway(device)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            if self.path == "/fate/v1/token":
                gateway.renewals += 1
                self._send("token", json.dumps({"token": gateway.new_token}).encode())
                return
            body = json.loads(self._body())
            gateway.asked.append(body)
            gateway.tokens.append(self.headers["Authorization"])
            prompt = body["messages"][-1]["content"]
            text = gateway.answer or f"{device} heard {prompt}"
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            usage = {"prompt_tokens": 8, "completion_tokens": 4, "total_tokens": 12}
            head = {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"]}
            if prompt in gateway.unlucky:
                self._send("chat", b'{"error": {"message": "died", "type": "fate_engine_died"}}', 502)
            elif prompt in gateway.refused:
                self._send("chat", b'{"error": {"message": "no", "type": "invalid_request_error"}}', 400)
            else:
                self._send("chat", json.dumps(head | {"choices": [choice], "usage": usage}).encode())

        def do_GET(self) -> None:
            if self.path == "/fate/v1/facts":
                facts = Facts(reservation="r", device=device, model="m", requests=len(gateway.asked))
                answer = facts.model_dump() | {"signed": sign_facts(facts, SECRET)}
                self._send("facts", json.dumps(answer).encode())
            else:
                self._send("artifact", gateway.artifacts[self.path.rpartition("/")[2]])

        def do_PUT(self) -> None:
            gateway.artifacts[self.path.rpartition("/")[2].partition("?")[0]] = self._body()
            self._send("artifact", b'{"read": "capability"}')

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers["Content-Length"]))

        def _send(self, kind: str, data: bytes, status: int = 200) -> None:
            self.send_response(500 if kind in gateway.failing else status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    gateway.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield gateway
    finally:
        server.shutdown()
        server.server_close()
        thread.join(LIMIT_S)


def bound(*shares: Share, **fields: Any) -> Binding:
    """The binding of the try ``TRY``."""
    values: dict[str, Any] = {
        "reservation": "r",
        "ti_id": TRY,
        "try_number": 1,
        "model": "m",
        "shares": shares,
        "keep_key": KEEP,
    }
    return Binding(**(values | fields))


class Xcoms(dict[tuple[str, str, int], Any]):
    """(task id, key, map index) -> value."""

    def of(self, task_id: str, key: str, map_index: int = -1) -> Any:
        return self.get((task_id, key, map_index))


def run(
    task: Any,
    binding: Binding | None = None,
    xcoms: Xcoms | None = None,
    map_index: int = -1,
    store: dict[str, Any] | None = None,
) -> tuple[Any, Mapping[str, Any]]:
    """Render and execute a task as Airflow's task runner does; returns its result, and its task state store.

    :param store: of earlier tries.
    """
    values = Xcoms() if xcoms is None else xcoms

    def push(key: str, value: Any, **_: Any) -> None:
        values[task.task_id, key, map_index] = value

    def pull(task_ids: str, key: str = "return_value", map_indexes: int = -1, **_: Any) -> Any:
        return values.of(task_ids, key, map_indexes)

    ti = SimpleNamespace(
        id=TRY,
        task_id=task.task_id,
        map_index=map_index,
        xcom_push=push,
        xcom_pull=pull,
        task=task,
        context_carrier={SEAL_KEY: SEAL},
    )
    store = {} if store is None else store
    if binding is not None:
        store[BINDING_KEY] = sealed(binding, SEAL)
    state_store = SimpleNamespace(get=store.get, set=store.__setitem__)
    context: Any = {
        "ti": ti,
        "task_instance": ti,
        "task_state_store": state_store,
        "dag": task.dag if task.has_dag() else DAG("alone"),
        "params": {},
    }
    with set_current_context(context):
        task.render_template_fields(context)
        result = task.execute(context)
    values[task.task_id, "return_value", map_index] = result
    return result, store
