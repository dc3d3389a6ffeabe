"""How does a world look to somebody who knows only what is expected? What a playout is played on."""

from __future__ import annotations

from airflow_fate.physics.kernel.compiled import compiled
from airflow_fate.physics.kernel.engine import expect_decoded, progress
from airflow_fate.physics.kernel.world import DONE, WAITING, World

OVERDUE = 0.15
"""A sequence that outlived its estimate is expected to need this share of it still."""


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
        shard = p.run_head
        while shard >= 0:
            one = world.shards[shard]
            s = world.stages[one.stage]
            tps = world.decode_tps[s.model, place]
            begun_s = one.virtual_end_s - s.output_tokens / tps
            expected_s, done_s = s.expected_tokens / tps, p.virtual_s - begun_s
            one.virtual_end_s = p.virtual_s + max(expected_s - done_s, OVERDUE * max(expected_s, done_s))
            shard = one.next
        expect_decoded(world, place)
    for stage in range(world.stages.shape[0]):
        s = world.stages[stage]
        if s.status != DONE:
            s.output_tokens = s.expected_tokens
        if s.status == WAITING and s.steps > levels:
            s.tool = 1
            s.duration_s = 0.0
