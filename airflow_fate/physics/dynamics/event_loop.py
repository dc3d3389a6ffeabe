"""What happens when time goes on? Arrivals, tools, loads, inputs, prefills and decodes, as in docs/physics.md."""

from __future__ import annotations

from airflow_fate.physics.dynamics import events, log
from airflow_fate.physics.dynamics.heap import drop_first, push
from airflow_fate.physics.dynamics.prefix_cache import (
    cached_tokens,
    prefill_tokens,
    release,
    remember,
    retain_cached,
    use_chain,
)
from airflow_fate.physics.dynamics.residency import ask, loaded, start_loads, waits_for_room
from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.jit.terms import SAME_TIME_S, chunk_tokens, context_tokens, step, transfer_s
from airflow_fate.physics.world.arrays import ABSENT, BOUND, DEMAND, DONE, LOADED, READY, STEPS, WAITING, World

_NEVER_S = 1e300


@compiled
def advance(world: World) -> bool:
    """Go on to the next decision epoch: the next time at which something happens; False when nothing is left to come.

    All that happens at that time has happened when it returns.
    """
    tally = world.tally
    while True:
        arrival_s = _NEVER_S
        if tally[0].arrived < world.arrivals.shape[0]:
            arrival_s = world.workflows[world.arrivals[tally[0].arrived]].arrival_s
        while tally[0].events > 0 and _stale(world):
            drop_first(world)
        event_s = world.heap[0].t if tally[0].events > 0 else _NEVER_S
        t = min(arrival_s, event_s)
        if t >= _NEVER_S:
            return False
        tally[0].now = max(tally[0].now, t)
        until_s = t + SAME_TIME_S
        while tally[0].arrived < world.arrivals.shape[0]:
            workflow = world.arrivals[tally[0].arrived]
            if world.workflows[workflow].arrival_s > until_s:
                break
            tally[0].arrived += 1
            _arrive(world, workflow)
        while tally[0].events > 0 and world.heap[0].t <= until_s:
            kind, index, generation = world.heap[0].kind, world.heap[0].index, world.heap[0].generation
            stale = _stale(world)
            drop_first(world)
            if stale:
                continue
            if kind == events.PREFILLED:
                _prefilled(world, index)
            elif kind == events.DECODED:
                _decoded(world, index)
            elif kind == events.LOADED:
                loaded(world, index, generation)
                _wake_place(world, index)
            elif kind == events.INPUTS:
                _try_prefill(world, index)
            elif kind == events.TOOL_ENDED:
                _finish(world, index)
        settle(world)
        return True


@compiled
def settle(world: World) -> None:
    """Start what can start now: loads, and the shards that waited behind them."""
    while world.tally[0].loads > 0 and start_loads(world) > 0:
        for place in range(world.places.shape[0]):
            _wake_place(world, place)


@compiled
def _stale(world: World) -> bool:
    first = world.heap[0]
    if first.kind == events.DECODED:
        return first.generation != world.places[first.index].generation
    return first.kind == events.PREFILLED and first.generation != world.places[first.index].prefill_generation


@compiled
def _arrive(world: World, workflow: int) -> None:
    w = world.workflows[workflow]
    log.note_workflow(world, log.ARRIVE, workflow)
    for stage in range(w.first_stage, w.first_stage + w.stages):
        if world.stages[stage].parents_left == 0 and world.stages[stage].status == WAITING:
            _make_ready(world, stage)
    count_steps(world, workflow)


@compiled
def _make_ready(world: World, stage: int) -> None:
    tally, s = world.tally, world.stages[stage]
    now = tally[0].now
    s.status = READY
    s.ready_s = now
    log.note_stage(world, log.READY, stage)
    if s.tool != 0:
        s.status = BOUND
        push(world, now + s.duration_s, events.TOOL_ENDED, stage, 0)
        log.note_tool(world, stage, s.duration_s)
    else:
        world.ready[tally[0].ready] = stage
        tally[0].ready += 1


