"""Who runs where now? One pass over the frontier in the rule's order: bind what should start, hold what should wait."""

from __future__ import annotations

from airflow_fate.physics.dynamics.event_loop import settle
from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.jit.terms import SAME_TIME_S
from airflow_fate.physics.world.arrays import WAITING, World
from airflow_fate.planner.dispatch.binding import bind, reserve
from airflow_fate.planner.dispatch.choice import best_place
from airflow_fate.planner.dispatch.order import look_ahead, sort_frontier
from airflow_fate.planner.dispatch.prefetch import prefetch
from airflow_fate.planner.dispatch.routers import route
from airflow_fate.planner.dispatch.rule import EARLIEST_FINISH, Rule
from airflow_fate.planner.dispatch.shards import split_batch
from airflow_fate.planner.dispatch.trace import trace
from airflow_fate.planner.dispatch.work_conserving import use_idle
from airflow_fate.planner.forecast.estimate import MOVING_S, Candidate, latest_start_s
from airflow_fate.planner.forecast.prefixes import assess_prefixes, most_cached_tokens
from airflow_fate.planner.forecast.profile import NEVER_S, Profile, loads_done_s, slots_from_s
from airflow_fate.planner.forecast.projection import project
from airflow_fate.planner.forecast.residency import assess_need, fits_from_s

_FEWEST_WAITING = 8
"""Stages of each model that may wait for busy places in one pass, however few places there are."""
_MOST_BEHIND = 4.0
"""Stages per place whose delay by a needless prefill counts; beyond them, the order will have changed."""


@compiled
def dispatch(world: World, profile: Profile, rule: Rule) -> None:
    """One pass, at one decision epoch."""
    count = world.tally[0].ready
    if count == 0 and rule.dispatch.prefetch <= 0.0:
        return
    look(world, profile, rule)
    usable = 0
    for place in range(world.places.shape[0]):
        usable += world.places[place].usable
    ready_per_place = count / max(1, usable)
    for k in range(count):
        s = world.stages[world.ready[k]]
        profile.unseen[s.model] += 1
        profile.counts[0].longest_s = max(profile.counts[0].longest_s, s.work_s)
    # Most epochs leave no place to start on, and then the order doesn't matter.
    if count > 0 and (rule.dispatch.push or _any_can_start(world, profile, rule)):
        if rule.dispatch.lookahead > 0.0:
            look_ahead(world, profile, rule.dispatch.lookahead)
        _place_all(world, profile, rule, sort_frontier(world, profile, rule.order), ready_per_place)
        if rule.price.recompute > 0.0 or rule.dispatch.yielding > 0.0:
            use_idle(world, profile, rule)
    if ready_per_place < rule.dispatch.prefetch:
        prefetch(world, profile, rule.eviction)
    settle(world)


@compiled
def look(world: World, profile: Profile, rule: Rule) -> None:
    """See how things stand, before anything is placed."""
    project(world, profile, rule.sight)
    assess_need(world, profile)
    if rule.eviction.lost_prefixes > 0.0:
        assess_prefixes(world, profile)


@compiled
def _place_all(world: World, profile: Profile, rule: Rule, count: int, ready_per_place: float) -> None:
    most_waiting = _FEWEST_WAITING + int(rule.dispatch.depth * world.places.shape[0])
    push, changed = rule.dispatch.push, False
    for k in range(count):
        stage = profile.order[k]
        m = world.stages[stage].model
        if changed and not push and not _any_can_start(world, profile, rule):
            return
        changed = False
        if world.stages[stage].status == WAITING:
            if profile.waiting[m] < most_waiting:
                soon = _candidate(world, profile, rule, stage, profile.begins_s[stage], count - 1 - k)
                changed = _place_earliest(world, profile, rule, soon)
            continue
        profile.unseen[m] -= 1
        if not push and profile.waiting[m] >= most_waiting:
            continue
        candidate = _candidate(world, profile, rule, stage, world.tally[0].now, count - 1 - k)
        if push or rule.dispatch.place != EARLIEST_FINISH:
            place, met = route(world, profile, rule, candidate)
            if place >= 0:
                bind(world, profile, rule, candidate, place, met)
                changed = True
            elif not push:
                profile.waiting[m] = most_waiting
            continue
        changed = profile.unseen[m] == 0
        if ready_per_place < rule.dispatch.shards and split_batch(world, profile, rule, candidate):
            changed = True
            continue
        changed = _place_earliest(world, profile, rule, candidate) or changed


@compiled
def _candidate(world: World, profile: Profile, rule: Rule, stage: int, from_s: float, after: int) -> Candidate:
    """:param after: stages that come after it."""
    if rule.price.recompute <= 0.0:
        return Candidate(stage, from_s, 0.0, 0.0)
    behind = min(_MOST_BEHIND, after / world.places.shape[0])
    return Candidate(stage, from_s, behind, most_cached_tokens(world, profile, rule.sight, stage))


@compiled
def _any_can_start(world: World, profile: Profile, rule: Rule) -> bool:
    """Whether a stage that was not looked at yet could start anywhere; the others need not be looked at."""
    latest_s = world.tally[0].now + SAME_TIME_S
    early_s = max(MOVING_S, rule.timing.bind_ahead_s)
    slots_by_s = latest_s + rule.timing.overlap * profile.counts[0].longest_s
    for place in range(world.places.shape[0]):
        p = world.places[place]
        if p.usable == 0 or profile.exclusive_until_s[place] > latest_s:
            continue
        if p.bound_seqs >= p.max_seqs and slots_from_s(world, profile, place, 1) > slots_by_s:
            continue
        if profile.prefill_free_s[place] > latest_s + early_s:
            continue
        can_load = loads_done_s(world, profile, place) <= latest_s
        for m in range(world.models.shape[0]):
            if profile.unseen[m] == 0 or world.prefill_tps[m, place] <= 0.0:
                continue
            if profile.ready_s[place, m] < NEVER_S:
                if profile.ready_s[place, m] <= latest_s + early_s:
                    return True
            elif can_load and fits_from_s(world, profile, rule.eviction, place, m) <= latest_s:
                return True
    return False


@compiled
def _place_earliest(world: World, profile: Profile, rule: Rule, candidate: Candidate) -> bool:
    """Bind the stage where it ends soonest, or nominate it for that place; False where nothing changed."""
    stage = candidate.stage
    s = world.stages[stage]
    prompts, is_soon = s.prompts, s.status == WAITING
    best, _, met = best_place(world, profile, rule, candidate, latest_start_s(rule.timing, candidate.from_s))
    if best < 0:
        profile.waiting[s.model] += 1
        return False
    if met.start_s <= world.tally[0].now + SAME_TIME_S and not is_soon:
        bind(world, profile, rule, candidate, best, met)
        return True
    if not is_soon:
        profile.waiting[s.model] += 1
        if not rule.dispatch.reserve:
            return False
        trace(world, profile, rule, candidate, best, prompts, True, met)
        nomination = profile.nominations[profile.counts[0].nominated]
        nomination.stage, nomination.place = stage, best
        nomination.prefill_s, nomination.end_s = met.end_s - met.begin_s, met.finish_s
        profile.counts[0].nominated += 1
    reserve(world, profile, rule, stage, best, prompts, met)
    return True
