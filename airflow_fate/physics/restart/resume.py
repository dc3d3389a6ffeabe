"""How does what runs already go on? A world that begins in the middle of its work, made ready for the event loop."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from airflow_fate.physics.dynamics import events
from airflow_fate.physics.dynamics.event_loop import count_steps, expect_ends
from airflow_fate.physics.dynamics.heap import push
from airflow_fate.physics.dynamics.prefix_cache import retain_cached
from airflow_fate.physics.dynamics.residency import share_bytes
from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.jit.terms import SAME_TIME_S, context_tokens, step
from airflow_fate.physics.world.arrays import ABSENT, BOUND, LOADED, LOADING, WAITING, World


@compiled
def resume(world: World, running: NDArray[np.int64]) -> None:
    """Go on from the rows as they are.

    :param running: shards in flight, by place and then by the end of their prefill, which is in ``prefill_s``, as their
        own end is in ``attained_end_s``.
    """
    _hold_models(world)
    for k in range(running.shape[0]):
        row = world.shards[running[k]]
        p = world.places[row.place]
        row.admitted, row.next = 1, -1
        p.bound_shards += 1
        p.bound_seqs += row.prompts
        if row.prefill_s <= SAME_TIME_S:
            s = world.stages[row.stage]
            p.decoding += row.prompts
            p.context_tokens += context_tokens(row.prompts, s.prompt_tokens, s.expected_tokens)
    place, computed_s = -1, 0.0
    for k in range(running.shape[0]):
        row = world.shards[running[k]]
        if row.place != place:
            place, computed_s = row.place, 0.0
        until_s = row.prefill_s
        _go_on(world, running[k], computed_s)
        computed_s = max(computed_s, until_s)
    for place in range(world.places.shape[0]):
        expect_ends(world, place)
        p = world.places[place]
        if p.prefill_left_s > 0.0:
            # It was told in seconds beside the others.
            p.prefill_left_s /= p.stretch
            expect_ends(world, place)
    for workflow in range(world.workflows.shape[0]):
        count_steps(world, workflow)
    for stage in range(world.stages.shape[0]):
        s = world.stages[stage]
        if s.status == WAITING and s.parents_left == 0:
            # It runs where no device sees it, or will be ready any moment: its time counts, its place does not.
            s.status = BOUND
            if s.tool == 0:
                world.backlog_s[s.model, s.steps] -= s.work_s
                s.tool = 1
                s.duration_s = s.work_s
            push(world, s.duration_s, events.TOOL_ENDED, stage, 0)


@compiled
def _hold_models(world: World) -> None:
    for place in range(world.places.shape[0]):
        for m in range(world.models.shape[0]):
            resident = world.resident[place, m]
            if resident.status == ABSENT:
                continue
            share = share_bytes(world, m)
            for k in range(world.member_indptr[place], world.member_indptr[place + 1]):
                device = world.devices[world.member_indices[k]]
                device.used_bytes += share
                if resident.status == LOADING:
                    device.loading = 1
            if resident.status == LOADING:
                push(world, resident.ready_s, events.LOADED, place, m)


@compiled
def _go_on(world: World, shard: int, from_s: float) -> None:
    """A shard decodes, computes its prompt, or waits for the prefill slot or for its model.

    :param from_s: when the prompts before its own have been computed.
    """
    row = world.shards[shard]
    place, s = row.place, world.stages[row.stage]
    p, resident = world.places[place], world.resident[place, s.model]
    resident.users += 1
    end_s = max(row.attained_end_s, row.prefill_s)
    tps = world.decode_tps[s.model, place]
    slowdown, per_token = world.decode_slowdown[s.model, place], world.context_slowdown[s.model, place]
    factor = step(slowdown, max(1, p.decoding), per_token, p.context_tokens)
    if row.prefill_s <= SAME_TIME_S:
        row.attained_end_s = max(0.0, end_s) / factor
        if s.expected_tokens <= 0.0:
            s.expected_tokens = s.output_tokens = row.attained_end_s * tps
        row.retained = retain_cached(world, row.stage, place)
        row.prefill_s = row.decode_at_s = 0.0
        row.next = p.decode_head
        p.decode_head = shard
        return
    if s.prompt_tokens <= 0.0:
        from_s = max(from_s, resident.ready_s)
        s.prompt_tokens = max(1.0, (row.prefill_s - from_s) * world.prefill_tps[s.model, place])
        beside = factor + slowdown * row.prompts
        if resident.status != LOADED or p.prefill_shard >= 0:
            beside = step(slowdown, p.decoding + row.prompts, per_token, p.context_tokens)
        s.expected_tokens = s.output_tokens = (end_s - row.prefill_s) / beside * tps
    p.prefills_left += 1
    if resident.status != LOADED:
        if p.wait_tail >= 0:
            world.shards[p.wait_tail].next = shard
        else:
            p.wait_head = shard
        p.wait_tail = shard
    elif p.prefill_shard < 0:
        row.retained = retain_cached(world, row.stage, place)
        p.prefill_shard = shard
        if p.batch_tokens > 0:
            p.prefill_left_s = row.prefill_s
            row.tokens = s.prompt_tokens
        else:
            p.prefill_until_s = row.prefill_s
            push(world, row.prefill_s, events.PREFILLED, place, 0)
        row.prefill_s = 0.0
    else:
        if p.prefill_tail >= 0:
            world.shards[p.prefill_tail].next = shard
        else:
            p.prefill_head = shard
        p.prefill_tail = shard