@compiled
def count_steps(world: World, workflow: int) -> None:
    """Count the workflow's work that is still to be placed, by the unfinished stages before it."""
    w = world.workflows[workflow]
    for stage in range(w.first_stage, w.first_stage + w.stages):
        s = world.stages[stage]
        if s.status == DONE:
            continue
        steps = 0
        for k in range(world.parent_indptr[stage], world.parent_indptr[stage + 1]):
            parent = world.stages[world.parent_indices[k]]
            if parent.status != DONE:
                steps = max(steps, min(STEPS, parent.steps + 1))
        if s.tool == 0 and s.status != BOUND and steps != s.steps:
            if s.steps >= 0:
                world.backlog_s[s.model, s.steps] -= s.work_s
            world.backlog_s[s.model, steps] += s.work_s
        s.steps = steps


@compiled
def begin_binding(world: World, stage: int) -> None:
    """Take the stage out of the frontier; its shards follow."""
    tally, s = world.tally, world.stages[stage]
    count = tally[0].ready
    for k in range(count):
        if world.ready[k] == stage:
            for j in range(k, count - 1):
                world.ready[j] = world.ready[j + 1]
            break
    tally[0].ready = count - 1
    s.status = BOUND
    world.backlog_s[s.model, s.steps] -= s.work_s
    s.first_shard = tally[0].shards
    s.shards = 0
    s.shards_left = 0


@compiled
def bind_shard(world: World, stage: int, place: int, prompts: int) -> None:
    """Bind some of the stage's prompts to the place: its model is asked for, its inputs begin to move there."""
    tally, s = world.tally, world.stages[stage]
    now = tally[0].now
    shard = tally[0].shards
    tally[0].shards = shard + 1
    row = world.shards[shard]
    row.stage, row.place, row.prompts, row.number = stage, place, prompts, s.shards
    row.admitted, row.next, row.retained = 0, -1, 0
    row.bound_s = now
    row.prefill_s = -1.0
    row.decode_at_s = -1.0
    s.shards += 1
    s.shards_left += 1
    p = world.places[place]
    p.bound_shards += 1
    p.bound_seqs += prompts
    p.prefills_left += 1
    log.note_bind(world, stage, row.number, place, prompts)
    row.inputs_s = now + _move_inputs(world, stage, row.number, place)
    if row.inputs_s > now:
        push(world, row.inputs_s, events.INPUTS, shard, 0)
    if p.wait_tail >= 0:
        world.shards[p.wait_tail].next = shard
    else:
        p.wait_head = shard
    p.wait_tail = shard
    _try_prefill(world, shard)


@compiled
def _move_inputs(world: World, stage: int, number: int, place: int) -> float:
    """Seconds until the parents' outputs lie on the place's node, one after another."""
    at_s = world.tally[0].now
    node, gbps = world.places[place].node, world.places[place].gbps
    total = 0.0
    for k in range(world.parent_indptr[stage], world.parent_indptr[stage + 1]):
        parent = world.parent_indices[k]
        q = world.stages[parent]
        for i in range(q.first_shard, q.first_shard + q.shards):
            source = world.shards[i]
            if world.places[source.place].node == node:
                continue
            moved_bytes = q.output_bytes * (source.prompts / q.prompts)
            seconds = transfer_s(moved_bytes, gbps, world.tally[0].latency_s)
            log.note_transfer(world, at_s + total, stage, number, place, parent, moved_bytes, seconds)
            total += seconds
    return total


@compiled
def _conflicts(world: World, place: int, shard: int) -> bool:
    """Whether a place that shares a device is busy with a shard that was bound before this one."""
    for k in range(world.overlap_indptr[place], world.overlap_indptr[place + 1]):
        other = world.places[world.overlap_indices[k]]
        if other.bound_shards == 0:
            continue
        if other.prefill_shard >= 0 or other.prefill_head >= 0 or other.slot_head >= 0 or other.decode_head >= 0:
            return True
        waiting = other.wait_head
        while waiting >= 0:
            if waiting < shard or world.shards[waiting].admitted != 0:
                return True
            waiting = world.shards[waiting].next
    return False


