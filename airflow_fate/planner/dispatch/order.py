"""Who is looked at first? The frontier, and those that will be ready soon, by the rule's order."""

from __future__ import annotations

from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.world.arrays import BOUND, DONE, READY, WAITING, World
from airflow_fate.planner.dispatch.rule import Order
from airflow_fate.planner.forecast.prefixes import expect_conversation
from airflow_fate.planner.forecast.profile import NEVER_S, Profile


@compiled
def look_ahead(world: World, profile: Profile, lookahead: float) -> None:
    """List those whose parents are all under way and expected to have ended soon.

    They are nominated before stages that are less urgent, which would hold sequence and prefill slots for longer.

    :param lookahead: how soon, in a stage's own mean execution times.
    """
    count = 0
    for workflow in range(world.workflows.shape[0]):
        w = world.workflows[workflow]
        if w.left == 0:
            continue
        for stage in range(w.first_stage, w.first_stage + w.stages):
            s = world.stages[stage]
            if s.tool != 0 and s.status == BOUND:
                profile.stage_end_s[stage] = s.ready_s + s.duration_s
            # Without parents it has not arrived.
            if s.status != WAITING or s.parents_left == 0:
                continue
            begins_s = _parents_end_s(world, profile, stage)
            if begins_s >= NEVER_S:
                continue
            if s.tool != 0:
                profile.stage_end_s[stage] = begins_s + s.duration_s
                continue
            if begins_s > world.tally[0].now + lookahead * s.work_s:
                continue
            profile.begins_s[stage] = begins_s
            profile.soon[count] = stage
            count += 1
            expect_conversation(world, profile, s.continues)
    profile.counts[0].soon = count


@compiled
def _parents_end_s(world: World, profile: Profile, stage: int) -> float:
    """`NEVER_S` where one of them has not begun; parents come before their children in the arrays."""
    end_s = world.tally[0].now
    for k in range(world.parent_indptr[stage], world.parent_indptr[stage + 1]):
        parent = world.parent_indices[k]
        if world.stages[parent].status == DONE:
            continue
        if profile.stage_end_s[parent] < 0.0:
            return NEVER_S
        end_s = max(end_s, profile.stage_end_s[parent])
    return end_s


@compiled
def sort_frontier(world: World, profile: Profile, order: Order) -> int:
    """Fill ``profile.order``, most urgent first; how many there are."""
    count = int(world.tally[0].ready + profile.counts[0].soon)
    _fill_keys(world, profile, order, count)
    _sort(world, profile, count)
    return count


@compiled
def _fill_keys(world: World, profile: Profile, order: Order, count: int) -> None:
    """A tenant's weight makes what speaks for its stages count more."""
    now = world.tally[0].now
    for k in range(count):
        stage = _stage_at(world, profile, k)
        s = world.stages[stage]
        w = world.workflows[s.workflow]
        ready_s = s.ready_s if s.status == READY else profile.begins_s[stage]
        waited = order.by_ready * (now - ready_s) + order.by_arrival * (now - w.arrival_s) + order.by_rank * s.rank_s
        key = -w.weight * waited
        key += (order.by_work * w.work_left_s + order.by_served * w.served_s + order.by_own * s.work_s) / w.weight
        if order.by_slack != 0.0:
            longest_s = 0.0
            for beside in range(w.first_stage, w.first_stage + w.stages):
                other = world.stages[beside]
                if other.parents_left == 0 and other.finish_s < 0:
                    longest_s = max(longest_s, other.rank_s)
            key += order.by_slack * (longest_s - s.rank_s)
        profile.keys[k] = key


@compiled
def _sort(world: World, profile: Profile, count: int) -> None:
    """By key, ties in the order in which they became ready (Shell's sort)."""
    order, keys = profile.order, profile.keys
    for k in range(count):
        order[k] = k
    gap = 1
    while gap < count // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for k in range(gap, count):
            moved = order[k]
            at = k
            while at >= gap and (keys[order[at - gap]], order[at - gap]) > (keys[moved], moved):
                order[at] = order[at - gap]
                at -= gap
            order[at] = moved
        gap //= 3
    for k in range(count):
        order[k] = _stage_at(world, profile, order[k])


@compiled
def _stage_at(world: World, profile: Profile, k: int) -> int:
    """The frontier, and behind it those that will be ready soon."""
    ready = world.tally[0].ready
    return int(world.ready[k] if k < ready else profile.soon[k - ready])
