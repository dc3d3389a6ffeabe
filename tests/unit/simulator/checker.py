"""Does an event log obey the benchmark's physics? Judged from outside: by the log, the workload and the fleet alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any

from airflow_fate.cluster import Fleet
from airflow_fate.simulator.workload import Workload
from airflow_fate.workflow import StageRef
from tests.unit.simulator.checked_log import SAME_S, Event, Log, same
from tests.unit.simulator.checked_places import (
    check_decodes,
    check_groups,
    check_inputs,
    check_prefills,
    check_weights,
)


def violations(workload: Workload, fleet: Fleet, events: list[Event]) -> list[str]:
    """What is wrong with the log, in words; empty where nothing is."""
    physics = (check_weights, check_inputs, check_prefills, check_groups, check_decodes)
    return _broken((*ORDER, *physics), Log(workload, fleet, events))


def disorder(workload: Workload, fleet: Fleet, events: list[Event]) -> list[str]:
    """What is wrong with a log of whatever engines: that which holds whatever time they take."""
    return _broken(ORDER, Log(workload, fleet, events))


def _broken(checks: Iterable[Callable[[Log], Iterator[str]]], log: Log) -> list[str]:
    # Later checks rely on what the first ones find in order.
    for check in checks:
        broken = list(check(log))
        if broken:
            return broken
    return []


def _whole(log: Log) -> Iterator[str]:
    """Everything happens, once, and in the order of time."""
    for before, after in pairwise(log.events):
        if after["t"] < before["t"]:
            yield f"out of order: {after}"
    for event in log.events:
        for name, value in event.items():
            if isinstance(value, float) and not 0 <= value < float("inf"):
                yield f"{name} is no number of seconds, tokens or bytes: {event}"
    want: Counter[tuple[Any, ...]] = Counter()
    want.update((kind, name) for kind in ("arrive", "done") for name in log.workflows)
    want.update((kind, *ref) for kind in ("ready", "finish") for ref in log.stages)
    want.update(("tool", *ref) for ref, stage in log.stages.items() if not stage.is_llm)
    bound = [(event["workflow"], event["stage"], event["shard"]) for event in log.by_kind["bind"]]
    want.update((kind, *shard) for kind in ("prefill", "decode") for shard in bound)
    counted = {key[0] for key in want}
    names = ("event", "workflow", "stage", "shard")
    got = Counter(tuple(e[name] for name in names if name in e) for e in log.events if e["event"] in counted)
    yield from (
        f"{key}: {got[key]} times, not {want[key]}" for key in want.keys() | got.keys() if want[key] != got[key]
    )


def _lives(log: Log) -> Iterator[str]:
    """Stages become ready when their parents have ended, and nothing of them begins before."""
    ready, finish = log.times("ready"), log.times("finish")
    for ref in log.stages:
        workflow = log.workflows[ref.workflow]
        parents = [finish[StageRef(workflow.id, parent)] for parent in workflow.parents(ref.stage)]
        if not same(ready[ref], max([workflow.arrival_s, *parents])):
            yield f"{ref} becomes ready at {ready[ref]}"
        for kind in ("tool", "bind"):
            for event in log.by_kind[kind]:
                if StageRef(event["workflow"], event["stage"]) == ref and event["t"] < ready[ref] - SAME_S:
                    yield f"starts before its parents end: {event}"
    for event in log.by_kind["tool"]:
        ref = StageRef(event["workflow"], event["stage"])
        if not same(event["seconds"], log.stages[ref].duration_s):
            yield f"a tool that takes another time: {event}"
        if not same(event["t"] + event["seconds"], finish[ref]):
            yield f"{ref} finishes at {finish[ref]}"
    for event in log.by_kind["arrive"]:
        if not same(event["t"], log.workflows[event["workflow"]].arrival_s):
            yield f"arrives at another time: {event}"
    for event in log.by_kind["done"]:
        if not same(event["t"], max(t for each, t in finish.items() if each.workflow == event["workflow"])):
            yield f"done at another time than its last stage: {event}"


def _shards(log: Log) -> Iterator[str]:
    """All prompts of a stage are served, each once, where its model can be."""
    finish = log.times("finish")
    for ref, stage in log.stages.items():
        spans = log.spans_of(ref)
        if not stage.is_llm:
            if spans:
                yield f"a tool on the fleet: {ref}"
            continue
        places = [span.place for span in spans]
        if sum(span.bind["prompts"] for span in spans) != stage.prompts or any(s.bind["prompts"] < 1 for s in spans):
            yield f"not all prompts are bound, or some twice: {ref}"
        if len(set(places)) < len(places) or len(places) > stage.max_shards:
            yield f"too many shards, or two on one place: {ref} on {places}"
        if not all(log.fleet.can_hold(place, stage.model) for place in places):
            yield f"a place that can't hold its model: {ref} on {places}"
        if spans and not same(max(span.end_s for span in spans), finish[ref]):
            yield f"{ref} finishes at {finish[ref]}"
        for span in spans:
            if len({(e["device"], e["model"]) for e in (span.bind, span.prefill, span.decode)}) > 1:
                yield f"changes its place or model: {ref}"
            if span.bind["model"] != stage.model:
                yield f"runs another model: {ref}"
            if span.prefill["t"] < span.bind["t"] - SAME_S or span.decode["t"] < span.prefilled_s - SAME_S:
                yield f"not one after the other: {ref}"


ORDER = (_whole, _lives, _shards)
