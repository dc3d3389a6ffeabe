"""Who runs where now? One pass over the frontier in the rule's order: bind what should start, hold what should wait."""

from __future__ import annotations

from airflow_fate.physics.kernel.compiled import compiled
from airflow_fate.physics.kernel.engine import settle
from airflow_fate.physics.kernel.world import WAITING, World
from airflow_fate.planner.lists.ahead import load_ahead
from airflow_fate.planner.lists.atbest import at_best
from airflow_fate.planner.lists.binding import bind
from airflow_fate.planner.lists.booked import book
from airflow_fate.planner.lists.foresight import foresee
from airflow_fate.planner.lists.idle import use_idle
from airflow_fate.planner.lists.order import fill_keys, sort_frontier
from airflow_fate.planner.lists.outlook import fill
from airflow_fate.planner.lists.prefixes import assess_prefixes, most_found_tokens
from airflow_fate.planner.lists.quote import CANNOT, MOVING_S, gate_s, latest_start_s, quote, reserve
from airflow_fate.planner.lists.rooms import assess_need, choose_victims, room
from airflow_fate.planner.lists.routers import route
from airflow_fate.planner.lists.rule import EARLIEST_FINISH, Rule
from airflow_fate.planner.lists.shards import split_batch
from airflow_fate.planner.lists.view import NEVER_S, NOW_S, View, seats_from_s

_FEWEST_HELD = 8
"""Stages of each model that may wait for busy places in one pass, however few places there are."""
_MOST_BEHIND = 4.0
"""Stages per place whose delay by a needless prefill counts; beyond them, the order will have changed."""


@compiled
def decide(world: World, view: View, rule: Rule) -> None:
    tally = world.tally
    count = tally[0].ready
    if count == 0 and rule.prefetch <= 0.0:
        return
    look(world, view, rule)
    usable = 0
    for place in range(world.places.shape[0]):
        usable += world.places[place].usable
    backlog = count / max(1, usable)
    for k in range(count):
        s = world.stages[world.ready[k]]
        view.left[s.model] += 1
        view.marks[0].longest_s = max(view.marks[0].longest_s, s.work_s)
    # Most moments leave no place to start on, and then the order doesn't matter.
    if count > 0 and (rule.push or _any_can_start(world, view, rule)):
        if rule.foresight > 0.0:
            foresee(world, view, rule)
            count += view.marks[0].foreseen
        fill_keys(world, view, rule)
        sort_frontier(world, view, count)
        _place_all(world, view, rule, count, backlog)
        if (rule.rush > 0.0 or rule.cede > 0.0) and view.marks[0].turns > 0:
            view.marks[0].from_s, view.marks[0].behind = world.tally[0].now, 0.0
            use_idle(world, view, rule)
    if backlog < rule.prefetch:
        load_ahead(world, view, rule)
    settle(world)


@compiled
def look(world: World, view: View, rule: Rule) -> None:
    """See how things stand, before anything is placed."""
    fill(world, view, rule)
    assess_need(world, view)
    if rule.keep > 0.0:
        assess_prefixes(world, view)


@compiled
def _place_all(world: World, view: View, rule: Rule, count: int, backlog: float) -> None:
    most_holds = _FEWEST_HELD + int(rule.depth * world.places.shape[0])
    changed = False
    for k in range(count):
        stage = view.order[k]
        m = world.stages[stage].model
        if changed and not rule.push and not _any_can_start(world, view, rule):
            return
        changed = False
        if world.stages[stage].status == WAITING:
            if view.holds[m] < most_holds:
                _take_in_hand(world, view, rule, stage, view.from_s[stage], count - 1 - k)
                changed = _earliest(world, view, rule, stage)
            continue
        view.left[m] -= 1
        if rule.push:
            place = route(world, view, rule, stage)
            if place >= 0:
                bind(world, view, rule, stage, place)
            continue
        if view.holds[m] >= most_holds:
            continue
        if rule.place != EARLIEST_FINISH:
            place = route(world, view, rule, stage)
            if place >= 0:
                bind(world, view, rule, stage, place)
                changed = True
            else:
                view.holds[m] = most_holds
            continue
        changed = view.left[m] == 0
        _take_in_hand(world, view, rule, stage, world.tally[0].now, count - 1 - k)
        if backlog < rule.shards and split_batch(world, view, rule, stage):
            changed = True
            continue
        changed = _earliest(world, view, rule, stage) or changed


