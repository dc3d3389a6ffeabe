"""What happens when time goes on? Arrivals, tools, loads, inputs, prefills and decodes, as in docs/physics.md."""

from __future__ import annotations

from airflow_fate.physics.kernel import events
from airflow_fate.physics.kernel.compiled import compiled
from airflow_fate.physics.kernel.heap import drop_first, push
from airflow_fate.physics.kernel.log import note
from airflow_fate.physics.kernel.prefixes import (
    cached_tokens,
    pin_cached,
    prefill_tokens,
    remember,
    unpin,
    use_chain,
)
from airflow_fate.physics.kernel.residency import ask, loaded, start_loads, waits_for_room
from airflow_fate.physics.kernel.world import ABSENT, BOUND, DEMAND, DONE, LOADED, READY, STEPS, WAITING, World

_SAME_TIME_S = 1e-9


@compiled
def advance(world: World) -> bool:
    """Go on to the next moment at which something happens, and let it happen; False when nothing is left to come.

    All that happens at one moment has happened when it returns: it is time to plan.
    """
    tally = world.tally
    while True:
        arrival_s = 1e300
        if tally[0].arrived < world.arrivals.shape[0]:
            arrival_s = world.workflows[world.arrivals[tally[0].arrived]].arrival_s
        while tally[0].events > 0 and _stale(world):
            drop_first(world)
        event_s = world.heap[0].t if tally[0].events > 0 else 1e300
        t = min(arrival_s, event_s)
        if t >= 1e300:
            return False
        tally[0].now = max(tally[0].now, t)
        until_s = t + _SAME_TIME_S
        while tally[0].arrived < world.arrivals.shape[0]:
            workflow = world.arrivals[tally[0].arrived]
            if world.workflows[workflow].arrival_s > until_s:
                break
            tally[0].arrived += 1
            _arrive(world, workflow)
        while tally[0].events > 0 and world.heap[0].t <= until_s:
            kind, index, stamp = world.heap[0].kind, world.heap[0].index, world.heap[0].stamp
            stale = _stale(world)
            drop_first(world)
            if stale:
                continue
            if kind == events.PREFILLED:
                _prefilled(world, index)
            elif kind == events.DECODED:
                _decoded(world, index)
            elif kind == events.LOADED:
                loaded(world, index, stamp)
                _wake_place(world, index)
            elif kind == events.INPUTS:
                _try_lane(world, index)
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
    return first.kind == events.DECODED and first.stamp != world.places[first.index].stamp


@compiled
def _arrive(world: World, workflow: int) -> None:
    w = world.workflows[workflow]
    note(world, world.tally[0].now, events.ARRIVE, workflow, 0, 0, 0.0, 0.0, 0.0)
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
    note(world, now, events.READY, stage, 0, 0, 0.0, 0.0, 0.0)
    if s.tool != 0:
        s.status = BOUND
        push(world, now + s.duration_s, events.TOOL_ENDED, stage, 0)
        note(world, now, events.TOOL, stage, 0, 0, s.duration_s, 0.0, 0.0)
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
        for k in range(world.parent_at[stage], world.parent_at[stage + 1]):
            parent = world.stages[world.parent[k]]
            if parent.status != DONE:
                steps = max(steps, min(STEPS, parent.steps + 1))
        if s.tool == 0 and s.status != BOUND and steps != s.steps:
            if s.steps >= 0:
                world.coming_s[s.model, s.steps] -= s.work_s
            world.coming_s[s.model, steps] += s.work_s
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
    world.coming_s[s.model, s.steps] -= s.work_s
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
    one = world.shards[shard]
    one.stage, one.place, one.prompts, one.number = stage, place, prompts, s.shards
    one.admitted, one.next, one.pinned = 0, -1, 0
    one.bound_s = now
    one.prefill_s = -1.0
    one.decode_at_s = -1.0
    s.shards += 1
    s.shards_left += 1
    p = world.places[place]
    p.bound_shards += 1
    p.bound_seqs += prompts
    p.unfilled += 1
    note(world, now, events.BIND, stage, one.number, place, prompts, 0.0, 0.0)
    one.inputs_s = now + _move_inputs(world, stage, one.number, place)
    if one.inputs_s > now:
        push(world, one.inputs_s, events.INPUTS, shard, 0)
    if p.wait_tail >= 0:
        world.shards[p.wait_tail].next = shard
    else:
        p.wait_head = shard
    p.wait_tail = shard
    _try_lane(world, shard)


