"""What is known of the held tasks' runs? Their graphs, where their outputs lie, where tries have failed, and what all
of them taught.

Everything here can be read again from the database: a restart costs queries, not knowledge.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_fate.executor.runs.convert import RunShape, TaskShape, stage_id, to_workflow, workflow_id
from airflow_fate.executor.runs.estimates import Defaults, Estimator
from airflow_fate.executor.runs.kept_speeds import costs_of, laws_to_keep, slowness_to_keep
from airflow_fate.executor.runs.learning import Learned
from airflow_fate.executor.runs.reader import ReadRuns, RunKey
from airflow_fate.messages import StageSpec
from airflow_fate.messages.spec import MAX_PROMPTS
from airflow_fate.workflow import StageRef, Workflow

if TYPE_CHECKING:
    from airflow_fate.cluster import Fleet
    from airflow_fate.executor.runs.connections import Connections
    from airflow_fate.executor.runs.specs import Specs
    from airflow_fate.executor.settings import Settings
    from airflow_fate.messages import Facts
    from airflow_fate.state.history import History
    from airflow_fate.state.ledger import Ledger, Reservation
    from airflow_fate.state.speeds import LearnedSpeeds

log = logging.getLogger(__name__)
ENGINE_DIED = "fate_engine_died"
"""The gateway's word for it in the facts."""
KILLS = 2
"""A task whose tries have ended so many engines would walk through the whole fleet."""
NOT_FAILED = ("success", "deferred", "awaiting_input", "revoked", "handover failed", "left over")
"""Outcomes of a reservation that say nothing against its device."""


@dataclass(frozen=True, slots=True)
class FailedTries:
    """What became of a task's earlier tries.

    :param places: where they failed.
    :param killed: devices whose engine died of them.
    """

    places: frozenset[str] = frozenset()
    killed: frozenset[str] = frozenset()

    @classmethod
    def of(cls, reservations: Iterable[Reservation]) -> FailedTries:
        tries = list(reservations)
        return cls(
            frozenset(share.place for reservation in tries for share in reservation.shares),
            frozenset(
                fact["device"]
                for reservation in tries
                for fact in reservation.facts or ()
                if fact.get("fault") == ENGINE_DIED
            ),
        )

    @property
    def refusal(self) -> str:
        """Why the task gets no further device; empty while it may have one."""
        if len(self.killed) < KILLS:
            return ""
        return (
            f"the engines of {', '.join(sorted(self.killed))} died while they answered this task: it is its request, "
            "and not the engines, that is at fault; see its log, and the gateways' logs, for what was asked"
        )


@dataclass(frozen=True, slots=True)
class Runs:
    """The held tasks' runs.

    :param workflows: by id.
    :param unusable: id of a run that nothing can be planned for -> why.
    :param refused: try (UUID) of a task that can only fail -> why.
    """

    workflows: Mapping[str, Workflow]
    unusable: Mapping[str, str]
    refused: Mapping[str, str]


