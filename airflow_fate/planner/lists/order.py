"""Who is looked at first?"""

from __future__ import annotations

from airflow_fate.physics.kernel.compiled import compiled
from airflow_fate.physics.kernel.world import READY, World
from airflow_fate.planner.lists.rule import Rule
from airflow_fate.planner.lists.view import View


@compiled
def fill_keys(world: World, view: View, rule: Rule) -> None:
    """The key of the frontier and of those foreseen; a tenant's weight makes what speaks for its stages count more."""
    now = world.tally[0].now
    for k in range(world.tally[0].ready + view.marks[0].foreseen):
        stage = _candidate(world, view, k)
        s = world.stages[stage]
        w = world.workflows[s.workflow]
        ready_s = s.ready_s if s.status == READY else view.from_s[stage]
        waited = rule.by_ready * (now - ready_s) + rule.by_arrival * (now - w.arrival_s) + rule.by_rank * s.rank_s
        key = -w.weight * waited
        key += (rule.by_work * w.work_left_s + rule.by_served * w.served_s + rule.by_own * s.work_s) / w.weight
        if rule.by_slack != 0.0:
            longest = 0.0
            for beside in range(w.first_stage, w.first_stage + w.stages):
                other = world.stages[beside]
                if other.parents_left == 0 and other.finish_s < 0:
                    longest = max(longest, other.rank_s)
            key += rule.by_slack * (longest - s.rank_s)
        view.keys[k] = key


@compiled
def sort_frontier(world: World, view: View, count: int) -> None:
    """Fill ``view.order`` by key, ties in the order in which they became ready (Shell's sort)."""
    order, keys = view.order, view.keys
    for k in range(count):
        order[k] = k
    gap = 1
    while gap < count // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for k in range(gap, count):
            one = order[k]
            at = k
            while at >= gap and (keys[order[at - gap]], order[at - gap]) > (keys[one], one):
                order[at] = order[at - gap]
                at -= gap
            order[at] = one
        gap //= 3
    for k in range(count):
        order[k] = _candidate(world, view, order[k])


@compiled
def _candidate(world: World, view: View, k: int) -> int:
    """The frontier, and behind it those that will be ready soon."""
    ready = world.tally[0].ready
    return int(world.ready[k] if k < ready else view.foreseen[k - ready])