@compiled
def _move_inputs(world: World, stage: int, number: int, place: int) -> float:
    """Seconds until the parents' outputs lie on the place's node, one after another."""
    at_s = world.tally[0].now
    node, gbps = world.places[place].node, world.places[place].gbps
    total = 0.0
    for k in range(world.parent_at[stage], world.parent_at[stage + 1]):
        parent = world.parent[k]
        q = world.stages[parent]
        for i in range(q.first_shard, q.first_shard + q.shards):
            source = world.shards[i]
            if world.places[source.place].node == node:
                continue
            moved = q.output_bytes * (source.prompts / q.prompts)
            seconds = world.tally[0].latency_s + moved * 8.0 / (gbps * 1e9)
            note(world, at_s + total, events.TRANSFER, stage, number, parent, moved, seconds, place)
            total += seconds
    return total


@compiled
def _conflicts(world: World, place: int, shard: int) -> bool:
    """Whether a place that shares a device is busy with a shard that was bound before this one."""
    for k in range(world.overlap_at[place], world.overlap_at[place + 1]):
        other = world.places[world.overlap[k]]
        if other.bound_shards == 0:
            continue
        if other.lane_shard >= 0 or other.lane_head >= 0 or other.seat_head >= 0 or other.run_head >= 0:
            return True
        waiting = other.wait_head
        while waiting >= 0:
            if waiting < shard or world.shards[waiting].admitted != 0:
                return True
            waiting = world.shards[waiting].next
    return False


@compiled
def _try_lane(world: World, shard: int) -> None:
    """Let a waiting shard into the queue of the prefill lane, once its model and its inputs are there."""
    one = world.shards[shard]
    place = one.place
    p = world.places[place]
    model = world.stages[one.stage].model
    if one.admitted == 0:
        if world.overlap_at[place + 1] > world.overlap_at[place] and _conflicts(world, place, shard):
            return
        there = world.resident[place, model]
        if (there.status == LOADED or there.status == ABSENT) and waits_for_room(world, place):
            return
        one.admitted = 1
        there.users += 1
        if there.status == ABSENT:
            ask(world, place, model, DEMAND)
    if world.resident[place, model].status != LOADED or one.inputs_s > world.tally[0].now + _SAME_TIME_S:
        return
    before, at = -1, p.wait_head
    while at != shard:
        if at < 0:
            # Its model came at the very moment of its inputs, and has woken it already.
            return
        before, at = at, world.shards[at].next
    if before >= 0:
        world.shards[before].next = one.next
    else:
        p.wait_head = one.next
    if p.wait_tail == shard:
        p.wait_tail = before
    one.next = -1
    if p.lane_shard < 0:
        _prefill(world, shard)
    else:
        if p.lane_tail >= 0:
            world.shards[p.lane_tail].next = shard
        else:
            p.lane_head = shard
        p.lane_tail = shard


@compiled
def _wake_place(world: World, place: int) -> None:
    shard = world.places[place].wait_head
    while shard >= 0:
        after = world.shards[shard].next
        _try_lane(world, shard)
        shard = after


@compiled
def _prefill(world: World, shard: int) -> None:
    one = world.shards[shard]
    place, stage = one.place, one.stage
    p, now = world.places[place], world.tally[0].now
    model = world.stages[stage].model
    one.cached = cached_tokens(world, stage, place)
    one.tokens = prefill_tokens(world, stage, one.prompts, one.cached)
    one.pinned = pin_cached(world, stage, place)
    one.prefill_s = now
    seconds = one.tokens / world.prefill_tps[model, place]
    p.lane_shard = shard
    p.lane_until_s = now + seconds
    push(world, now + seconds, events.PREFILLED, place, 0)
    note(world, now, events.PREFILL, stage, one.number, place, one.tokens, one.cached, seconds)


