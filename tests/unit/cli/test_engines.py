"""What is wrong with an engine that runs already is told when the fleet starts."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import httpx
import pytest

from airflow_fate.cli import engines
from airflow_fate.state.fleetfile import parse_fleet_file

FLEET = """
models:
  m: {weights_gb: 1, load_gb_per_s: {disk: 1, host: 1}, prefill_tps: {cpu: 1}, decode_tps: {cpu: 1}}
nodes: {n: {}}
devices:
  own: {node: n, gpu: cpu, engine: openai, url: http://127.0.0.1:9/v1, memory_gb: 1, kv_tokens: 8KEY}
"""


@pytest.mark.parametrize(
    ("key", "answer", "says"),
    [
        ("", httpx.Response(200, json={"data": [{"id": "m"}]}), ""),
        (", key_file: FILE", httpx.Response(200, json={"data": [{"id": "m"}]}), ""),
        ("", httpx.ConnectError("Connection refused"), "doesn't answer (Connection refused): tasks wait until it does"),
        ("", httpx.Response(401), "wants a key: set key_file or key_env (it answers 401)"),
        (", key_file: FILE", httpx.Response(403), "wants another key than it was given (it answers 403)"),
        ("", httpx.Response(200, text="<html>"), "is no OpenAI server: /v1/models is answered with 200"),
        ("", httpx.Response(404), "is no OpenAI server: /v1/models is answered with 404"),
        (
            "",
            httpx.Response(200, json={"data": [{"id": "other"}]}),
            "has no model m; it has other: name those in `models`",
        ),
    ],
)
def test_troubles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, answer: httpx.Response | Exception, says: str
) -> None:
    (tmp_path / "key").write_text("sesame\n")
    shown: list[str] = []

    def serve(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == "http://127.0.0.1:9/v1/models"
        shown.append(request.headers.get("authorization", ""))
        if isinstance(answer, Exception):
            raise answer
        return answer

    usual = partial(httpx.Client, transport=httpx.MockTransport(serve))
    monkeypatch.setattr(httpx, "Client", lambda **options: usual())
    fleet = parse_fleet_file(FLEET.replace("KEY", key.replace("FILE", str(tmp_path / "key"))))
    assert list(engines.troubles(fleet)) == ([f"own: http://127.0.0.1:9 {says}"] if says else [])
    assert shown[0] == ("Bearer sesame" if key else "")
