"""Bindings: one signed token per place, that says no more than its device must know."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any

import jwt
import pytest

from airflow_fate.executor.heartbeat.handover import binding_for, read_facts, write_binding
from airflow_fate.messages import (
    BINDING_KEY,
    FLEET_AUDIENCE,
    SEAL_KEY,
    STATS_KEY,
    TOKEN_VALID_S,
    UNFENCED,
    Binding,
    Facts,
    TokenError,
    locked,
    new_seal_key,
    sealed,
    sign_facts,
    unlocked,
    unsealed,
    verify,
)
from tests.unit.executor.builders import SECRET, reservation

URLS = {"d0": "http://127.0.0.1/d0", "d1": "http://127.0.0.1/d1"}


def task_instance(**fields: Any) -> Any:
    values = {"dag_id": "dag", "run_id": "run", "task_id": "task", "map_index": -1, "context_carrier": None}
    return SimpleNamespace(**(values | fields))


def bind(*devices: str, place: str = "", **fields: object) -> Binding:
    return binding_for(reservation(*devices, place=place, **fields), URLS, SECRET, time.time(), 2.0, "it was busy")


def test_each_shard_has_a_token_for_its_own_device() -> None:
    binding = bind("d0", "d1", chain=(("aa", 5),), evict=(("d1", "old"),), conversation="cc")
    first, second = (verify(share.token, SECRET, (share.device,)) for share in binding.shares)
    assert (first.aud, second.aud) == ("d0", "d1")
    assert (first.evict, second.evict) == ((), ("old",))
    assert (first.fence, first.live, first.chain, first.conversation) == (7, (3, 7), (("aa", 5),), "cc")
    assert (first.jti, first.sub, first.model) == ("r1", "t1", "m")


def test_of_a_group_only_the_leader_is_told() -> None:
    assert [share.device for share in bind("d0", "d1", place="g").shares] == ["d0"]


def test_a_binding_survives_the_state_store() -> None:
    binding = bind("d0")
    assert Binding.parse(binding.model_dump(mode="json")) == binding


def test_a_device_without_an_address_is_no_binding() -> None:
    with pytest.raises(KeyError):
        bind("d9")


def test_a_shards_token_is_no_good_at_another_device() -> None:
    (share,) = bind("d0").shares
    with pytest.raises(TokenError):
        verify(share.token, SECRET, ("d1",))


def test_a_binding_gives_no_right_beyond_its_devices() -> None:
    binding = bind("d0")
    assert binding.reader == ""
    with pytest.raises(TokenError):
        verify(binding.shares[0].token, SECRET, (FLEET_AUDIENCE,))


def test_tokens_live_for_hours_not_days() -> None:
    claims = verify(bind("d0").shares[0].token, SECRET, ("d0",))
    assert claims.exp - time.time() == pytest.approx(TOKEN_VALID_S, abs=60)


def test_all_tries_of_a_task_are_one_task_and_others_are_not() -> None:
    def task(**fields: Any) -> str:
        return verify(bind("d0", **fields).shares[0].token, SECRET, ("d0",)).task

    assert task() == task(id="r2", ti_id="t2", try_number=2)
    assert len({task(), task(map_index=1), task(run_id="other"), task(task_id="other"), task(dag_id="other")}) == 5


def test_without_the_ledger_tokens_have_no_fence_and_the_task_is_warned() -> None:
    binding = binding_for(reservation("d0"), URLS, SECRET, time.time(), 0.0, "", fenced=False, warning="no ledger")
    claims = verify(binding.shares[0].token, SECRET, ("d0",))
    assert (claims.fence, claims.live, binding.warning) == (UNFENCED, (), "no ledger")


# The state store


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    values: dict[str, str] = {}

    def write(scope: Any, key: str, value: str, **_: Any) -> None:
        values[key] = value

    backend = SimpleNamespace(set=write, get=lambda scope, key, **_: values.get(key))
    monkeypatch.setattr("airflow.state.get_state_backend", lambda: backend)
    return values


def facts(reservation_id: str, **fields: Any) -> str:
    """As a gateway signs them, also ones that no gateway should."""
    values = {"reservation": reservation_id, "device": "d0", "model": "m", "requests": 1} | fields
    return jwt.encode({"aud": "facts", "facts": values}, SECRET, algorithm="HS256")


def test_a_written_binding_is_what_the_task_reads(store: dict[str, str]) -> None:
    binding, ti = bind("d0"), task_instance()
    write_binding(ti, binding)
    assert unsealed(json.loads(store[BINDING_KEY]), ti.context_carrier[SEAL_KEY]) == binding


def test_what_a_task_keeps_for_its_next_try_is_locked_with_its_own_key() -> None:
    def key(**fields: Any) -> str:
        return bind("d0", **fields).keep_key

    assert key() == key(id="r2", ti_id="t2", try_number=2)
    assert len({key(), key(map_index=1), key(run_id="other"), key(task_id="other")}) == 4
    assert unlocked(locked("kept", key()), key(try_number=2)) == "kept"
    with pytest.raises(TokenError):
        unlocked(locked("kept", key(map_index=1)), key())


def test_who_reads_the_store_learns_where_a_task_is_bound_and_no_secret(store: dict[str, str]) -> None:
    binding, ti = bind("d0"), task_instance()
    write_binding(ti, binding)
    kept = store[BINDING_KEY]
    assert json.loads(kept)["devices"] == ["d0"]
    for secret in (binding.shares[0].token, ti.context_carrier[SEAL_KEY], binding.shares[0].url):
        assert secret not in kept


def test_who_writes_the_store_can_send_no_task_elsewhere(store: dict[str, str]) -> None:
    binding, ti = bind("d0"), task_instance()
    write_binding(ti, binding)
    key = ti.context_carrier[SEAL_KEY]
    elsewhere = binding.model_copy(
        update={"shares": (binding.shares[0].model_copy(update={"url": "http://127.0.0.1:9"}),)}
    )
    forged = [
        elsewhere.model_dump(mode="json"),
        sealed(elsewhere, new_seal_key()),
        json.loads(store[BINDING_KEY]) | {"sealed": "x"},
        {"version": 2},
        None,
    ]
    for value in forged:
        with pytest.raises(TokenError):
            unsealed(value, key)


def test_the_binding_of_a_scheduler_of_the_release_before_is_read(store: dict[str, str]) -> None:
    binding = bind("d0")
    assert unsealed(binding.model_dump(mode="json"), "") == binding


def test_what_travels_with_the_workload_keeps_its_trace(store: dict[str, str]) -> None:
    ti = task_instance(context_carrier={"traceparent": "00-1"})
    write_binding(ti, bind("d0"))
    assert ti.context_carrier["traceparent"] == "00-1"


def test_facts_of_an_earlier_reservation_are_ignored(store: dict[str, str]) -> None:
    store[STATS_KEY] = json.dumps([facts("r0"), facts("r1")])
    assert [fact.reservation for fact in read_facts(reservation("d0"), SECRET)] == ["r1"]


def test_a_task_that_reported_nothing_has_no_facts(store: dict[str, str]) -> None:
    assert read_facts(reservation("d0"), SECRET) == ()


@pytest.mark.parametrize("stats", ["{not json", '[{"reservation": "r1"}]', '{"reservation": "r1"}', "{}", "0", '"r1"'])
def test_facts_that_cannot_be_read_are_none_with_a_warning(
    store: dict[str, str], stats: str, caplog: pytest.LogCaptureFixture
) -> None:
    store[STATS_KEY] = stats
    assert read_facts(reservation("d0"), SECRET) == ()
    assert "fate.stats is used as far as gateways have signed it" in caplog.text


@pytest.mark.parametrize("stats", ["", "[]", "null"])
def test_no_facts_at_all_are_nothing_to_warn_of(
    store: dict[str, str], stats: str, caplog: pytest.LogCaptureFixture
) -> None:
    store[STATS_KEY] = stats
    assert read_facts(reservation("d0"), SECRET) == ()
    assert caplog.text == ""


POISON = [
    {"completion_tokens": -100000},
    {"completion_tokens": 10**30},
    {"prefill_s": -1.0},
    {"decode_s": float("inf")},
    {"engine_s": float("nan")},
    {"prompt_tokens": 5, "cached_tokens": 6},
    {"model": "\ud800"},
    {"fault": "x" * 1000},
    {"requests": "many"},
]


@pytest.mark.parametrize("fields", POISON, ids=lambda fields: ",".join(fields))
def test_facts_out_of_bounds_are_not_used(
    store: dict[str, str], fields: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    store[STATS_KEY] = json.dumps([facts("r1", **fields)])
    assert read_facts(reservation("d0"), SECRET) == ()
    assert next(iter(fields)) in caplog.text or "cached_tokens" in caplog.text


def test_facts_nested_without_end_are_not_used(store: dict[str, str]) -> None:
    store[STATS_KEY] = "[" * 100_000 + "]" * 100_000
    assert read_facts(reservation("d0"), SECRET) == ()


def test_facts_of_a_device_that_the_reservation_never_had_are_not_used(store: dict[str, str]) -> None:
    store[STATS_KEY] = json.dumps([facts("r1", device="d1", fault="fate_engine_died"), facts("r1")])
    assert [fact.device for fact in read_facts(reservation("d0"), SECRET)] == ["d0"]


def test_facts_that_no_gateway_signed_are_not_used(store: dict[str, str]) -> None:
    plain = Facts(reservation="r1", device="d0", model="m", requests=1, fault="fate_engine_died")
    store[STATS_KEY] = json.dumps([plain.model_dump(), sign_facts(plain, "x" * 32)])
    assert read_facts(reservation("d0"), SECRET) == ()


def test_a_device_is_heard_once(store: dict[str, str]) -> None:
    store[STATS_KEY] = json.dumps([facts("r1")] * 1000)
    assert len(read_facts(reservation("d0"), SECRET)) == 1