@compiled
def _prefilled(world: World, place: int) -> None:
    p = world.places[place]
    shard = p.lane_shard
    one = world.shards[shard]
    one.pinned = use_chain(world, one.stage, place, one.pinned)
    p.unfilled -= 1
    p.lane_shard = -1
    if p.lane_head >= 0:
        after = p.lane_head
        p.lane_head = world.shards[after].next
        if p.lane_head < 0:
            p.lane_tail = -1
        world.shards[after].next = -1
        _prefill(world, after)
    one.next = -1
    if p.seat_tail >= 0:
        world.shards[p.seat_tail].next = shard
    else:
        p.seat_head = shard
    p.seat_tail = shard
    progress(world, place)
    _take_seats(world, place)
    expect_decoded(world, place)


@compiled
def progress(world: World, place: int) -> None:
    """Bring the decode progress of a lone sequence up to now."""
    p, now = world.places[place], world.tally[0].now
    if p.decoding > 0:
        p.virtual_s += (now - p.virtual_at_s) / (1.0 + world.tally[0].decode_slowdown * (p.decoding - 1))
    p.virtual_at_s = now


@compiled
def _take_seats(world: World, place: int) -> None:
    p = world.places[place]
    while p.seat_head >= 0:
        shard = p.seat_head
        one = world.shards[shard]
        if p.decoding > 0 and p.decoding + one.prompts > p.max_seqs:
            return
        p.seat_head = one.next
        if p.seat_head < 0:
            p.seat_tail = -1
        stage = world.stages[one.stage]
        one.decode_at_s = world.tally[0].now
        one.virtual_end_s = p.virtual_s + stage.output_tokens / world.decode_tps[stage.model, place]
        one.next = p.run_head
        p.run_head = shard
        p.decoding += one.prompts


@compiled
def expect_decoded(world: World, place: int) -> None:
    p = world.places[place]
    p.stamp += 1
    if p.run_head < 0:
        return
    soonest = 1e300
    shard = p.run_head
    while shard >= 0:
        soonest = min(soonest, world.shards[shard].virtual_end_s)
        shard = world.shards[shard].next
    left_s = max(0.0, soonest - p.virtual_s) * (1.0 + world.tally[0].decode_slowdown * (p.decoding - 1))
    push(world, world.tally[0].now + left_s, events.DECODED, place, p.stamp)


@compiled
def _decoded(world: World, place: int) -> None:
    p = world.places[place]
    progress(world, place)
    soonest = 1e300
    shard = p.run_head
    while shard >= 0:
        soonest = min(soonest, world.shards[shard].virtual_end_s)
        shard = world.shards[shard].next
    p.virtual_s = max(p.virtual_s, soonest)
    before, shard = -1, p.run_head
    while shard >= 0:
        after = world.shards[shard].next
        if world.shards[shard].virtual_end_s <= p.virtual_s + _SAME_TIME_S:
            if before >= 0:
                world.shards[before].next = after
            else:
                p.run_head = after
            p.decoding -= world.shards[shard].prompts
            _end_shard(world, shard)
        else:
            before = shard
        shard = after
    _take_seats(world, place)
    expect_decoded(world, place)


@compiled
def _end_shard(world: World, shard: int) -> None:
    one, now = world.shards[shard], world.tally[0].now
    place, stage = one.place, one.stage
    p, s = world.places[place], world.stages[stage]
    note(world, one.decode_at_s, events.DECODE, stage, one.number, place, now - one.decode_at_s, 0.0, 0.0)
    unpin(world, stage, place, one.pinned)
    world.segments[s.conversation].tokens = s.prompt_tokens + s.output_tokens
    remember(world, place, s.conversation)
    there = world.resident[place, s.model]
    there.users -= 1
    there.used_s = now
    p.bound_shards -= 1
    p.bound_seqs -= one.prompts
    world.workflows[s.workflow].served_s += now - one.prefill_s
    for k in range(world.overlap_at[place], world.overlap_at[place + 1]):
        _wake_place(world, world.overlap[k])
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
    note(world, now, events.FINISH, stage, 0, 0, 0.0, 0.0, 0.0)
    w = world.workflows[s.workflow]
    w.left -= 1
    w.work_left_s -= s.work_s
    for k in range(world.child_at[stage], world.child_at[stage + 1]):
        child = world.child[k]
        world.stages[child].parents_left -= 1
        if world.stages[child].parents_left == 0:
            _make_ready(world, child)
    count_steps(world, s.workflow)
    if w.left == 0:
        w.done_s = now
        note(world, now, events.DONE, s.workflow, 0, 0, 0.0, 0.0, 0.0)
