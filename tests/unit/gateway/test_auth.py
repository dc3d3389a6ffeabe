"""Every route but liveness fails closed."""

from __future__ import annotations

import base64
import time

import pytest
from starlette.routing import Route

from airflow_fate.gateway.http.auth import Guard, NoSecret
from airflow_fate.messages import FLEET_AUDIENCE, artifact_token, verified_facts, verify
from tests.unit.gateway.helpers import DEVICE, SECRET, Bench, bearer, executor_token, token

KEY = "0123456789abcdef"


def _requests(bench: Bench) -> list[tuple[str, str]]:
    routes = [route for route in bench.app.routes if isinstance(route, Route) and route.path != "/health"]
    fill = {"{key}": "0" * 16, "{reservation}": "r1", "{model:path}": "small"}
    requests = []
    for route in routes:
        path = route.path
        for name, value in fill.items():
            path = path.replace(name, value)
        requests += [(method, path) for method in (route.methods or ()) if method != "HEAD"]
    return requests


async def test_without_a_good_token_nothing_is_served(bench: Bench) -> None:
    bad_tokens = [
        "",
        "nonsense",
        token(secret="x" * 32),
        token(exp=int(time.time()) - 60),
        token(aud="gpu-1"),
    ]
    requests = _requests(bench)
    assert len(requests) == 13
    for method, path in requests:
        assert (await bench.client.request(method, path)).status_code == 401, path
        for bad in bad_tokens:
            answer = await bench.client.request(method, path, headers=bearer(bad))
            assert answer.status_code == 401, (path, bad)
            assert answer.json()["error"]["type"] == "fate_unauthenticated"
    assert bench.engine.actions == []


async def test_liveness_says_nothing(bench: Bench) -> None:
    answer = await bench.client.get("/health")
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("secret", ["", "short", "x" * 31])
def test_no_start_without_a_key(secret: str) -> None:
    with pytest.raises(NoSecret, match="fleet/secret"):
        Guard(secret, "gpu-0", setting="fleet/secret")


async def test_only_the_executor_ends_reservations(bench: Bench) -> None:
    reader = token("reader", aud="fleet", sub="a task")
    assert (await bench.client.post("/fate/v1/reservations/r1/end", headers=bearer(reader))).status_code == 403
    assert (await bench.client.post("/fate/v1/reservations/r1/end", headers=bearer(token()))).status_code == 401
    assert (await bench.client.post("/fate/v1/drain", headers=bearer(executor_token()))).status_code == 200


async def test_a_reader_can_not_chat(bench: Bench) -> None:
    assert (await bench.chat(token(aud="fleet"))).status_code == 401


def test_the_key_of_the_tests_is_long_enough() -> None:
    assert Guard(SECRET, "gpu-0")


async def test_a_token_is_renewed_while_its_reservation_holds(bench: Bench) -> None:
    old = token(exp=int(time.time()) + 5)
    answer = await bench.client.post("/fate/v1/token", headers=bearer(old))
    new = verify(answer.json()["token"], SECRET, (DEVICE,))
    assert new.exp > time.time() + 3600
    assert new.model_copy(update={"exp": 0}) == verify(old, SECRET, (DEVICE,)).model_copy(update={"exp": 0})


async def test_a_token_of_an_ended_reservation_is_not_renewed(bench: Bench) -> None:
    bench.gateway.end("r1")
    assert (await bench.client.post("/fate/v1/token", headers=bearer(token()))).status_code == 409


async def test_facts_come_signed(bench: Bench) -> None:
    await bench.chat(token())
    answer = (await bench.client.get("/fate/v1/facts", headers=bearer(token()))).json()
    facts = verified_facts(answer["signed"], SECRET)
    assert (facts.reservation, facts.device, facts.requests) == ("r1", DEVICE, 1)


async def test_a_capability_opens_its_own_device_only(bench: Bench) -> None:
    read = artifact_token(SECRET, DEVICE, KEY, 60)
    elsewhere = artifact_token(SECRET, "gpu-1", KEY, 60)
    await bench.store(KEY, b"large", token())
    path = f"/fate/v1/artifacts/{KEY}"
    assert (await bench.client.get(path, headers=bearer(read))).status_code == 200
    assert (await bench.client.get(path, headers=bearer(elsewhere))).status_code == 401


async def test_a_token_of_one_output_for_the_whole_fleet_reads_it_and_nothing_else(bench: Bench) -> None:
    capability = artifact_token(SECRET, FLEET_AUDIENCE, KEY, 60)
    await bench.store(KEY, b"large", token())
    answers = [
        (await bench.client.request(*request, headers=bearer(capability))).status_code for request in _requests(bench)
    ]
    assert set(answers) == {401, 403}
    assert (await bench.client.get(f"/fate/v1/artifacts/{KEY}", headers=bearer(capability))).content == b"large"


@pytest.mark.parametrize(
    "header", ["[" * 20_000, '{"alg": "HS256", "a":' * 900, '{"alg": []}', '{"alg": "none"}', '{"kid": {}}', "\xff"]
)
async def test_a_token_that_can_not_be_read_is_no_token(bench: Bench, header: str) -> None:
    parts = [base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in (header, "{}", "x")]
    assert (await bench.chat(".".join(parts))).status_code == 401
