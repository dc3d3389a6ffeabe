"""How does what runs already go on? A world that begins in the middle of its work, made ready for the event loop."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from airflow_fate.physics.kernel import events
from airflow_fate.physics.kernel.compiled import compiled
from airflow_fate.physics.kernel.engine import count_steps, expect_decoded
from airflow_fate.physics.kernel.heap import push
from airflow_fate.physics.kernel.prefixes import pin_cached
from airflow_fate.physics.kernel.residency import share_bytes
from airflow_fate.physics.kernel.world import ABSENT, BOUND, LOADED, LOADING, WAITING, World

_SAME_TIME_S = 1e-9


@compiled
def resume(world: World, running: NDArray[np.int64]) -> None:
    """Go on from the rows as they are.

    :param running: shards in flight, by place and then by the end of their prefill, which is in ``prefill_s``, as their
        own end is in ``virtual_end_s``.
    """
    _hold_models(world)
    for k in range(running.shape[0]):
        one = world.shards[running[k]]
        p = world.places[one.place]
        one.admitted, one.next = 1, -1
        p.bound_shards += 1
        p.bound_seqs += one.prompts
        if one.prefill_s <= _SAME_TIME_S:
            p.decoding += one.prompts
    place, computed_s = -1, 0.0
    for k in range(running.shape[0]):
        one = world.shards[running[k]]
        if one.place != place:
            place, computed_s = one.place, 0.0
        until_s = one.prefill_s
        _go_on(world, running[k], computed_s)
        computed_s = max(computed_s, until_s)
    for place in range(world.places.shape[0]):
        expect_decoded(world, place)
    for workflow in range(world.workflows.shape[0]):
        count_steps(world, workflow)
    for stage in range(world.stages.shape[0]):
        s = world.stages[stage]
        if s.status == WAITING and s.parents_left == 0:
            # It runs where no device sees it, or will be ready any moment: its time counts, its place does not.
            s.status = BOUND
            if s.tool == 0:
                world.coming_s[s.model, s.steps] -= s.work_s
                s.tool = 1
                s.duration_s = s.work_s
            push(world, s.duration_s, events.TOOL_ENDED, stage, 0)


@compiled
def _hold_models(world: World) -> None:
    for place in range(world.places.shape[0]):
        for m in range(world.models.shape[0]):
            there = world.resident[place, m]
            if there.status == ABSENT:
                continue
            share = share_bytes(world, m)
            for k in range(world.member_at[place], world.member_at[place + 1]):
                device = world.devices[world.member[k]]
                device.used_bytes += share
                if there.status == LOADING:
                    device.loading = 1
            if there.status == LOADING:
                push(world, there.ready_s, events.LOADED, place, m)


@compiled
def _go_on(world: World, shard: int, from_s: float) -> None:
    """A shard decodes, computes its prompt, or waits in line for the lane or for its model.

    :param from_s: when the prompts before its own have been computed.
    """
    one = world.shards[shard]
    place, s = one.place, world.stages[one.stage]
    p, there = world.places[place], world.resident[place, s.model]
    there.users += 1
    end_s = max(one.virtual_end_s, one.prefill_s)
    tps = world.decode_tps[s.model, place]
    slowdown = world.tally[0].decode_slowdown
    factor = 1.0 + slowdown * max(0, p.decoding - 1)
    if one.prefill_s <= _SAME_TIME_S:
        one.virtual_end_s = max(0.0, end_s) / factor
        if s.expected_tokens <= 0.0:
            s.expected_tokens = s.output_tokens = one.virtual_end_s * tps
        one.pinned = pin_cached(world, one.stage, place)
        one.prefill_s = one.decode_at_s = 0.0
        one.next = p.run_head
        p.run_head = shard
        return
    if s.prompt_tokens <= 0.0:
        from_s = max(from_s, there.ready_s)
        s.prompt_tokens = max(1.0, (one.prefill_s - from_s) * world.prefill_tps[s.model, place])
        crowd = factor + slowdown * one.prompts
        if there.status != LOADED or p.lane_shard >= 0:
            crowd = 1.0 + slowdown * (p.decoding + one.prompts - 1)
        s.expected_tokens = s.output_tokens = (end_s - one.prefill_s) / crowd * tps
    p.unfilled += 1
    if there.status != LOADED:
        if p.wait_tail >= 0:
            world.shards[p.wait_tail].next = shard
        else:
            p.wait_head = shard
        p.wait_tail = shard
    elif p.lane_shard < 0:
        one.pinned = pin_cached(world, one.stage, place)
        p.lane_shard = shard
        p.lane_until_s = one.prefill_s
        push(world, one.prefill_s, events.PREFILLED, place, 0)
        one.prefill_s = 0.0
    else:
        if p.lane_tail >= 0:
            world.shards[p.lane_tail].next = shard
        else:
            p.lane_head = shard
        p.lane_tail = shard