@compiled
def _try_prefill(world: World, shard: int) -> None:
    """Let a waiting shard into the queue of the prefill slot, once its model and its inputs are there."""
    row = world.shards[shard]
    place = row.place
    p = world.places[place]
    model = world.stages[row.stage].model
    if row.admitted == 0:
        if world.overlap_indptr[place + 1] > world.overlap_indptr[place] and _conflicts(world, place, shard):
            return
        resident = world.resident[place, model]
        if (resident.status == LOADED or resident.status == ABSENT) and waits_for_room(world, place):
            return
        row.admitted = 1
        resident.users += 1
        if resident.status == ABSENT:
            ask(world, place, model, DEMAND)
    if world.resident[place, model].status != LOADED or row.inputs_s > world.tally[0].now + SAME_TIME_S:
        return
    before, at = -1, p.wait_head
    while at != shard:
        if at < 0:
            # Its model came at the very time of its inputs, and has woken it already.
            return
        before, at = at, world.shards[at].next
    if before >= 0:
        world.shards[before].next = row.next
    else:
        p.wait_head = row.next
    if p.wait_tail == shard:
        p.wait_tail = before
    row.next = -1
    if p.prefill_shard < 0:
        if p.batch_tokens > 0:
            progress(world, place)
        _prefill(world, shard)
        if p.batch_tokens > 0:
            expect_ends(world, place)
    else:
        if p.prefill_tail >= 0:
            world.shards[p.prefill_tail].next = shard
        else:
            p.prefill_head = shard
        p.prefill_tail = shard


@compiled
def _wake_place(world: World, place: int) -> None:
    shard = world.places[place].wait_head
    while shard >= 0:
        after = world.shards[shard].next
        _try_prefill(world, shard)
        shard = after


@compiled
def _prefill(world: World, shard: int) -> None:
    row = world.shards[shard]
    place, stage = row.place, row.stage
    p, now = world.places[place], world.tally[0].now
    model = world.stages[stage].model
    row.cached = cached_tokens(world, stage, place)
    row.tokens = prefill_tokens(world, stage, row.prompts, row.cached)
    row.retained = retain_cached(world, stage, place)
    row.prefill_s = now
    seconds = row.tokens / world.prefill_tps[model, place]
    p.prefill_shard = shard
    if p.batch_tokens > 0:
        p.prefill_left_s = seconds
        return
    p.prefill_until_s = now + seconds
    push(world, now + seconds, events.PREFILLED, place, 0)
    log.note_prefill(world, now, stage, row.number, place, row.tokens, row.cached, seconds)


@compiled
def _prefilled(world: World, place: int) -> None:
    progress(world, place)
    p = world.places[place]
    shard = p.prefill_shard
    row = world.shards[shard]
    if p.batch_tokens > 0:
        seconds = world.tally[0].now - row.prefill_s
        log.note_prefill(world, row.prefill_s, row.stage, row.number, place, row.tokens, row.cached, seconds)
    row.retained = use_chain(world, row.stage, place, row.retained)
    p.prefills_left -= 1
    p.prefill_shard = -1
    p.prefill_left_s = 0.0
    if p.prefill_head >= 0:
        after = p.prefill_head
        p.prefill_head = world.shards[after].next
        if p.prefill_head < 0:
            p.prefill_tail = -1
        world.shards[after].next = -1
        _prefill(world, after)
    row.next = -1
    if p.slot_tail >= 0:
        world.shards[p.slot_tail].next = shard
    else:
        p.slot_head = shard
    p.slot_tail = shard
    _take_slots(world, place)
    expect_ends(world, place)


@compiled
def progress(world: World, place: int) -> None:
    """Bring what decoding sequences and the prompt in the prefill slot have attained up to now."""
    p, now = world.places[place], world.tally[0].now
    if p.decoding > 0:
        p.attained_s += (now - p.attained_at_s) / (p.step + p.chunk)
    if p.prefill_left_s > 0.0:
        p.prefill_left_s -= (now - p.attained_at_s) / p.stretch
    p.attained_at_s = now


@compiled
def _take_slots(world: World, place: int) -> None:
    p = world.places[place]
    while p.slot_head >= 0:
        shard = p.slot_head
        row = world.shards[shard]
        if p.decoding > 0 and p.decoding + row.prompts > p.max_seqs:
            return
        p.slot_head = row.next
        if p.slot_head < 0:
            p.slot_tail = -1
        stage = world.stages[row.stage]
        row.decode_at_s = world.tally[0].now
        row.attained_end_s = p.attained_s + stage.output_tokens / world.decode_tps[stage.model, place]
        row.next = p.decode_head
        p.decode_head = shard
        p.decoding += row.prompts


