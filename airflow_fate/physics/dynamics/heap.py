"""What happens next? A binary heap of events by time, ties in the order in which they were added."""

from __future__ import annotations

from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.world.arrays import World


@compiled
def push(world: World, t: float, kind: int, index: int, generation: int) -> None:
    heap, tally = world.heap, world.tally
    at = tally[0].events
    tally[0].events = at + 1
    order = tally[0].order
    tally[0].order = order + 1
    while at > 0:
        parent = (at - 1) >> 1
        if heap[parent].t <= t:
            break
        heap[at] = heap[parent]
        at = parent
    heap[at].t = t
    heap[at].order = order
    heap[at].kind = kind
    heap[at].index = index
    heap[at].generation = generation


@compiled
def drop_first(world: World) -> None:
    heap, tally = world.heap, world.tally
    size = tally[0].events - 1
    tally[0].events = size
    if size == 0:
        return
    t, order = heap[size].t, heap[size].order
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        right = child + 1
        if right < size and (
            heap[right].t < heap[child].t or (heap[right].t == heap[child].t and heap[right].order < heap[child].order)
        ):
            child = right
        if t < heap[child].t or (t == heap[child].t and order < heap[child].order):
            break
        heap[at] = heap[child]
        at = child
    heap[at] = heap[size]
