"""What comes of a schedule that is given? Each device makes its visits in order, on the simulator's own physics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_fate.cluster import Fleet
from airflow_fate.physics.dynamics.event_loop import advance, begin_binding, bind_shard, settle
from airflow_fate.physics.dynamics.residency import ask, waits_for_room
from airflow_fate.physics.world.arrays import ABSENT, LOADED, PREFETCH, READY, World
from airflow_fate.physics.world.encode import encode
from airflow_fate.simulator.events import event_log
from airflow_fate.simulator.workload import Workload
from airflow_fate.workflow import StageRef

Schedule = dict[str, list[StageRef | str]]
"""Device -> its visits: stages, and models that are loaded for the node's memory alone."""


def replay(workload: Workload, fleet: Fleet, schedule: Schedule) -> list[dict[str, Any]]:
    """The event log of the schedule: a stage is bound as soon as it is ready and those before it on its device are.

    The model of the next visit is loaded ahead.

    :raises ValueError: when the order of the visits contradicts the workflows.
    """
    encoded = encode(workload.workflows, fleet, output_tokens=workload.output_tokens)
    world, stages = encoded.world, encoded.stage_index()
    left = {
        encoded.places.index(device): [
            (-1, encoded.models.index(visit))
            if isinstance(visit, str)
            else (stages[visit], int(world.stages[stages[visit]].model))
            for visit in visits
        ]
        for device, visits in schedule.items()
    }
    while advance(world):
        for place, visits in left.items():
            while visits and _begin_visit(world, place, *visits[0]):
                del visits[0]
            settle(world)
    if world.tally[0].stages_left:
        raise ValueError("the order of the visits contradicts the workflows")
    return event_log(encoded)


def _begin_visit(world: World, place: int, stage: int, model: int) -> bool:
    """Whether the visit has been made, so that the next is due."""
    if stage >= 0 and world.stages[stage].status == READY:
        begin_binding(world, stage)
        bind_shard(world, stage, place, 1)
        return True
    if stage < 0 and world.resident[place, model].status == LOADED:
        return True
    if world.resident[place, model].status == ABSENT and _all_are_in(world, place):
        ask(world, place, model, PREFETCH)
    return False


def _all_are_in(world: World, place: int) -> bool:
    """Whether nothing that is bound there still waits for a load of its model, before which a load ahead would come."""
    if waits_for_room(world, place):
        return False
    shard = world.places[place].wait_head
    while shard >= 0:
        if world.shards[shard].admitted == 0:
            return False
        shard = world.shards[shard].next
    return True


def schedule_of(events: Sequence[dict[str, Any]]) -> Schedule:
    """The schedule that a log followed."""
    schedule: Schedule = {}
    for event in events:
        if event["event"] == "prefill":
            schedule.setdefault(event["device"], []).append(StageRef(event["workflow"], event["stage"]))
    return schedule
