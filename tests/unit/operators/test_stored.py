"""Large outputs stay on their node and read as text; what can't be stored goes into XCom whole."""

from __future__ import annotations

import time
from typing import Any

import httpx
import jinja2
import pytest

from airflow_fate.messages import FLEET_AUDIENCE, Binding, Claims, Share, reader_token, sign, verify
from airflow_fate.operators import runtime
from airflow_fate.operators.stored import StoredText, keep_small, load_text

SECRET = "s" * 32
TOKEN = sign(Claims(aud="gpu-0", sub="t", jti="r", exp=int(time.time()) + 60), SECRET)


class Node:
    """A gateway's artifact routes, in memory."""

    def __init__(self, status: int = 201) -> None:
        self.status = status
        self.kept: dict[str, bytes] = {}
        self.tokens: list[str] = []

    def put(self, url: str, content: bytes, params: dict[str, str], **_: Any) -> httpx.Response:
        request = httpx.Request("PUT", url, params=params)
        if self.status == 201:
            self.kept[url] = content
        error = {"error": {"message": "the disk is full: make room", "type": "fate_no_room"}}
        return httpx.Response(
            self.status, request=request, json=error if self.status == 507 else {"read": "a capability"}
        )

    def get(self, url: str, headers: dict[str, str], **_: Any) -> httpx.Response:
        self.tokens.append(headers["Authorization"].removeprefix("Bearer "))
        return httpx.Response(200, request=httpx.Request("GET", url), content=self.kept[url])


@pytest.fixture
def binding(monkeypatch: pytest.MonkeyPatch) -> Binding:
    share = Share(device="gpu-0", node="n", url="http://127.0.0.1:1", token=TOKEN)
    binding = Binding(reservation="r", ti_id="t", try_number=1, shares=(share,), reader=reader_token(SECRET, "t"))
    monkeypatch.setattr(runtime, "_current", binding)
    return binding


def use(monkeypatch: pytest.MonkeyPatch, node: Node) -> Node:
    monkeypatch.setattr(httpx, "put", node.put)
    monkeypatch.setattr(httpx, "get", node.get)
    return node


def test_a_small_text_stays_as_it_is(binding: Binding) -> None:
    assert keep_small("short", "output", binding, 10) == "short"


def test_without_a_binding_nothing_is_stored() -> None:
    assert keep_small("x" * 99, "output", None, 10) == "x" * 99


def test_a_large_text_is_stored_and_reads_as_itself(monkeypatch: pytest.MonkeyPatch, binding: Binding) -> None:
    use(monkeypatch, Node())
    reference = keep_small("long " * 20, "output", binding, 10)
    assert isinstance(reference, StoredText)
    assert (reference.node, reference.size_bytes) == ("n", 100)
    assert jinja2.Template("{{ text }}!").render(text=reference) == "long " * 20 + "!"
    assert load_text(reference.model_dump()) == "long " * 20


def test_whoever_has_the_reference_reads_with_its_own_token(monkeypatch: pytest.MonkeyPatch, binding: Binding) -> None:
    node = use(monkeypatch, Node())
    reference = keep_small("long " * 20, "output", binding, 10)
    monkeypatch.setattr(runtime, "_current", None)
    assert str(reference) == "long " * 20
    assert node.tokens == ["a capability"]


def test_a_reference_of_the_release_before_is_read_with_the_connections_key(monkeypatch: pytest.MonkeyPatch) -> None:
    node = use(monkeypatch, Node())
    node.kept["http://127.0.0.1:1/fate/v1/artifacts/ab"] = b"text"
    monkeypatch.setattr(runtime, "_current", None)
    monkeypatch.setenv("AIRFLOW_CONN_FLEET", f'{{"conn_type": "fate", "password": "{SECRET}"}}')
    assert str(StoredText(url="http://127.0.0.1:1", key="ab", node="n", size_bytes=1, conn_id="fleet")) == "text"
    shown = verify(node.tokens[0], SECRET, (FLEET_AUDIENCE,))
    assert (shown.sub, shown.jti) == ("artifact", "ab"), "it opens this text and nothing else"
    assert shown.exp < time.time() + 120


def test_no_token_of_the_binding_is_shown_where_a_reference_points(
    monkeypatch: pytest.MonkeyPatch, binding: Binding
) -> None:
    node = use(monkeypatch, Node())
    url = "http://elsewhere.example"
    node.kept[f"{url}/fate/v1/artifacts/ab"] = b"text"
    monkeypatch.setenv("AIRFLOW_CONN_FLEET", f'{{"conn_type": "fate", "password": "{SECRET}"}}')
    str(StoredText(url=url, key="ab", node="n", size_bytes=1, conn_id="fleet"))
    assert not {binding.reader, binding.shares[0].token} & set(node.tokens)


def test_a_reader_without_a_binding_and_a_key_is_told_where_the_key_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_FLEET", '{"conn_type": "fate"}')
    with pytest.raises(ValueError, match=r"password of connection 'fleet' to the fleet's key"):
        str(StoredText(url="http://127.0.0.1:1", key="ab", node="n", size_bytes=1, conn_id="fleet"))


def test_artifacts_of_one_task_have_keys_of_their_own(monkeypatch: pytest.MonkeyPatch, binding: Binding) -> None:
    node = use(monkeypatch, Node())
    for name in ("output", "conversation"):
        keep_small("long " * 20, name, binding, 10)
    assert len(node.kept) == 2


def test_on_a_full_disk_the_text_goes_on_whole(
    monkeypatch: pytest.MonkeyPatch, binding: Binding, caplog: pytest.LogCaptureFixture
) -> None:
    use(monkeypatch, Node(status=507))
    assert keep_small("x" * 99, "output", binding, 10) == "x" * 99
    assert "go into XCom whole: the disk is full: make room" in caplog.text


def test_a_dead_gateway_loses_nothing(monkeypatch: pytest.MonkeyPatch, binding: Binding) -> None:
    def refused(*_: object, **__: object) -> httpx.Response:
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(httpx, "put", refused)
    assert keep_small("x" * 99, "output", binding, 10) == "x" * 99
