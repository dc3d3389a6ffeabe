"""Which choices does one dispatch round have? The stages at the head of the queue, and places worth considering.

A *column* is one way of placing one stage: a place, or several as shards. Each stage lists its few cheapest columns
and the one that a linear assignment over all stages and places gives it: by their own costs alone all stages would
list the same few places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from airflow_fate.physics.world.arrays import Floats, Ints, World
from airflow_fate.planner.dispatch.rule import Rule
from airflow_fate.planner.forecast.estimate import latest_start_s
from airflow_fate.planner.forecast.profile import NEVER_S, Profile
from airflow_fate.planner.search.joint.estimates import Estimates, estimate_all

CHEAPEST = 4
DEFER_PRICE = 4.0
"""Mean stage times that leaving a stage without a place costs; below 1, idling the cluster would pay."""
_MOST_STAGES = 400
_NEVER_S = 1e6


@dataclass(frozen=True, slots=True)
class Column:
    """One way of placing a stage.

    :param stage: index of the stage in the problem.
    :param shares: (place, prompts).
    :param price_s: seconds until the stage ends and what it costs others, without loads and evictions.
    :param prefill_s: seconds of prefill on its (first) place.
    """

    stage: int
    shares: tuple[tuple[int, int], ...]
    price_s: float
    prefill_s: float


@dataclass(frozen=True)
class AssignmentProblem:
    """One round of placements, for all places at once.

    :param stages: indices in the world, most urgent first.
    :param models: of each stage.
    :param own_price_s: of each column, with its own load, as if it were alone.
    :param defer_s: price of leaving each stage for a later round.
    :param load_s: (place, model) -> price of a load, where a column needs one.
    :param eviction_cost_s: (place, model) -> price of evicting an idle model.
    """

    world: World
    stages: tuple[int, ...]
    models: tuple[int, ...]
    columns: tuple[Column, ...]
    own_price_s: tuple[float, ...]
    defer_s: tuple[float, ...]
    capacity: tuple[int, ...]
    load_s: dict[tuple[int, int], float]
    eviction_cost_s: dict[tuple[int, int], float]

    def model(self, column: Column) -> int:
        return self.models[column.stage]

    def overlaps(self, at: int) -> tuple[int, ...]:
        """Places that share a device with this one."""
        world = self.world
        return tuple(world.overlap_indices[world.overlap_indptr[at] : world.overlap_indptr[at + 1]].tolist())

    def devices(self, at: int) -> tuple[int, ...]:
        world = self.world
        return tuple(world.member_indices[world.member_indptr[at] : world.member_indptr[at + 1]].tolist())

    @property
    def is_plain_assignment(self) -> bool:
        """Whether every place takes at most one stage and nothing else binds stages to each other."""
        alone = all(len(column.shares) == 1 for column in self.columns)
        return alone and max(self.capacity, default=0) <= 1 and not len(self.world.overlap_indices)


def build_problem(world: World, profile: Profile, rule: Rule) -> AssignmentProblem:
    stages, estimates = estimate_all(world, profile, rule, _MOST_STAGES)
    rows = world.stages[stages]
    open_to = (
        (estimates.start_s <= latest_start_s(rule.timing, 0.0))
        & (estimates.capacity > 0)
        & (estimates.end_s[:, :, 0] < NEVER_S)
    )
    own = np.where(open_to, estimates.end_s[:, :, 0], np.inf)
    models = rows["model"].tolist()
    columns: list[tuple[float, Column]] = []
    load_s: dict[tuple[int, int], float] = {}
    for number, (row, listed) in enumerate(zip(rows, _listed(own, estimates.capacity), strict=True)):
        for at in listed:
            once_s = float(estimates.load_s[number, at])
            if once_s > 0.0:
                load_s[at, models[number]] = once_s
            shares = ((at, int(row.prompts)),)
            price_s = float(own[number, at])
            columns.append((price_s, Column(number, shares, price_s - once_s, float(estimates.prefill_s[number, at]))))
        if row.max_shards > 1 and row.prompts > 1:
            columns.extend(_split(number, int(row.prompts), int(row.max_shards), estimates))
    columns.sort(key=lambda entry: (entry[1].stage, entry[0], entry[1].shares))
    mean_s = float(rows["work_s"].mean()) if len(rows) else 0.0
    best = np.where(open_to.any(axis=1), own.min(axis=1, initial=np.inf), 0.0)
    idle = zip(*np.nonzero(estimates.eviction_cost_s >= 0.0), strict=True)
    return AssignmentProblem(
        world=world,
        stages=tuple(stages.tolist()),
        models=tuple(models),
        columns=tuple(column for _, column in columns),
        own_price_s=tuple(price_s for price_s, _ in columns),
        defer_s=tuple((best + DEFER_PRICE * mean_s).tolist()),
        capacity=tuple(estimates.capacity.tolist()),
        load_s=load_s,
        eviction_cost_s={(int(at), int(m)): float(estimates.eviction_cost_s[at, m]) for at, m in idle},
    )


def _listed(own: Floats, capacity: Ints) -> list[list[int]]:
    """The places that each stage lists: its cheapest ones and the one of a linear assignment over all."""
    cheapest = np.argsort(own, axis=1, kind="stable")[:, :CHEAPEST]
    listed = [{int(at) for at in row if np.isfinite(own[number, at])} for number, row in enumerate(cheapest)]
    slots = np.repeat(np.arange(len(capacity)), capacity)
    if len(own) and len(slots):
        rows, chosen = linear_sum_assignment(np.where(np.isfinite(own), own, _NEVER_S)[:, slots])
        for number, slot in zip(rows, chosen, strict=True):
            if np.isfinite(own[number, slots[slot]]):
                listed[number].add(int(slots[slot]))
    return [sorted(places) for places in listed]


def _split(number: int, prompts: int, most: int, estimates: Estimates) -> list[tuple[float, Column]]:
    """The split that ends first, over places that have the model and are free: what is split waits for nobody."""
    alone_s, two_s = estimates.end_s[number, :, 1], estimates.end_s[number, :, 2]
    free = (
        (estimates.start_s[number] <= 1e-9)
        & (estimates.load_s[number] == 0.0)
        & (two_s < NEVER_S)
        & (estimates.capacity > 0)
    )
    chosen = [int(at) for at in np.argsort(alone_s, kind="stable") if free[at]][:most]
    best: tuple[float, Column] | None = None
    for count in range(2, len(chosen) + 1):
        counts = dict.fromkeys(chosen[:count], 0)
        for _ in range(prompts):
            ends = {
                at: alone_s[at] + n * (two_s[at] - alone_s[at])
                for at, n in counts.items()
                if n < estimates.capacity[at]
            }
            if not ends:
                break
            counts[min(ends, key=lambda at: (ends[at], at))] += 1
        if sum(counts.values()) < prompts or 0 in counts.values():
            continue
        ends_s = max(float(alone_s[at] + (n - 1) * (two_s[at] - alone_s[at])) for at, n in counts.items())
        if best is None or ends_s < best[0]:
            best = ends_s, Column(number, tuple(counts.items()), ends_s, 0.0)
    return [best] if best else []