class RunCache:
    """Runs as workflows, and what was seen of them.

    Tasks are given as their workloads' task instances.

    :param read_runs: as :meth:`RunReader.read`.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        history: History,
        speeds: LearnedSpeeds,
        connections: Connections,
        specs: Specs,
        read_runs: ReadRuns,
    ) -> None:
        self._settings = settings
        self._connections = connections
        self._specs = specs
        self._connections_version = 0
        self._ledger = ledger
        self._history = history
        self._speeds = speeds
        self._has_read_speeds = False
        self._read_runs = read_runs
        self.learned = Learned()
        self.outputs: dict[tuple[str, str], tuple[tuple[str, float], ...]] = {}
        """Stage -> where its output lies, as (node id, share)."""
        self._read_dags: set[str] = set()
        self._shapes: dict[RunKey, RunShape] = {}
        self._converted: dict[RunKey, Workflow] = {}
        self._stale: set[RunKey] = set()
        self._failed: dict[str, FailedTries] = {}

    def ended(self, reservation: Reservation, outcome: str) -> None:
        """A try has ended: its run has changed."""
        run = (reservation.dag_id, reservation.run_id)
        self._stale.add(run)
        # Of any other run, all outputs are read from the ledger when one of its tasks is held.
        if outcome == "success" and run in self._shapes:
            self.outputs[_ref(reservation)] = _shares_of_output(reservation)

    def learn(self, reservation: Reservation, facts: Iterable[Facts], fleet: Fleet, ended_at: float) -> None:
        """What a try that ended well teaches."""
        before = self.learned
        self.learned = before.after(reservation, facts, fleet, ended_at)
        past = self.learned.of(reservation)
        if past != before.of(reservation):
            self._history.record(reservation.dag_id, reservation.task_id, past)
        for (gpu, model), document in laws_to_keep(before.costs, self.learned.costs):
            self._speeds.record_law(gpu, model, document)
        for device, factor in slowness_to_keep(before.costs, self.learned.costs):
            self._speeds.record_slowness(device, factor)

    def read_again(self) -> None:
        """What was read came from elsewhere: history and outputs are read where they are now."""
        self._read_dags.clear()
        self._has_read_speeds = False
        self._failed.clear()
        self._stale |= self._shapes.keys()

    def runs(self, tasks: Iterable[Any]) -> Runs:
        """The runs of the given tasks; a run is read again when a task of it was queued or has ended."""
        by_run: dict[RunKey, list[Any]] = {}
        for ti in tasks:
            by_run.setdefault((ti.dag_id, ti.run_id), []).append(ti)
        if left := {workflow_id(*key) for key in self._shapes.keys() - by_run.keys()}:
            self._shapes = {key: shape for key, shape in self._shapes.items() if key in by_run}
            self.outputs = {ref: nodes for ref, nodes in self.outputs.items() if ref[0] not in left}
        if self._connections.version != self._connections_version:
            # Another model, or another type, makes another workflow.
            self._connections_version = self._connections.version
            self._stale |= self._shapes.keys()
        known = {ref for shape in self._shapes.values() for ref in _refs(shape)}
        stale = {
            key: str(tis[-1].dag_version_id)
            for key, tis in by_run.items()
            if key in self._stale or any(_ref(ti) not in known or self._lacks_length(ti) for ti in tis)
        }
        read = self._read_runs(stale) if stale else {}
        self._shapes.update(
            (key, self._including(read.get(key, RunShape(*key, time.time(), {})), by_run[key])) for key in stale
        )
        self._stale -= stale.keys()
        self._read_history({dag_id for dag_id, _ in by_run})
        self._read_speeds()
        self._read_outputs(stale)
        self._converted = {key: workflow for key, workflow in self._converted.items() if key in by_run.keys() - stale}
        estimator = self._estimator()
        unusable = {}
        for key in by_run:
            if key not in self._converted:
                try:
                    self._converted[key] = _workflow(self._placed(self._shapes[key]), estimator)
                except Exception as error:
                    unusable[workflow_id(*key)] = f"the planner can't read this run: {error}"
        refused = {
            str(ti.id): f"prompts must have at least one prompt, task {spec.prompts_from!r} gave an empty list"
            for key, tis in by_run.items()
            if self._shapes[key].lengths
            for ti in tis
            if (spec := self._specs.of(ti)) and self._shapes[key].lengths.get(spec.prompts_from) == 0
        }
        usable = (self._converted[key] for key in by_run if key in self._converted)
        return Runs({workflow.id: workflow for workflow in usable}, unusable, refused)

    def failed_tries(self, tasks: Iterable[Any]) -> Mapping[str, FailedTries]:
        """Try (UUID) -> what became of earlier tries of its task, whichever scheduler had placed them."""
        retried = {str(ti.id): ti for ti in tasks if ti.try_number > 1}
        new = {ti_id: ti for ti_id, ti in retried.items() if ti_id not in self._failed}
        earlier = self._ledger.of_runs(sorted({(ti.dag_id, ti.run_id) for ti in new.values()})) if new else []
        failed = {
            ti_id: FailedTries.of(
                reservation
                for reservation in earlier
                if _ref(reservation) == _ref(ti)
                and reservation.try_number < ti.try_number
                and reservation.outcome not in NOT_FAILED
            )
            for ti_id, ti in new.items()
        }
        self._failed = {ti_id: tries for ti_id, tries in self._failed.items() if ti_id in retried} | failed
        return self._failed

    def _placed(self, shape: RunShape) -> RunShape:
        """The shape with the models of its tasks; those that don't run on the fleet are tools."""

        def placed(spec: StageSpec | None) -> StageSpec | None:
            known = spec and self._connections.placed(spec)
            length = shape.lengths.get(known.prompts_from) if known else None
            return known.model_copy(update={"prompts": min(length, MAX_PROMPTS)}) if known and length else known

        tasks = {name: replace(task, spec=placed(task.spec)) for name, task in shape.tasks.items()}
        return replace(shape, tasks=tasks)

    def _lacks_length(self, ti: Any) -> bool:
        """Whether a held task's batch has come since its run was read."""
        spec = self._specs.of(ti)
        shape = self._shapes.get((ti.dag_id, ti.run_id))
        return bool(spec and spec.prompts_from and shape and spec.prompts_from not in shape.lengths)

    def _including(self, shape: RunShape, tis: Iterable[Any]) -> RunShape:
        """The shape with at least the given task instances, as their own specs say: a DAG may have changed since."""
        tasks, instances = dict(shape.tasks), dict(shape.instances)
        for ti in tis:
            known = tasks.get(ti.task_id, TaskShape(ti.task_id))
            tasks[ti.task_id] = replace(known, spec=self._specs.of(ti))
            indexes = set(instances.get(ti.task_id, (-1,))) | {ti.map_index}
            instances[ti.task_id] = tuple(sorted(indexes - {-1} if len(indexes) > 1 else indexes))
        return replace(shape, tasks=tasks, instances=instances)

    def _estimator(self) -> Estimator:
        settings = self._settings
        defaults = Defaults(settings.default_prompt_tokens, settings.default_output_tokens, settings.tool_seconds)
        return Estimator(settings.secret(), defaults, self.learned.history)

    def _read_history(self, dag_ids: set[str]) -> None:
        if new := dag_ids - self._read_dags:
            past = self._history.of_dags(sorted(new))
            self._read_dags |= new
            self.learned = replace(self.learned, history={**past, **self.learned.history})

    def _read_speeds(self) -> None:
        """What was learned before, by this scheduler or another; what this one has learned since stands."""
        if self._has_read_speeds:
            return
        kept = costs_of(self._speeds.read())
        costs = self.learned.costs
        laws, slowness = {**kept.laws, **costs.laws}, {**kept.slowness, **costs.slowness}
        self.learned = replace(self.learned, costs=replace(costs, laws=laws, slowness=slowness))
        self._has_read_speeds = True

    def _read_outputs(self, runs: Collection[RunKey]) -> None:
        """Where outputs lie that another scheduler, or this one before a restart, has placed."""
        known = {workflow for workflow, _ in self.outputs}
        wanted = [run for run in runs if workflow_id(*run) not in known]
        for reservation in self._ledger.of_runs(wanted) if wanted else ():
            if reservation.outcome == "success":
                self.outputs[_ref(reservation)] = _shares_of_output(reservation)


