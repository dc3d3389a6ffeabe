"""A device's time is shared among those who hold it: all of it, and nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_fate.costs import Hold, Interval, fleet_time, shares
from tests.unit.costs.builders import hold

UNTIL = 40
# Whole seconds, so that many begin and end at the same time.
times = st.integers(-5, UNTIL + 5)
spans = st.tuples(times, times).map(lambda pair: (min(pair), max(pair)))


@st.composite
def lists_of_holds(draw: st.DrawFn) -> list[Hold]:
    holds = []
    for number in range(draw(st.integers(0, 12))):
        start, end = draw(spans)
        load = draw(st.none() | spans)
        device, sequences = draw(st.sampled_from(["d0", "d1", "d2"])), draw(st.integers(1, 8))
        goes_on = draw(st.booleans())
        holds.append(hold(f"r{number}", start, inf if goes_on else end, load, device=device, sequences=sequences))
    return holds


def by_name(holds: Sequence[Hold], since: float = 0, until: float = UNTIL) -> dict[str, tuple[float, float]]:
    return {share.hold.owner.reservation: (share.gpu_s, share.load_s) for share in shares(holds, since, until)}


def second_by_second(holds: Sequence[Hold]) -> dict[str, float]:
    """The rule as it is said, without any cleverness."""
    paid_s: dict[str, float] = defaultdict(float)
    for second in range(UNTIL):
        for device in ("d0", "d1", "d2"):
            there = [each for each in holds if each.device == device and _covers(each.span, second)]
            loaders = [each for each in there if each.load and _covers(each.load, second)]
            payers = loaders or there
            for each in payers:
                paid_s[each.owner.reservation] += each.sequences / sum(payer.sequences for payer in payers)
    return paid_s


def _covers(span: Interval, second: int) -> bool:
    return span.start_at <= second and second + 1 <= span.end_at


@given(lists_of_holds())
def test_each_second_is_shared_by_the_rule(holds: list[Hold]) -> None:
    expected = second_by_second(holds)
    assert {name: gpu_s for name, (gpu_s, _) in by_name(holds).items()} == pytest.approx(
        {each.owner.reservation: expected[each.owner.reservation] for each in holds}
    )


@given(lists_of_holds())
def test_shares_add_up_to_the_time_in_which_anybody_holds_a_device(holds: list[Hold]) -> None:
    found = shares(holds, 0, UNTIL)
    assert sum(share.gpu_s for share in found) == pytest.approx(fleet_time(holds, (), 0, UNTIL).busy_s)
    assert all(0 <= share.load_s <= share.gpu_s + 1e-9 for share in found)


@given(st.data())
def test_the_order_of_rows_changes_nothing(data: st.DataObject) -> None:
    holds = data.draw(lists_of_holds())
    other = data.draw(st.permutations(holds))
    mine, others = by_name(holds), by_name(other)
    assert mine.keys() == others.keys()
    assert all(mine[name] == pytest.approx(others[name]) for name in mine)


@given(lists_of_holds(), st.integers(0, UNTIL))
def test_what_adjacent_ranges_cost_is_what_the_whole_range_costs(holds: list[Hold], middle: int) -> None:
    whole, before, after = by_name(holds), by_name(holds, 0, middle), by_name(holds, middle, UNTIL)
    for name, cost in whole.items():
        assert cost == pytest.approx(tuple(map(sum, zip(before[name], after[name], strict=True))))


def test_they_share_by_the_sequences_that_they_hold() -> None:
    assert by_name([hold("batch", 0, 10, sequences=3), hold("one", 5, 15)]) == {
        "batch": (5 + 5 * 3 / 4, 0),
        "one": (5 / 4 + 5, 0),
    }


def test_a_load_is_its_causers_alone_also_while_others_hold_the_device() -> None:
    assert by_name([hold("causer", 0, 10, (2, 8)), hold("waits for it", 0, 10)]) == {
        "causer": (2 + 6, 6),
        "waits for it": (2, 0),
    }


def test_a_group_costs_the_time_of_each_member() -> None:
    group = [hold("both", 0, 10, device=device) for device in ("d0", "d1")]
    assert sum(share.gpu_s for share in shares(group, 0, UNTIL)) == 20


def test_of_a_load_only_counts_what_lies_within_the_hold() -> None:
    assert by_name([hold("a", 5, 10, (0, 7))]) == {"a": (5, 2)}


def test_unix_times_cost_no_precision() -> None:
    now = 1_800_000_000.0
    assert by_name([hold("a", now, now + 0.125)], now - 1, now + 86_400)["a"][0] == 0.125
