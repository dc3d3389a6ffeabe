"""What does the solver decide? Columns taken, stages deferred, models loaded, models evicted."""

from __future__ import annotations

from dataclasses import dataclass

from ortools.sat.python import cp_model

from airflow_fate.planner.search.joint.problem import AssignmentProblem


@dataclass(frozen=True)
class Variables:
    """All Boolean.

    :param take: by column.
    :param defer: by stage of the problem.
    :param load: by (place, model), where some column needs a load.
    :param evict: by (place, model), where an idle model might make room.
    """

    take: list[cp_model.IntVar]
    defer: list[cp_model.IntVar]
    load: dict[tuple[int, int], cp_model.IntVar]
    evict: dict[tuple[int, int], cp_model.IntVar]


def make_variables(model: cp_model.CpModel, problem: AssignmentProblem) -> Variables:
    crowded = {near for at, _ in problem.load_s for near in (at, *problem.overlaps(at))}
    return Variables(
        take=[model.new_bool_var(f"take {n}") for n in range(len(problem.columns))],
        defer=[model.new_bool_var(f"defer {n}") for n in range(len(problem.stages))],
        load={key: model.new_bool_var(f"load {key}") for key in sorted(problem.load_s)},
        evict={key: model.new_bool_var(f"evict {key}") for key in sorted(problem.eviction_cost_s) if key[0] in crowded},
    )
