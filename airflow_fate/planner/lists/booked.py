"""What has the pass decided? A row for each stage that it bound or took a turn for, so that a person can be told."""

from __future__ import annotations

from airflow_fate.physics.kernel.compiled import compiled
from airflow_fate.physics.kernel.residency import read_s
from airflow_fate.physics.kernel.world import World
from airflow_fate.planner.lists.atbest import at_best
from airflow_fate.planner.lists.quote import CANNOT, Quote, quote, transfer_s
from airflow_fate.planner.lists.rule import Rule
from airflow_fate.planner.lists.view import EVER_S, NEVER_S, NOW_S, View


@compiled
def book(world: World, view: View, rule: Rule, stage: int, place: int, prompts: int, held: int, offer: Quote) -> None:
    """Write a row, before the place is reserved; a view without room keeps none."""
    at = view.marks[0].booked
    if at >= view.booked.shape[0]:
        return
    view.marks[0].booked = at + 1
    row = view.booked[at]
    m = world.stages[stage].model
    row.stage, row.place, row.prompts, row.held = stage, place, prompts, held
    row.start_s, row.begin_s, row.end_s, row.finish_s = offer.start_s, offer.begin_s, offer.end_s, offer.finish_s
    row.others_s, row.cached = offer.others_s, offer.cached_tokens
    ready_s = view.ready_s[place, m]
    row.resident = 1 if ready_s < NEVER_S else 0
    row.load_s = (
        max(0.0, ready_s - max(offer.start_s, world.tally[0].now)) if ready_s < NEVER_S else read_s(world, place, m)
    )
    row.moving_s = transfer_s(world, stage, place)
    _note_rival(world, view, rule, at)


@compiled
def _note_rival(world: World, view: View, rule: Rule, at: int) -> None:
    """The best other place for the whole stage; -1 where there is none.

    For a stage that is held, the best of those on which it could begin now.
    """
    row = view.booked[at]
    latest_s = world.tally[0].now + NOW_S if row.held == 1 else EVER_S
    stage = row.stage
    s = world.stages[stage]
    whole = row.prompts == s.prompts
    row.rival, row.rival_s = -1, 0.0
    best = NEVER_S
    for absent in range(2):
        for place in range(world.places.shape[0]):
            if place == row.place and whole:
                continue
            if (view.ready_s[place, s.model] >= NEVER_S) != (absent == 1):
                continue
            known_s = view.room_s[place, s.model]
            _, least_s = at_best(world, view, rule, stage, place, latest_s)
            offer = CANNOT
            if least_s < best:
                offer = quote(world, view, rule, stage, place, s.prompts)
            # To be told must not change what is decided: what the pass has not looked at stays so.
            view.room_s[place, s.model] = known_s
            if offer.start_s <= latest_s and offer.finish_s + offer.others_s < best:
                best = offer.finish_s + offer.others_s
                row.rival, row.rival_s = place, offer.finish_s