@compiled
def _take_in_hand(world: World, view: View, rule: Rule, stage: int, from_s: float, behind: int) -> None:
    """:param behind: stages that come after it."""
    view.marks[0].from_s = from_s
    if rule.rush > 0.0:
        view.marks[0].behind = min(_MOST_BEHIND, behind / world.places.shape[0])
        view.marks[0].most = most_found_tokens(world, view, rule, stage)


@compiled
def _any_can_start(world: World, view: View, rule: Rule) -> bool:
    """Whether a stage that was not looked at yet could start anywhere; the others need not be looked at."""
    latest_s = world.tally[0].now + NOW_S
    early_s = max(MOVING_S, rule.bind_ahead_s)
    seats_by_s = latest_s + rule.overlap * view.marks[0].longest_s
    for place in range(world.places.shape[0]):
        p = world.places[place]
        if p.usable == 0 or view.closed_s[place] > latest_s:
            continue
        if p.bound_seqs >= p.max_seqs and seats_from_s(world, view, place, 1) > seats_by_s:
            continue
        if view.lane_s[place] > latest_s + early_s:
            continue
        gate_free = gate_s(world, view, place) <= latest_s
        for m in range(world.models.shape[0]):
            if view.left[m] == 0 or world.prefill_tps[m, place] <= 0.0:
                continue
            if view.ready_s[place, m] < NEVER_S:
                if view.ready_s[place, m] <= latest_s + early_s:
                    return True
            elif gate_free:
                if view.room_s[place, m] < 0.0:
                    room(world, view, rule, place, m)
                if view.room_s[place, m] <= latest_s:
                    return True
    return False


@compiled
def _earliest(world: World, view: View, rule: Rule, stage: int) -> bool:
    """Bind the stage where it ends soonest, or have it take a turn there; False where nothing changed."""
    now, prompts = world.tally[0].now, world.stages[stage].prompts
    m = world.stages[stage].model
    latest_s = latest_start_s(rule, view.marks[0].from_s)
    foreseen = world.stages[stage].status == WAITING
    for place in range(world.places.shape[0]):
        _, view.bound_s[place] = at_best(world, view, rule, stage, place, latest_s)
    best, best_score, best_offer = -1, NEVER_S, CANNOT
    while True:
        place = int(view.bound_s.argmin())
        if view.bound_s[place] >= best_score:
            break
        view.bound_s[place] = NEVER_S
        offer = quote(world, view, rule, stage, place, prompts)
        if offer.start_s <= latest_s and offer.finish_s + offer.others_s < best_score:
            best, best_score, best_offer = place, offer.finish_s + offer.others_s, offer
    if best < 0:
        view.holds[m] += 1
        return False
    if best_offer.start_s <= now + NOW_S and not foreseen:
        bind(world, view, rule, stage, best)
        return True
    if not foreseen:
        view.holds[m] += 1
        if not rule.reserve:
            return False
        book(world, view, rule, stage, best, prompts, 1, best_offer)
        turn = view.turns[view.marks[0].turns]
        turn.stage, turn.place = stage, best
        turn.lane_s, turn.end_s = best_offer.end_s - best_offer.begin_s, best_offer.finish_s
        view.marks[0].turns += 1
    victims = 0
    if view.ready_s[best, m] >= NEVER_S:
        victims = choose_victims(world, view, rule, best, m)
    reserve(world, view, rule, stage, best, prompts, best_offer, victims)
    return True
