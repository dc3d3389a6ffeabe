from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_fate.gateway.engines.slots import SlotGrant, Slots


def test_a_salt_comes_back_to_its_slot_and_others_reuse_nothing_there() -> None:
    slots = Slots(2)
    assert slots.take("a") == SlotGrant(0, is_own=False)
    slots.give_back(0)
    assert slots.take("b") == SlotGrant(1, is_own=False)
    slots.give_back(1)
    assert slots.take("a") == SlotGrant(0, is_own=True)
    slots.give_back(0)
    assert slots.take("c") == SlotGrant(1, is_own=False, forgotten="b")


def test_what_lies_there_from_before_is_its_owners() -> None:
    slots = Slots(1, "a")
    assert slots.take("a") == SlotGrant(0, is_own=True)
    slots.give_back(0)
    assert slots.take("b") == SlotGrant(0, is_own=False, forgotten="a")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30))
def test_nobody_reuses_what_another_left(requests: list[tuple[str, bool]]) -> None:
    slots, lies_in, held = Slots(2), dict[int, str](), list[int]()
    for salt, ends in requests:
        grant = slots.take(salt)
        assert grant.is_own == (lies_in.get(grant.slot) == salt)
        lies_in[grant.slot] = salt
        assert grant.forgotten not in lies_in.values()
        held.append(grant.slot)
        if ends or len(held) == 2:
            slots.give_back(held.pop(0))
