"""What is the answer to the caller? What a pass decided, as a plan with its costs and its reasons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from math import inf
from typing import Any

import numpy as np

from airflow_fate.cluster import Fleet
from airflow_fate.physics import terms
from airflow_fate.physics.costs import CostParts
from airflow_fate.physics.dynamics import log as kinds
from airflow_fate.physics.restart.snapshot import Snapshot
from airflow_fate.physics.world.arrays import DEMAND, PREFETCH, READY, World
from airflow_fate.physics.world.tables import Table
from airflow_fate.planner.dispatch.rule import Rule
from airflow_fate.planner.forecast.estimate import first_free_s
from airflow_fate.planner.forecast.profile import NEVER_S, DecisionRow, Profile
from airflow_fate.planner.plan import Action, ActionKind, Assignment, Hold, Impossible, Plan, Share
from airflow_fate.planner.reasons import PlacementFacts, Rival, why_assigned, why_held, why_left

Evictions = tuple[tuple[str, str], ...]


def answer(
    fleet: Fleet,
    start: Snapshot,
    world: World,
    profile: Profile,
    trace: Table[DecisionRow],
    rule: Rule,
    queue: Sequence[int],
    now: float,
    impossible: tuple[Impossible, ...],
    solver: str,
) -> Plan:
    """:param start: the world before the pass.
    :param trace: what was bound, in that order, and what is nominated.
    :param queue: the frontier as it was, most urgent first.
    """
    stages = world.stages[trace["stage"]]
    beside = {
        "model": stages["model"],
        "prompt_tokens": stages["prompt_tokens"],
        "shown_transfer_s": np.maximum(0.0, trace["transfer_s"] - trace["load_s"]),
    }
    names = (*(trace.dtype.names or ()), *beside)
    columns = (column.tolist() for column in beside.values())
    rows = [dict(zip(names, (*row, *more), strict=True)) for row, *more in zip(trace.tolist(), *columns, strict=True)]
    bound = [row for row in rows if not row["held"]]
    evicted, actions = _read_log(start, world)
    for row, evict in zip(bound, evicted, strict=True):
        row["evict"] = evict
    assignments = [_assignment(start, list(shares), now) for _, shares in groupby(bound, key=lambda row: row["stage"])]
    ready = world.stages["status"] == READY
    nominated = {row["stage"]: row for row in rows if row["held"]}
    holds = [_nominated(start, nominated[stage], now) for stage in queue if stage in nominated and ready[stage]]
    left = [(behind, stage) for behind, stage in enumerate(queue) if stage not in nominated and ready[stage]]
    holds += _left(fleet, start, world, profile, rule, left, now)
    return Plan(tuple(assignments), tuple(holds), impossible, tuple(actions), solver)


def _read_log(start: Snapshot, world: World) -> tuple[list[Evictions], list[Action]]:
    """What left before each binding, in their order; and what was done ahead of any."""
    evicted: list[Evictions] = []
    before: list[tuple[str, str]] = []
    actions: list[Action] = []
    log = world.log[: world.tally[0].logged]
    columns = (log[name].tolist() for name in ("kind", "place", "model", "why"))
    for kind, place, model, why in zip(*columns, strict=True):
        if kind == kinds.EVICT:
            before.append((start.places[place], start.models[model]))
        elif kind == kinds.BIND:
            evicted.append(tuple(before))
            before.clear()
        elif kind == kinds.LOAD and why != DEMAND:
            what = ActionKind.PREFETCH if why == PREFETCH else ActionKind.REPLICATE
            actions.append(Action(what, start.places[place], start.models[model], "known stages will ask for it"))
    makes_room = "makes room for a model that will be asked for"
    return evicted, [*(Action(ActionKind.EVICT, place, model, makes_room) for place, model in before), *actions]


def _assignment(start: Snapshot, rows: list[dict[str, Any]], now: float) -> Assignment:
    finish_s = max(row["finish_s"] for row in rows)
    stage = rows[0]["stage"]
    evict = tuple(pair for row in rows for pair in row["evict"])
    shares = tuple(Share(start.places[row["place"]], row["prompts"], _parts(row, finish_s)) for row in rows)
    return Assignment(
        ref=start.frontier[stage],
        model=start.models[rows[0]["model"]],
        shares=shares,
        start_s=now + shares[0].cost.wait_s,
        finish_s=now + finish_s,
        evict=evict,
        reason=why_assigned(_facts(start, rows[0], finish_s, [(s.place, s.prompts) for s in shares], evict)),
        future_s=sum(row["price_s"] for row in rows),
    )


def _parts(row: dict[str, Any], last_s: float) -> CostParts:
    return CostParts(
        wait_s=max(0.0, row["begin_s"] - row["load_s"] - row["shown_transfer_s"]),
        load_s=row["load_s"],
        transfer_s=row["shown_transfer_s"],
        prefill_s=row["end_s"] - row["begin_s"],
        decode_s=row["finish_s"] - row["end_s"],
        sync_s=terms.sync_s(row["finish_s"], last_s),
    )


def _facts(
    start: Snapshot,
    row: dict[str, Any],
    finish_s: float,
    where: list[tuple[str, int]],
    evict: Evictions = (),
) -> PlacementFacts:
    rival = Rival(start.places[row["rival"]], row["rival_s"] - finish_s) if row["rival"] >= 0 else None
    return PlacementFacts(
        where=tuple(where),
        start_s=row["start_s"],
        resident=bool(row["resident"]),
        load_s=row["load_s"],
        cached_tokens=round(row["cached"]),
        prompt_tokens=round(row["prompt_tokens"]),
        evict=evict,
        rival=rival,
    )


def _nominated(start: Snapshot, row: dict[str, Any], now: float) -> Hold:
    place = start.places[row["place"]]
    facts = _facts(start, row, row["finish_s"], [(place, row["prompts"])])
    return Hold(start.frontier[row["stage"]], place, now + row["start_s"], why_held(facts))


def _left(
    fleet: Fleet,
    start: Snapshot,
    world: World,
    profile: Profile,
    rule: Rule,
    left: Sequence[tuple[int, int]],
    now: float,
) -> Iterator[Hold]:
    free_s: dict[int, float] = {}
    models = world.stages["model"].tolist()
    for behind, stage in left:
        model = models[stage]
        if model not in free_s:
            free_s[model] = first_free_s(world, profile, rule.timing, rule.eviction, model)
        wait_s = free_s[model] if free_s[model] < NEVER_S else None
        until_s = inf if wait_s is None else now + wait_s
        yield Hold(start.frontier[stage], "", until_s, why_left(fleet, start.models[model], behind, wait_s))
