"""Where does a stage end soonest, its price counted? The price of a placement is what it costs others, in seconds."""

from __future__ import annotations

from airflow_fate.physics.dynamics.residency import read_s
from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.world.arrays import World
from airflow_fate.planner.dispatch.rule import Price, Rule
from airflow_fate.planner.forecast.estimate import CANNOT, MOVING_S, Candidate, Estimate, estimate
from airflow_fate.planner.forecast.pace import own_context_tokens, prefill_stretch, step
from airflow_fate.planner.forecast.prefixes import expected_prefill
from airflow_fate.planner.forecast.profile import NEVER_S, Profile, last_end_s, loads_done_s, prefill_busy_s
from airflow_fate.planner.forecast.residency import fits_from_s


@compiled
def price_s(
    world: World, profile: Profile, price: Price, candidate: Candidate, place: int, prompts: int, met: Estimate
) -> float:
    """Seconds that a placement costs others, evictions among them.

    :param met: what the prompts would meet there.
    """
    m = world.stages[candidate.stage].model
    evictions_s = profile.eviction_cost_s[place, m] if profile.ready_s[place, m] >= NEVER_S else 0.0
    return externality_s(world, profile, price, candidate, place, prompts, met, evictions_s)


@compiled
def externality_s(
    world: World,
    profile: Profile,
    price: Price,
    candidate: Candidate,
    place: int,
    prompts: int,
    met: Estimate,
    evictions_s: float,
) -> float:
    """The same, with another cost of the evictions."""
    cost_s = evictions_s + price.prefill * met.prefill_s
    m = world.stages[candidate.stage].model
    if price.recompute > 0.0:
        again = candidate.most_cached - met.cached_tokens
        tps = world.prefill_tps[m, place]
        cost_s += price.recompute * candidate.behind * again / tps
    if price.interference > 0.0:
        slowdown = world.decode_slowdown[m, place]
        cost_s += price.interference * slowdown * prompts * met.beside * met.lone_s * 0.5
        if world.places[place].batch_tokens > 0:
            # Who decodes beside it waits for its prompts as long as they take alone.
            cost_s += price.interference * met.beside * met.prompt_s
    if price.contention > 0.0:
        above = profile.pressure[place] - 1.0
        cost_s += price.contention * above * (met.prefill_s + met.decode_s / world.places[place].max_seqs)
    if price.busy_period > 0.0:
        cost_s += price.busy_period * max(0.0, met.finish_s - last_end_s(world, profile, place))
    return cost_s


@compiled
def lower_bound(
    world: World, profile: Profile, rule: Rule, candidate: Candidate, place: int, latest_s: float
) -> tuple[float, float]:
    """(finish, finish and price) that an estimate for the whole stage is never below; both at a part of its cost.

    Without transfers, without waiting for sequence slots, and without those that decode beside it. Both are `NEVER_S`
    where it can't start by ``latest_s``.
    """
    stage = candidate.stage
    s = world.stages[stage]
    m, prompts = s.model, s.prompts
    p = world.places[place]
    from_s, cost_s = profile.exclusive_until_s[place], 0.0
    if world.prefill_tps[m, place] <= 0.0 or p.usable == 0 or from_s > latest_s:
        return NEVER_S, NEVER_S
    if profile.ready_s[place, m] < NEVER_S:
        from_s = max(from_s, profile.prefill_free_s[place], profile.ready_s[place, m], candidate.from_s)
        if from_s - max(MOVING_S, rule.timing.bind_ahead_s) > latest_s:
            return NEVER_S, NEVER_S
    else:
        fits_s = fits_from_s(world, profile, rule.eviction, place, m)
        from_s = max(from_s, fits_s, loads_done_s(world, profile, place))
        if from_s > latest_s:
            return NEVER_S, NEVER_S
        from_s += read_s(world, place, m) if rule.sight.sees_loads else 0.0
        from_s = max(from_s, profile.prefill_free_s[place], candidate.from_s)
        cost_s = profile.eviction_cost_s[place, m]
    _, prefill_s = expected_prefill(world, profile, rule.sight, stage, place, prompts, False)
    lone_s = s.expected_tokens / world.decode_tps[m, place]
    decode_s = lone_s * step(world, place, m, prompts, own_context_tokens(world, stage, prompts))
    cost_s += rule.price.prefill * prefill_s
    if rule.price.contention > 0.0:
        above = profile.pressure[place] - 1.0
        slot_s, most_s = prefill_s, decode_s
        if above <= 0.0:
            slot_s, most_s = _most_s(world, profile, stage, place, prefill_s, lone_s)
        cost_s += rule.price.contention * above * (slot_s + most_s / p.max_seqs)
    finish_s = from_s + prefill_s + decode_s
    return finish_s, finish_s + cost_s


@compiled
def _most_s(
    world: World, profile: Profile, stage: int, place: int, prompt_s: float, lone_s: float
) -> tuple[float, float]:
    """(prefill, decode) in seconds that an estimate for the whole stage is never above: beside all that are bound."""
    m, prompts = world.stages[stage].model, world.stages[stage].prompts
    beside, context = profile.sequences[place], profile.context_tokens[place]
    pace = step(world, place, m, beside + prompts, context + own_context_tokens(world, stage, prompts))
    decode_s = lone_s * pace
    if world.places[place].batch_tokens > 0:
        prompt_s *= prefill_stretch(world, place, m, beside, context, prompt_s)
        decode_s += prefill_busy_s(profile, place, world.tally[0].now)
    return prompt_s, decode_s


@compiled
def best_place(
    world: World, profile: Profile, rule: Rule, candidate: Candidate, latest_s: float
) -> tuple[int, float, Estimate]:
    """(place, finish and price, what the whole stage would meet there) of the best place that can start it in time.

    The place is -1, and the seconds are `NEVER_S`, where none can. Places are looked at from the lowest bound on.

    :param latest_s: by when it must start.
    """
    prompts = world.stages[candidate.stage].prompts
    for place in range(world.places.shape[0]):
        _, profile.lower_bound_s[place] = lower_bound(world, profile, rule, candidate, place, latest_s)
    best, best_s, best_met = -1, NEVER_S, CANNOT
    while True:
        place = int(profile.lower_bound_s.argmin())
        if profile.lower_bound_s[place] >= best_s:
            return best, best_s, best_met
        profile.lower_bound_s[place] = NEVER_S
        met = estimate(world, profile, rule.sight, rule.timing, rule.eviction, candidate, place, prompts)
        if met.start_s <= latest_s:
            total_s = met.finish_s + price_s(world, profile, rule.price, candidate, place, prompts, met)
            if total_s < best_s:
                best, best_s, best_met = place, total_s, met
