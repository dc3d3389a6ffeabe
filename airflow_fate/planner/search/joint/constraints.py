"""Which assignments are possible? One method per rule."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from ortools.sat.python import cp_model

from airflow_fate.physics.world.arrays import ABSENT
from airflow_fate.planner.search.joint.problem import AssignmentProblem
from airflow_fate.planner.search.joint.variables import Variables

_MB = 1_000_000
_MS = 1000


class Constraints:
    """Adds the rules of an assignment to a model."""

    def __init__(self, model: cp_model.CpModel, problem: AssignmentProblem, variables: Variables) -> None:
        self._model, self._problem, self._variables = model, problem, variables
        self._on: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for number, column in enumerate(problem.columns):
            for at, prompts in column.shares:
                self._on[at].append((number, prompts))

    def add_all(self, prefill_s: float) -> None:
        self.each_stage_is_placed_once_or_deferred()
        self.sequences_fit()
        self.prefill_slots_are_not_overbooked(prefill_s)
        self.groups_are_taken_whole()
        self.loads_are_made_once_where_needed()
        self.evicted_models_are_not_used()
        self.models_fit_into_memory()

    def each_stage_is_placed_once_or_deferred(self) -> None:
        by_stage: dict[int, list[cp_model.IntVar]] = defaultdict(list)
        for column, take in zip(self._problem.columns, self._variables.take, strict=True):
            by_stage[column.stage].append(take)
        for stage, defer in enumerate(self._variables.defer):
            self._model.add_exactly_one([*by_stage[stage], defer])

    def sequences_fit(self) -> None:
        """A batch larger than the place runs alone, so it counts as all of it."""
        for at, users in self._on.items():
            capacity = self._problem.capacity[at]
            self._model.add(sum(min(prompts, capacity) * self._variables.take[n] for n, prompts in users) <= capacity)

    def prefill_slots_are_not_overbooked(self, prefill_s: float) -> None:
        """Columns are priced as if their prefill slot were idle: only as many as begin within ``prefill_s`` share one,
        or a single longer one."""
        for users in self._on.values():
            seconds = [round(self._problem.columns[n].prefill_s * _MS) for n, _ in users]
            limit = max(round(prefill_s * _MS), *seconds)
            if len(users) > 1:
                takes = (self._variables.take[n] for n, _ in users)
                self._model.add(sum(s * take for s, take in zip(seconds, takes, strict=True)) <= limit)

    def groups_are_taken_whole(self) -> None:
        """Places that share a device are not used together."""
        for at, users in self._on.items():
            for other in self._problem.overlaps(at):
                for mine, _ in users:
                    for theirs, _ in self._on.get(other, ()) if other > at else ():
                        self._model.add_at_most_one([self._variables.take[mine], self._variables.take[theirs]])

    def loads_are_made_once_where_needed(self) -> None:
        needing: dict[tuple[int, int], list[cp_model.IntVar]] = defaultdict(list)
        for column, take in zip(self._problem.columns, self._variables.take, strict=True):
            for at, _ in column.shares:
                needing[at, self._problem.model(column)].append(take)
        for (at, name), load in self._variables.load.items():
            takes = needing[at, name]
            if self._problem.capacity[at] == 1:
                self._model.add(load == sum(takes))
                continue
            for take in takes:
                self._model.add_implication(take, load)

    def evicted_models_are_not_used(self) -> None:
        for column, take in zip(self._problem.columns, self._variables.take, strict=True):
            for at, _ in column.shares:
                evict = self._variables.evict.get((at, self._problem.model(column)))
                if evict is not None:
                    self._model.add_implication(take, evict.negated())

    def models_fit_into_memory(self) -> None:
        """On every device that a load may crowd: what is there, less what leaves, plus what comes."""
        world = self._problem.world
        share = world.models["weights_bytes"] / world.models["group_size"]
        rows: dict[int, list[cp_model.LinearExprT]] = defaultdict(list)
        for (at, model), load in self._variables.load.items():
            for device in self._problem.devices(at):
                rows[device].append(_megabytes(share[model]) * load)
        for at, model in np.argwhere(world.resident["status"] != ABSENT).tolist():
            evict = self._variables.evict.get((at, model))
            stays = 1 - evict if evict is not None else 1
            for device in self._problem.devices(at):
                if device in rows:
                    rows[device].append(_megabytes(share[model]) * stays)
        for device, terms in rows.items():
            self._model.add(sum(terms) <= int(world.devices["memory_bytes"][device] // _MB))


def _megabytes(weights_bytes: float) -> int:
    return -int(-weights_bytes // _MB)
