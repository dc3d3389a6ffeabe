"""The placements of a run, and those that its end waited for."""

from __future__ import annotations

from airflow_fate.costs import Amount
from airflow_fate.executor.runs.convert import TaskShape
from airflow_fate.plugin.receipt import receipts
from airflow_fate.plugin.runs import Span, Timeline, critical_path, run_placements
from tests.unit.plugin.builders import ended, reservation


def timeline(*spans: tuple[str, int, float, float], group: str = "", **upstream: tuple[str, ...]) -> Timeline:
    shapes = {name: TaskShape(name, None, before, group) for name, before in upstream.items()}
    return Timeline(tuple(Span(*span) for span in spans), shapes)


def ids(known: Timeline) -> list[tuple[str, int]]:
    return [(span.task_id, span.map_index) for span in critical_path(known)]


def test_the_path_goes_back_over_whoever_ended_last() -> None:
    known = timeline(
        ("first", -1, 0, 10),
        ("slow", -1, 10, 30),
        ("fast", -1, 10, 15),
        ("last", -1, 30, 35),
        first=(),
        slow=("first",),
        fast=("first",),
        last=("slow", "fast"),
    )
    assert ids(known) == [("first", -1), ("slow", -1), ("last", -1)]


def test_of_mapped_instances_the_latest_counts() -> None:
    known = timeline(("ask", 0, 0, 5), ("ask", 1, 0, 9), ("ask", 2, 0, 7), ("sum", -1, 9, 10), ask=(), sum=("ask",))
    assert ids(known) == [("ask", 1), ("sum", -1)]


def test_in_a_mapped_group_an_instance_waits_for_its_own_index() -> None:
    known = timeline(("a", 0, 0, 8), ("a", 1, 0, 3), ("b", 0, 8, 9), ("b", 1, 3, 20), group="g", a=(), b=("a",))
    assert ids(known) == [("a", 1), ("b", 1)]


def test_a_task_that_its_dag_has_no_more_is_an_end() -> None:
    assert ids(timeline(("gone", -1, 0, 1))) == [("gone", -1)]
    assert ids(timeline()) == []


def test_placements_are_marked_and_have_the_runs_span() -> None:
    placed = receipts([ended(id="a", task_id="a"), reservation(id="b", task_id="b", claimed_at=105.0)])
    costs = {"a": Amount(15.0, 2.0, 0.5), "b": Amount(5.0, 0.0, 0.25)}
    known = run_placements(placed, timeline(("a", -1, 100, 120), ("b", -1, 105, 110), a=(), b=()), costs)
    assert [(placement.receipt.task_id, placement.is_critical) for placement in known.placements] == [
        ("a", True),
        ("b", False),
    ]
    assert (known.start_at, known.end_at) == (100.0, 120.0)
    assert [placement.cost for placement in known.placements] == list(costs.values())
    assert known.cost == Amount(20.0, 2.0, 0.75)


def test_a_placement_that_was_given_back_at_once_ends_where_it_begins() -> None:
    known = run_placements(receipts([ended(ended_at=100.0, cost={}, facts=None)]), timeline(), {"r1": Amount()})
    assert (known.start_at, known.end_at) == (100.0, 100.0)


def test_a_run_without_placements_has_no_span() -> None:
    known = run_placements((), timeline(("plain", -1, 0, 1), plain=()), {})
    assert (known.start_at, known.end_at, known.placements) == (None, None, ())
