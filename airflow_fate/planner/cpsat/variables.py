"""What does the solver decide? Columns taken, stages deferred, models loaded, models evicted."""

from __future__ import annotations

from dataclasses import dataclass

from ortools.sat.python import cp_model

from airflow_fate.planner.cpsat.wave import Wave
from airflow_fate.planner.outlook import Outlook


@dataclass(frozen=True)
class Variables:
    """All Boolean.

    :param take: by column.
    :param defer: by stage of the wave.
    :param load: by (place, model), where some column needs a load.
    :param evict: by (place, model), where a model might make room.
    """

    take: list[cp_model.IntVar]
    defer: list[cp_model.IntVar]
    load: dict[tuple[int, str], cp_model.IntVar]
    evict: dict[tuple[int, str], cp_model.IntVar]


def make_variables(model: cp_model.CpModel, wave: Wave, outlook: Outlook) -> Variables:
    crowded = sorted({near for at, _ in wave.load_s for near in (at, *outlook.overlaps(at))})
    return Variables(
        take=[model.new_bool_var(f"take {n}") for n in range(len(wave.columns))],
        defer=[model.new_bool_var(f"defer {n}") for n in range(len(wave.stages))],
        load={key: model.new_bool_var(f"load {key}") for key in sorted(wave.load_s)},
        evict={
            (at, resident): model.new_bool_var(f"evict {at} {resident}")
            for at in crowded
            for resident in outlook.idle_models(at)
        },
    )