def _ref(of: Any) -> StageRef:
    """The stage of a task instance or of a reservation."""
    return StageRef(workflow_id(of.dag_id, of.run_id), stage_id(of.task_id, of.map_index))


def _refs(shape: RunShape) -> Iterator[StageRef]:
    for task_id in shape.tasks:
        for index in shape.instances.get(task_id, (-1,)):
            yield StageRef(workflow_id(shape.dag_id, shape.run_id), stage_id(task_id, index))


def _shares_of_output(reservation: Reservation) -> tuple[tuple[str, float], ...]:
    total = sum(share.prompts for share in reservation.shares) or 1
    return tuple((share.node, share.prompts / total) for share in reservation.shares)


def _workflow(shape: RunShape, estimator: Estimator) -> Workflow:
    """The run as it is; else its tasks one by one; else these without what the run's values say."""
    alone = _alone(shape)
    error: Exception | None = None
    for way in (shape, alone, replace(alone, values={})):
        try:
            workflow = to_workflow(way, estimator)
        except Exception as trouble:
            error = error or trouble
        else:
            if error is not None:
                text = "%s, %s: its graph can't be used, its tasks are planned one by one: %s"
                log.warning(text, shape.dag_id, shape.run_id, error)
            return workflow
    assert error is not None
    raise error


def _alone(shape: RunShape) -> RunShape:
    """The shape's tasks without their edges."""
    return replace(
        shape,
        tasks={
            task_id: TaskShape(task_id, task.spec and task.spec.model_copy(update={"continues": None}))
            for task_id, task in shape.tasks.items()
        },
    )
