"""How does a world look to somebody who knows only what is expected? What a rollout starts from."""

from __future__ import annotations

from airflow_fate.physics.dynamics.event_loop import expect_ends, progress
from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.jit.terms import overdue_s
from airflow_fate.physics.world.arrays import DONE, WAITING, World


@compiled
def as_expected(world: World, levels: int) -> None:
    """Hide from the world what nobody can know yet: outputs of what has not ended, and what has not arrived.

    :param levels: unfinished stages that may lie before a stage; those further ahead take no time.
    """
    world.tally[0].arrived = world.arrivals.shape[0]
    for place in range(world.places.shape[0]):
        p = world.places[place]
        if p.bound_shards == 0:
            continue
        progress(world, place)
        shard = p.decode_head
        while shard >= 0:
            row = world.shards[shard]
            s = world.stages[row.stage]
            tps = world.decode_tps[s.model, place]
            begun_s = row.attained_end_s - s.output_tokens / tps
            expected_s, done_s = s.expected_tokens / tps, p.attained_s - begun_s
            row.attained_end_s = p.attained_s + overdue_s(expected_s, done_s)
            shard = row.next
    for stage in range(world.stages.shape[0]):
        s = world.stages[stage]
        if s.status != DONE:
            s.output_tokens = s.expected_tokens
        if s.status == WAITING and s.steps > levels:
            s.tool = 1
            s.duration_s = 0.0
    for place in range(world.places.shape[0]):
        if world.places[place].bound_shards > 0:
            expect_ends(world, place)
