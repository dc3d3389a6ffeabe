"""What has the pass decided? A row for each stage that it bound or nominated, so that a person can be told why."""

from __future__ import annotations

from airflow_fate.physics.dynamics.residency import read_s
from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.jit.terms import SAME_TIME_S
from airflow_fate.physics.world.arrays import World
from airflow_fate.planner.dispatch.choice import lower_bound, price_s
from airflow_fate.planner.dispatch.rule import Rule
from airflow_fate.planner.forecast.estimate import Candidate, Estimate, estimate, transfer_s
from airflow_fate.planner.forecast.profile import EVER_S, NEVER_S, Profile


@compiled
def trace(
    world: World,
    profile: Profile,
    rule: Rule,
    candidate: Candidate,
    place: int,
    prompts: int,
    held: bool,
    met: Estimate,
) -> None:
    """Write a row, before the place is reserved; a profile without room for rows keeps none."""
    at = profile.counts[0].traced
    if at >= profile.trace.shape[0]:
        return
    profile.counts[0].traced = at + 1
    row = profile.trace[at]
    stage = candidate.stage
    m = world.stages[stage].model
    row.stage, row.place, row.prompts, row.held = stage, place, prompts, 1 if held else 0
    row.start_s, row.begin_s, row.end_s, row.finish_s = met.start_s, met.begin_s, met.end_s, met.finish_s
    row.price_s = price_s(world, profile, rule.price, candidate, place, prompts, met)
    row.cached = met.cached_tokens
    ready_s = profile.ready_s[place, m]
    row.resident = 1 if ready_s < NEVER_S else 0
    row.load_s = (
        max(0.0, ready_s - max(met.start_s, world.tally[0].now)) if ready_s < NEVER_S else read_s(world, place, m)
    )
    row.transfer_s = transfer_s(world, stage, place)
    _trace_rival(world, profile, rule, candidate, at)


@compiled
def _trace_rival(world: World, profile: Profile, rule: Rule, candidate: Candidate, at: int) -> None:
    """The best other place for the whole stage; -1 where there is none.

    For a stage that is held, the best of those on which it could begin now.
    """
    row = profile.trace[at]
    latest_s = world.tally[0].now + SAME_TIME_S if row.held == 1 else EVER_S
    s = world.stages[row.stage]
    whole = row.prompts == s.prompts
    row.rival, row.rival_s = -1, 0.0
    best_s = NEVER_S
    for absent in range(2):
        for place in range(world.places.shape[0]):
            if place == row.place and whole:
                continue
            if (profile.ready_s[place, s.model] >= NEVER_S) != (absent == 1):
                continue
            known_s = profile.fits_from_s[place, s.model]
            _, least_s = lower_bound(world, profile, rule, candidate, place, latest_s)
            if least_s < best_s:
                met = estimate(world, profile, rule.sight, rule.timing, rule.eviction, candidate, place, s.prompts)
                if met.start_s <= latest_s:
                    total_s = met.finish_s + price_s(world, profile, rule.price, candidate, place, s.prompts, met)
                    if total_s < best_s:
                        best_s = total_s
                        row.rival, row.rival_s = place, met.finish_s
            # To be told must not change what is decided: what the pass has not looked at stays so.
            profile.fits_from_s[place, s.model] = known_s
