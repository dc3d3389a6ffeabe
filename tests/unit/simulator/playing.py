"""Ways to play a world: after a list policy, or at random within what the physics allows."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from airflow_fate.cluster import Fleet
from airflow_fate.physics.dynamics.event_loop import advance, begin_binding, bind_shard, settle
from airflow_fate.physics.dynamics.residency import ask, evict, evictable, fits
from airflow_fate.physics.world.arrays import ABSENT, PREFETCH, REPLICATE, World
from airflow_fate.physics.world.encode import Encoded, encode
from airflow_fate.planner.dispatch.dispatch import dispatch
from airflow_fate.planner.dispatch.rollout import rollout
from airflow_fate.planner.dispatch.rule import Rule
from airflow_fate.planner.forecast.profile import make_profile
from airflow_fate.simulator.events import event_log
from airflow_fate.simulator.workload import Workload


def begin(workload: Workload, fleet: Fleet) -> Encoded:
    return encode(workload.workflows, fleet, output_tokens=workload.output_tokens)


def follow(world: World, rule: Rule) -> Iterator[None]:
    """Play after a rule, and stop before and after each of its passes."""
    profile = make_profile(world)
    while advance(world):
        yield
        dispatch(world, profile, rule)
        yield


def wander(world: World, seed: int) -> Iterator[None]:
    """Play at random: bind anywhere where the model can be held, in any parts; load and evict without need.

    It stops where :func:`follow` does.
    """
    rng = random.Random(seed)
    binds, evicts, loads = rng.choice((0.2, 0.7, 1.0)), rng.choice((0.0, 0.1, 0.5)), rng.choice((0.0, 0.1))
    while advance(world) or world.tally[0].ready > 0:
        yield
        # When nothing else is left to come, all must be bound.
        certain = world.tally[0].events == 0 and world.tally[0].arrived == len(world.arrivals)
        _evict_some(world, rng, evicts)
        _load_some(world, rng, loads)
        for stage in world.ready[: world.tally[0].ready].tolist():
            if certain or rng.random() < binds:
                _bind(world, rng, stage)
        settle(world)
        yield


def log_of(workload: Workload, fleet: Fleet, rule: Rule) -> list[dict[str, Any]]:
    """The event log of a run after a rule."""
    encoded = begin(workload, fleet)
    rollout(encoded.world, make_profile(encoded.world), rule, 1 << 60)
    return event_log(encoded)


def wandering_log(workload: Workload, fleet: Fleet, seed: int) -> list[dict[str, Any]]:
    encoded = begin(workload, fleet)
    for _ in wander(encoded.world, seed):
        pass
    return event_log(encoded)


def _bind(world: World, rng: random.Random, stage: int) -> None:
    s = world.stages[stage]
    able = np.flatnonzero(world.prefill_tps[s.model] > 0).tolist()
    places = rng.sample(able, rng.randint(1, min(len(able), int(s.max_shards), int(s.prompts))))
    cuts = sorted(rng.sample(range(1, int(s.prompts)), len(places) - 1))
    begin_binding(world, stage)
    for place, first, end in zip(places, [0, *cuts], [*cuts, int(s.prompts)], strict=True):
        bind_shard(world, stage, place, end - first)


def _evict_some(world: World, rng: random.Random, share: float) -> None:
    for place, model in np.ndindex(world.resident.shape):
        if rng.random() < share and evictable(world, place, model):
            evict(world, place, model)


def _load_some(world: World, rng: random.Random, share: float) -> None:
    """Only what can begin at once: the log tells of a load when it begins, not when it is asked for."""
    for place, model in np.ndindex(world.resident.shape):
        if rng.random() < share and world.resident[place, model].status == ABSENT and _can_begin(world, place, model):
            ask(world, place, model, rng.choice((PREFETCH, REPLICATE)))
            settle(world)


def _can_begin(world: World, place: int, model: int) -> bool:
    members = _members(world, place)
    queued = {device for load in world.loads[: world.tally[0].loads] for device in _members(world, load.place)}
    return bool(
        world.prefill_tps[model, place] > 0
        and queued.isdisjoint(members)
        and not world.devices["loading"][members].any()
        and fits(world, place, model)
    )


def _members(world: World, place: int) -> list[int]:
    devices: list[int] = world.member_indices[world.member_indptr[place] : world.member_indptr[place + 1]].tolist()
    return devices
