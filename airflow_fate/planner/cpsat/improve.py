"""Which wave should begin now? The solver's, starting from what the rule chooses."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_fate.physics.kernel.world import ABSENT, World, copy
from airflow_fate.planner.cpsat.solve import Limit, assign, solve
from airflow_fate.planner.cpsat.wave import Column, Wave, build_wave
from airflow_fate.planner.lists.decide import decide
from airflow_fate.planner.lists.rule import Rule
from airflow_fate.planner.lists.view import View, make_view


@dataclass(frozen=True)
class Chosen:
    """A wave that can be applied.

    :param shares: (stage, place, prompts), a stage's shares one behind the other, most urgent first.
    """

    shares: tuple[tuple[int, int, int], ...]
    status: str
    objective_s: float
    bound_s: float


def improve_wave(world: World, view: View, rule: Rule, limit: Limit) -> Chosen | None:
    """The best wave for this moment; None where there is nothing to place, or nothing was found in time.

    The world is left as it is.
    """
    if not world.tally[0].ready:
        return None
    wave = build_wave(world, view, rule)
    if not wave.columns:
        return None
    found = assign(wave) if wave.is_plain_assignment else solve(wave, *_incumbent(world, rule, wave), limit)
    if found is None:
        return None
    shares = tuple((wave.stages[c.stage], at, prompts) for c in found.chosen for at, prompts in c.shares)
    return Chosen(shares, found.status, found.objective_s, found.bound_s)


def _incumbent(world: World, rule: Rule, wave: Wave) -> tuple[dict[int, Column], set[tuple[int, int]]]:
    """What of the rule's choices lies in the wave, as far as each place has room; and what leaves for them."""
    played = copy(world)
    view = make_view(played, explain=True)
    decide(played, view, rule)
    number = {stage: at for at, stage in enumerate(wave.stages)}
    columns = {(column.stage, column.shares): column for column in wave.columns}
    shares: dict[int, list[tuple[int, int]]] = {}
    for row in view.booked[: view.marks[0].booked]:
        shares.setdefault(number.get(int(row.stage), -1), []).append((int(row.place), int(row.prompts)))
    room = dict(enumerate(wave.capacity))
    taken: dict[int, Column] = {}
    for stage, placed in shares.items():
        column = columns.get((stage, tuple(placed)))
        if column is None or any(room[at] < prompts for at, prompts in placed):
            continue
        if any(room[other] < wave.capacity[other] for at, _ in placed for other in wave.overlaps(at)):
            continue
        taken[stage] = column
        for at, prompts in placed:
            room[at] -= prompts
    was, is_now = world.resident["status"], played.resident["status"]
    gone = {(int(at), int(m)) for at, m in zip(*((was != ABSENT) & (is_now == ABSENT)).nonzero(), strict=True)}
    return taken, gone
