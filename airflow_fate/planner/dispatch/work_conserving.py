"""Is there something for a place that nobody wanted? The pass that leaves no place idle beside stages that wait."""

from __future__ import annotations

from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.jit.terms import SAME_TIME_S
from airflow_fate.physics.world.arrays import READY, World
from airflow_fate.planner.dispatch.binding import bind
from airflow_fate.planner.dispatch.choice import lower_bound
from airflow_fate.planner.dispatch.rule import Rule
from airflow_fate.planner.forecast.estimate import CANNOT, Candidate, estimate
from airflow_fate.planner.forecast.profile import NEVER_S, Profile


@compiled
def use_idle(world: World, profile: Profile, rule: Rule) -> None:
    """Give such places to waiting stages that end earlier there.

    A stage waits beside free places where computing its prefix once more would take their time from others. Where no
    other stage has taken that time, it is free. Those that waited behind it are spared its time on the busy place: for
    that it may itself end a little later.
    """
    latest_s = world.tally[0].now + SAME_TIME_S
    longest_s = SAME_TIME_S
    for k in range(profile.counts[0].nominated):
        longest_s = max(longest_s, world.stages[profile.nominations[k].stage].rank_s)
    for k in range(profile.counts[0].nominated):
        nomination = profile.nominations[k]
        stage = nomination.stage
        s = world.stages[stage]
        if s.status != READY:
            continue
        best, best_s, best_met = -1, nomination.end_s, CANNOT
        if rule.dispatch.yielding > 0.0:
            slack = 1.0 - s.rank_s / longest_s
            spared_s = rule.dispatch.yielding * slack * nomination.prefill_s
            best_s += spared_s * _behind(world, profile, k)
        candidate = Candidate(stage, world.tally[0].now, 0.0, 0.0)
        for place in range(world.places.shape[0]):
            soonest_s, _ = lower_bound(world, profile, rule, candidate, place, latest_s)
            if soonest_s >= best_s:
                continue
            met = estimate(world, profile, rule.sight, rule.timing, rule.eviction, candidate, place, s.prompts)
            if met.start_s > latest_s:
                continue
            finish_s = met.finish_s
            if profile.ready_s[place, s.model] >= NEVER_S:
                finish_s += profile.eviction_cost_s[place, s.model]
            if finish_s < best_s:
                best, best_s, best_met = place, finish_s, met
        if best >= 0:
            bind(world, profile, rule, candidate, best, best_met)


@compiled
def _behind(world: World, profile: Profile, nominated: int) -> int:
    """Stages that wait for the same place and come later."""
    count = 0
    for k in range(nominated + 1, profile.counts[0].nominated):
        later = profile.nominations[k]
        if later.place == profile.nominations[nominated].place and world.stages[later.stage].status == READY:
            count += 1
    return count