@compiled
def expect_ends(world: World, place: int) -> None:
    """Expect the next end of a decoding there and, where prompts share its steps, that of the prompt in the slot."""
    p, now = world.places[place], world.tally[0].now
    p.generation += 1
    soonest, slowdown, context_slowdown, context = _NEVER_S, 0.0, 0.0, 0.0
    shard = p.decode_head
    while shard >= 0:
        row = world.shards[shard]
        s = world.stages[row.stage]
        soonest = min(soonest, row.attained_end_s)
        slowdown = max(slowdown, world.decode_slowdown[s.model, place])
        context_slowdown = max(context_slowdown, world.context_slowdown[s.model, place])
        context += context_tokens(row.prompts, s.prompt_tokens, s.output_tokens)
        shard = row.next
    p.context_tokens = context
    p.step = step(slowdown, max(1, p.decoding), context_slowdown, context)
    p.chunk = 0.0
    if p.batch_tokens > 0 and p.prefill_shard >= 0:
        _share_steps(world, place)
        p.prefill_until_s = now + max(0.0, p.prefill_left_s) * p.stretch
        p.prefill_generation += 1
        push(world, p.prefill_until_s, events.PREFILLED, place, p.prefill_generation)
    if p.decode_head >= 0:
        left_s = max(0.0, soonest - p.attained_s) * (p.step + p.chunk)
        push(world, now + left_s, events.DECODED, place, p.generation)


@compiled
def _share_steps(world: World, place: int) -> None:
    """Each step decodes a token of each sequence and computes a chunk of the prompt in the slot."""
    p = world.places[place]
    row = world.shards[p.prefill_shard]
    m = world.stages[row.stage].model
    tokens = chunk_tokens(p.batch_tokens, p.decoding, row.tokens)
    p.chunk = tokens / world.prefill_tps[m, place] * world.decode_tps[m, place]
    p.stretch = 1.0 + p.step / p.chunk if p.decoding > 0 else 1.0


@compiled
def _decoded(world: World, place: int) -> None:
    p = world.places[place]
    progress(world, place)
    soonest = _NEVER_S
    shard = p.decode_head
    while shard >= 0:
        soonest = min(soonest, world.shards[shard].attained_end_s)
        shard = world.shards[shard].next
    p.attained_s = max(p.attained_s, soonest)
    before, shard = -1, p.decode_head
    while shard >= 0:
        after = world.shards[shard].next
        if world.shards[shard].attained_end_s <= p.attained_s + SAME_TIME_S:
            if before >= 0:
                world.shards[before].next = after
            else:
                p.decode_head = after
            p.decoding -= world.shards[shard].prompts
            _end_shard(world, shard)
        else:
            before = shard
        shard = after
    _take_slots(world, place)
    expect_ends(world, place)


@compiled
def _end_shard(world: World, shard: int) -> None:
    row, now = world.shards[shard], world.tally[0].now
    place, stage = row.place, row.stage
    p, s = world.places[place], world.stages[stage]
    log.note_decode(world, row.decode_at_s, stage, row.number, place, now - row.decode_at_s)
    release(world, stage, place, row.retained)
    world.segments[s.conversation].tokens = s.prompt_tokens + s.output_tokens
    remember(world, place, s.conversation)
    resident = world.resident[place, s.model]
    resident.users -= 1
    resident.used_s = now
    p.bound_shards -= 1
    p.bound_seqs -= row.prompts
    world.workflows[s.workflow].served_s += now - row.prefill_s
    for k in range(world.overlap_indptr[place], world.overlap_indptr[place + 1]):
        _wake_place(world, world.overlap_indices[k])
    s.shards_left -= 1
    if s.shards_left == 0:
        _finish(world, stage)


@compiled
def _finish(world: World, stage: int) -> None:
    s, tally = world.stages[stage], world.tally
    now = tally[0].now
    s.status = DONE
    s.finish_s = now
    tally[0].stages_left -= 1
    log.note_stage(world, log.FINISH, stage)
    w = world.workflows[s.workflow]
    w.left -= 1
    w.work_left_s -= s.work_s
    for k in range(world.child_indptr[stage], world.child_indptr[stage + 1]):
        child = world.child_indices[k]
        world.stages[child].parents_left -= 1
        if world.stages[child].parents_left == 0:
            _make_ready(world, child)
    count_steps(world, s.workflow)
    if w.left == 0:
        w.done_s = now
        log.note_workflow(world, log.DONE, s.workflow)
