"""Bindings: one signed token per place, that says no more than its device must know."""

from __future__ import annotations

import time

from airflow_fate.executor.handover import binding_for
from airflow_fate.messages import Binding, verify
from tests.unit.executor.builders import SECRET, reservation

URLS = {"d0": "http://127.0.0.1/d0", "d1": "http://127.0.0.1/d1"}


def bind(*devices: str, place: str = "", **fields: object) -> Binding:
    return binding_for(reservation(*devices, place=place, **fields), URLS, SECRET, time.time(), 2.0, "it was busy")


def test_each_shard_has_a_token_for_its_own_device() -> None:
    made = bind("d0", "d1", chain=(("aa", 5),), evict=(("d1", "old"),), conversation="cc")
    first, second = (verify(share.token, SECRET, (share.device,)) for share in made.shares)
    assert (first.aud, second.aud) == ("d0", "d1")
    assert (first.evict, second.evict) == ((), ("old",))
    assert (first.fence, first.live, first.chain, first.conversation) == (7, (3, 7), (("aa", 5),), "cc")
    assert (first.jti, first.sub, first.model) == ("r1", "t1", "m")


def test_of_a_group_only_the_leader_is_told() -> None:
    assert [share.device for share in bind("d0", "d1", place="g").shares] == ["d0"]


def test_a_binding_survives_the_state_store() -> None:
    made = bind("d0")
    assert Binding.parse(made.model_dump(mode="json")) == made
