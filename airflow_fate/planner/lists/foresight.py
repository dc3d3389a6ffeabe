"""Which stages will be ready soon, and from when?"""

from __future__ import annotations

from airflow_fate.physics.kernel.compiled import compiled
from airflow_fate.physics.kernel.world import BOUND, DONE, WAITING, World
from airflow_fate.planner.lists.prefixes import ON_ITS_WAY
from airflow_fate.planner.lists.rule import Rule
from airflow_fate.planner.lists.view import NEVER_S, View


@compiled
def foresee(world: World, view: View, rule: Rule) -> None:
    """List those whose parents are all under way and expected to have ended soon.

    They take turns before stages that are less urgent, which would hold seats and lanes for longer than until then.
    """
    count = 0
    for workflow in range(world.workflows.shape[0]):
        w = world.workflows[workflow]
        if w.left == 0:
            continue
        for stage in range(w.first_stage, w.first_stage + w.stages):
            s = world.stages[stage]
            if s.tool != 0 and s.status == BOUND:
                view.ends_s[stage] = s.ready_s + s.duration_s
            # Without parents it has not arrived.
            if s.status != WAITING or s.parents_left == 0:
                continue
            from_s = _parents_end_s(world, view, stage)
            if from_s >= NEVER_S:
                continue
            if s.tool != 0:
                view.ends_s[stage] = from_s + s.duration_s
                continue
            if from_s > world.tally[0].now + rule.foresight * s.work_s:
                continue
            view.from_s[stage] = from_s
            view.foreseen[count] = stage
            count += 1
            _expect_conversation(world, view, s.continues)
    view.marks[0].foreseen = count


@compiled
def _parents_end_s(world: World, view: View, stage: int) -> float:
    """`NEVER_S` where one of them has not begun; parents come before their children in the arrays."""
    end_s = world.tally[0].now
    for k in range(world.parent_at[stage], world.parent_at[stage + 1]):
        parent = world.parent[k]
        if world.stages[parent].status == DONE:
            continue
        if view.ends_s[parent] < 0.0:
            return NEVER_S
        end_s = max(end_s, view.ends_s[parent])
    return end_s


@compiled
def _expect_conversation(world: World, view: View, parent: int) -> None:
    """It will lie where the parent decodes."""
    if parent < 0 or world.stages[parent].status != BOUND:
        return
    one = world.stages[parent]
    for shard in range(one.first_shard, one.first_shard + one.shards):
        view.coming[world.shards[shard].place * world.segments.shape[0] + one.conversation] = ON_ITS_WAY
