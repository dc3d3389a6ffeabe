"""What happens next? A binary heap of events by time, ties in the order in which they were added."""

from __future__ import annotations

from airflow_fate.physics.kernel.compiled import compiled
from airflow_fate.physics.kernel.world import World


@compiled
def push(world: World, t: float, kind: int, index: int, stamp: int) -> None:
    heap, tally = world.heap, world.tally
    at = tally[0].events
    tally[0].events = at + 1
    order = tally[0].order
    tally[0].order = order + 1
    while at > 0:
        above = (at - 1) >> 1
        if heap[above].t <= t:
            break
        heap[at] = heap[above]
        at = above
    heap[at].t = t
    heap[at].order = order
    heap[at].kind = kind
    heap[at].index = index
    heap[at].stamp = stamp


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
        below = 2 * at + 1
        if below >= size:
            break
        right = below + 1
        if right < size and (
            heap[right].t < heap[below].t or (heap[right].t == heap[below].t and heap[right].order < heap[below].order)
        ):
            below = right
        if t < heap[below].t or (t == heap[below].t and order < heap[below].order):
            break
        heap[at] = heap[below]
        at = below
    heap[at] = heap[size]
