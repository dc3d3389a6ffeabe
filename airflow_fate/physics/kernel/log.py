"""What happened? Rows for the event log; a world without room for a log keeps none."""

from __future__ import annotations

from airflow_fate.physics.kernel.compiled import compiled
from airflow_fate.physics.kernel.world import World


@compiled
def note(world: World, t: float, kind: int, a: int, b: int, c: int, x: float, y: float, z: float) -> None:
    at = world.tally[0].logged
    if at >= world.log.shape[0]:
        return
    world.tally[0].logged = at + 1
    row = world.log[at]
    row.t, row.kind = t, kind
    row.a, row.b, row.c = a, b, c
    row.x, row.y, row.z = x, y, z
