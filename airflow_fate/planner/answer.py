"""What is the answer to the caller? What a pass decided, as a plan with its costs and its reasons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from math import inf
from typing import Any

from airflow_fate.cluster import Fleet
from airflow_fate.physics import costs as terms
from airflow_fate.physics.costs import CostParts
from airflow_fate.physics.kernel import events
from airflow_fate.physics.kernel.snapshot import Snapshot
from airflow_fate.physics.kernel.world import DEMAND, PREFETCH, READY, Records, World
from airflow_fate.planner.lists.free import first_free_s
from airflow_fate.planner.lists.rule import Rule
from airflow_fate.planner.lists.view import NEVER_S, View
from airflow_fate.planner.plan import Action, ActionKind, Assignment, Hold, Impossible, Plan, Share
from airflow_fate.planner.reasons import Rival, Told, why_assigned, why_held, why_left

Evictions = tuple[tuple[str, str], ...]


def answer(
    fleet: Fleet,
    taken: Snapshot,
    world: World,
    view: View,
    booked: Records,
    rule: Rule,
    queue: Sequence[int],
    now: float,
    impossible: tuple[Impossible, ...],
    solver: str,
) -> Plan:
    """:param booked: what was bound, in that order, and what takes turns.
    :param queue: the frontier as it was, most urgent first.
    """
    stages = world.stages[booked["stage"]]
    beside = {
        "model": stages["model"],
        "prompt_tokens": stages["prompt_tokens"],
        "transfer_s": terms.shown_s(booked["moving_s"], booked["load_s"]),
    }
    names = (*booked.dtype.names, *beside)
    columns = (column.tolist() for column in beside.values())
    rows = [dict(zip(names, (*row, *more), strict=True)) for row, *more in zip(booked.tolist(), *columns, strict=True)]
    bound = [row for row in rows if not row["held"]]
    evicted, actions = _told_by_log(taken, world)
    for row, evict in zip(bound, evicted, strict=True):
        row["evict"] = evict
    assignments = [_assignment(taken, list(shares), now) for _, shares in groupby(bound, key=lambda row: row["stage"])]
    ready = world.stages["status"] == READY
    turns = {row["stage"]: row for row in rows if row["held"]}
    holds = [_turn(taken, turns[stage], now) for stage in queue if stage in turns and ready[stage]]
    left = [(behind, stage) for behind, stage in enumerate(queue) if stage not in turns and ready[stage]]
    holds += _left(fleet, taken, world, view, rule, left, now)
    return Plan(tuple(assignments), tuple(holds), impossible, tuple(actions), solver)


def _told_by_log(taken: Snapshot, world: World) -> tuple[list[Evictions], list[Action]]:
    """What left before each binding, in their order; and what was done ahead of any."""
    evicted: list[Evictions] = []
    before: list[tuple[str, str]] = []
    actions: list[Action] = []
    for row in world.log[: world.tally[0].logged].tolist():
        _, kind, a, b, c, *_ = row
        if kind == events.EVICT:
            before.append((taken.places[a], taken.models[b]))
        elif kind == events.BIND:
            evicted.append(tuple(before))
            before.clear()
        elif kind == events.LOAD and c != DEMAND:
            what = ActionKind.PREFETCH if c == PREFETCH else ActionKind.REPLICATE
            actions.append(Action(what, taken.places[a], taken.models[b], "known stages will ask for it"))
    makes_room = "makes room for a model that will be asked for"
    return evicted, [*(Action(ActionKind.EVICT, place, model, makes_room) for place, model in before), *actions]


def _assignment(taken: Snapshot, rows: list[dict[str, Any]], now: float) -> Assignment:
    finish_s = max(row["finish_s"] for row in rows)
    stage = rows[0]["stage"]
    evict = tuple(pair for row in rows for pair in row["evict"])
    shares = tuple(Share(taken.places[row["place"]], row["prompts"], _parts(row, finish_s)) for row in rows)
    return Assignment(
        ref=taken.frontier[stage],
        model=taken.models[rows[0]["model"]],
        shares=shares,
        start_s=now + shares[0].cost.wait_s,
        finish_s=now + finish_s,
        evict=evict,
        reason=why_assigned(_told(taken, rows[0], finish_s, [(s.place, s.prompts) for s in shares], evict)),
        future_s=sum(row["others_s"] for row in rows),
    )


def _parts(row: dict[str, Any], last_s: float) -> CostParts:
    return CostParts(
        wait_s=max(0.0, row["begin_s"] - row["load_s"] - row["transfer_s"]),
        load_s=row["load_s"],
        transfer_s=row["transfer_s"],
        prefill_s=row["end_s"] - row["begin_s"],
        decode_s=row["finish_s"] - row["end_s"],
        sync_s=terms.sync_s(row["finish_s"], last_s),
    )


def _told(
    taken: Snapshot,
    row: dict[str, Any],
    finish_s: float,
    where: list[tuple[str, int]],
    evict: Evictions = (),
) -> Told:
    rival = Rival(taken.places[row["rival"]], row["rival_s"] - finish_s) if row["rival"] >= 0 else None
    return Told(
        where=tuple(where),
        start_s=row["start_s"],
        resident=bool(row["resident"]),
        load_s=row["load_s"],
        cached_tokens=round(row["cached"]),
        prompt_tokens=round(row["prompt_tokens"]),
        evict=evict,
        rival=rival,
    )


def _turn(taken: Snapshot, row: dict[str, Any], now: float) -> Hold:
    place = taken.places[row["place"]]
    told = _told(taken, row, row["finish_s"], [(place, row["prompts"])])
    return Hold(taken.frontier[row["stage"]], place, now + row["start_s"], why_held(told))


def _left(
    fleet: Fleet,
    taken: Snapshot,
    world: World,
    view: View,
    rule: Rule,
    left: Sequence[tuple[int, int]],
    now: float,
) -> Iterator[Hold]:
    free_s: dict[int, float] = {}
    models = world.stages["model"].tolist()
    for behind, stage in left:
        model = models[stage]
        if model not in free_s:
            free_s[model] = first_free_s(world, view, rule, model)
        wait_s = free_s[model] if free_s[model] < NEVER_S else None
        until_s = inf if wait_s is None else now + wait_s
        yield Hold(taken.frontier[stage], "", until_s, why_left(fleet, taken.models[model], behind, wait_s))
