"""What does one cycle do? Facts in, plan, claims, bindings out: the I/O around the frontier's pure state machine."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from airflow_fate.executor import frontier as f
from airflow_fate.executor.convert import RunShape, TaskShape, stage_id, to_workflow, workflow_id
from airflow_fate.executor.estimates import Defaults, Estimator
from airflow_fate.executor.handover import TaskAddress, binding_for, read_facts, refusal_for, write_binding
from airflow_fate.executor.learning import Learned
from airflow_fate.executor.notifier import EndNotifier
from airflow_fate.executor.planning import Decider
from airflow_fate.executor.runs import RunKey, RunReader, ended_tries, give_back
from airflow_fate.executor.snapshot import cluster_state
from airflow_fate.executor.solver import SolverProcess
from airflow_fate.messages import SpecError, read_spec
from airflow_fate.planner.plan import Assignment, Hold, Impossible, Plan, PlanConfig, ReadyStage
from airflow_fate.state.history import History
from airflow_fate.state.ledger import ClaimLost, DeviceShare, Ledger, Reservation, new_id
from airflow_fate.workflow import StageRef, Workflow, conversation_key

if TYPE_CHECKING:
    from airflow.executors.workloads import ExecuteTask

    from airflow_fate.executor.settings import Settings
    from airflow_fate.state.source import FleetView, StateSource

log = logging.getLogger(__name__)
REPLAN_S = 1.0
"""Held tasks are planned again after so long even if nothing happened: busy devices come nearer to being free."""
PRUNE_S = 3600.0
NOT_FAILED = ("success", "deferred", "awaiting_input", "revoked", "handover failed")
"""Outcomes of a reservation that say nothing against its device."""
NO_FLEET = "no device of the fleet is known: is it up, and does [fate] fleet_dir name its folder?"


class Binder:
    """Carries out the frontier's instructions.

    :param submit: gives a bound task to the inner executor.
    :param tell: says why a task waits.
    :param hand_back: drops a task that went back to Airflow's scheduler.
    """

    def __init__(
        self,
        settings: Settings,
        frontier: f.Frontier,
        submit: Callable[[str], None],
        tell: Callable[[str, str], None],
        hand_back: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._frontier = frontier
        self._submit = submit
        self._tell = tell
        self._hand_back = hand_back
        self._ledger = Ledger(connect)
        self._history = History(connect)
        self._runs = RunReader()
        self._source: StateSource = open_source(settings)
        self._solver = SolverProcess() if settings.solver == "cpsat" and settings.policy == "fate" else None
        self._decider = Decider(
            settings.policy,
            PlanConfig(objective=settings.objective, horizon_s=settings.horizon_s),
            self._solver,
            settings.plan_budget_s,
        )
        self._notifier = EndNotifier()
        self._learned = Learned()
        self._read_dags: set[str] = set()
        self._shapes: dict[RunKey, RunShape] = {}
        self._converted: dict[RunKey, Workflow] = {}
        self._outputs: dict[tuple[str, str], tuple[tuple[str, float], ...]] = {}
        self._failed_on: dict[str, frozenset[str]] = {}
        self._waiting: list[f.Instruction] = []
        self._known_capacity: dict[str, int] = {}
        self._stale_runs: set[RunKey] = set()
        self._planned_at = 0.0
        self._planned_for: tuple[object, ...] = ()
        self._pruned_at = 0.0
        self._hold_reason: dict[str, str] = {}

    def start(self) -> None:
        """Start the watch and the solver. Nothing here needs the database or a fleet to be there already."""
        self._source.start()
        self._notifier.start()
        if self._solver:
            self._solver.start()

    def stop(self) -> None:
        self._source.stop()
        self._notifier.stop()
        if self._solver:
            self._solver.stop()

    def later(self, instruction: f.Instruction) -> None:
        """Carry an instruction out in the next cycle: its caller may be inside a transaction."""
        self._waiting.append(instruction)

    def live_reservations(self) -> dict[str, str]:
        """Try (UUID) -> reservation, for all that are live."""
        return {reservation.ti_id: reservation.id for reservation in self._ledger.live()}

    def cycle(self, workloads: Mapping[str, ExecuteTask]) -> None:
        """One heartbeat's work.

        :param workloads: held tasks by the UUID of their try.
        """
        now = time.time()
        view = self._source.snapshot()
        waiting, self._waiting = self._waiting, []
        live = self._ledger.live() if waiting or len(self._frontier) or now - self._planned_at > REPLAN_S else []
        self._carry_out(waiting, view, live, workloads, now)
        live = self._release_ended(live, view, now)
        self._carry_out(self._frontier.handle(f.Tick(now)), view, live, workloads, now)
        held = self._frontier.held()
        if held and self._is_due(held, live, view, now):
            self._plan(held, live, view, workloads, now)
        elif not held and now - self._planned_at > REPLAN_S:
            self._planned_at = now
            self._prune(now)

    # Facts in

    def _release_ended(self, live: list[Reservation], view: FleetView, now: float) -> list[Reservation]:
        """End the reservations of tries that have ended, whichever scheduler made them."""
        here = {reservation.id for reservation in live}
        elsewhere = [entry.ti_id for entry in self._frontier.running() if entry.reservation not in here]
        # Another scheduler was first to see that these have ended.
        self._frontier.handle(f.Ended(tuple(elsewhere)))
        if not live:
            return live
        ended = ended_tries([reservation.ti_id for reservation in live])
        for reservation in live:
            if outcome := ended.get(reservation.ti_id):
                self._release(reservation, outcome, view, now)
        self._frontier.handle(f.Ended(tuple(ended)))
        return [reservation for reservation in live if reservation.ti_id not in ended]

    def _release(self, reservation: Reservation, outcome: str, view: FleetView, now: float) -> None:
        address = TaskAddress(reservation.dag_id, reservation.run_id, reservation.task_id, reservation.map_index)
        facts = read_facts(address, reservation.id)
        if not self._ledger.release(reservation.id, outcome, [fact.model_dump() for fact in facts]):
            return
        stage = stage_id(reservation.task_id, reservation.map_index)
        ref = StageRef(workflow_id(reservation.dag_id, reservation.run_id), stage)
        self._stale_runs.add((reservation.dag_id, reservation.run_id))
        if outcome == "success":
            self._outputs[ref] = _shares_of_output(reservation)
            before = self._learned.of(reservation)
            self._learned = self._learned.after(reservation, facts, view.fleet, now)
            after = self._learned.of(reservation)
            if after != before:
                self._history.record(reservation.dag_id, reservation.task_id, after)
            return
        # Its process may live on somewhere, and its request with it.
        urls = [view.urls[share.device] for share in reservation.shares if share.device in view.urls]
        self._notifier.ended(urls, reservation.id, self._settings.secret())

    # Plan

    def _is_due(self, held: tuple[f.Entry, ...], live: list[Reservation], view: FleetView, now: float) -> bool:
        seen = (
            tuple(entry.ti_id for entry in held),
            tuple(reservation.id for reservation in live),
            view.version,
        )
        if seen == self._planned_for and now - self._planned_at < REPLAN_S:
            return False
        self._planned_for = seen
        self._planned_at = now
        return True

    def _plan(
        self,
        held: tuple[f.Entry, ...],
        live: list[Reservation],
        view: FleetView,
        workloads: Mapping[str, ExecuteTask],
        now: float,
    ) -> None:
        if not view.fleet.devices:
            holds = tuple(Hold(entry.ref, "", now + REPLAN_S, NO_FLEET) for entry in held)
            self._carry_out(self._frontier.handle(f.Planned(Plan(holds=holds), now)), view, live, workloads, now)
            return
        self._register(view)
        held = tuple(self._readable(held, view, live, workloads, now))
        workflows = self._workflows(held, workloads)
        failed_on = self._places_of_failed_tries(held, workloads)
        ready = [
            ReadyStage(entry.ref, entry.ready_s, failed_on.get(entry.ti_id, frozenset()))
            for entry in held
            if entry.ref.workflow in workflows
        ]
        state = cluster_state(view, live, self._outputs, now)
        plan = self._decider.decide(ready, workflows, state, self._learned.costs, now)
        for hold in plan.holds:
            self._hold_reason[str(hold.ref)] = hold.reason
        claims = self._frontier.handle(f.Planned(plan, now))
        self._carry_out(claims, view, live, workloads, now, workflows, plan.solver)

    def _readable(
        self,
        held: Iterable[f.Entry],
        view: FleetView,
        live: list[Reservation],
        workloads: Mapping[str, ExecuteTask],
        now: float,
    ) -> Iterator[f.Entry]:
        """The held tasks whose spec can be read; the others fail with what is wrong with it."""
        for entry in held:
            try:
                read_spec(workloads[entry.ti_id].ti.executor_config)
            except SpecError as error:
                plan = Plan(impossible=(Impossible(entry.ref, str(error)),))
                self._carry_out(self._frontier.handle(f.Planned(plan, now)), view, live, workloads, now)
            else:
                yield entry

    def _register(self, view: FleetView) -> None:
        capacity = {device.id: device.max_seqs for device in view.fleet.devices.values()}
        if capacity != self._known_capacity:
            self._ledger.register(capacity)
            self._known_capacity = capacity

    def _workflows(self, held: Iterable[f.Entry], workloads: Mapping[str, ExecuteTask]) -> dict[str, Workflow]:
        """The runs of the held tasks as workflows; a run is read again when a task of it was queued or has ended."""
        tasks = {entry.ref: workloads[entry.ti_id].ti for entry in held}
        runs: dict[RunKey, str] = {(ti.dag_id, ti.run_id): str(ti.dag_version_id) for ti in tasks.values()}
        self._shapes = {key: shape for key, shape in self._shapes.items() if key in runs}
        known = {ref for key, shape in self._shapes.items() for ref in _refs(shape)}
        stale = {
            (ti.dag_id, ti.run_id): runs[ti.dag_id, ti.run_id]
            for ref, ti in tasks.items()
            if ref not in known or (ti.dag_id, ti.run_id) in self._stale_runs
        }
        self._shapes.update(self._runs.read(stale))
        self._stale_runs -= stale.keys()
        self._read_history({dag_id for dag_id, _ in runs})
        self._read_outputs(stale)
        estimator = Estimator(
            self._settings.secret(),
            Defaults(
                self._settings.default_prompt_tokens, self._settings.default_output_tokens, self._settings.tool_seconds
            ),
            self._learned.history,
        )
        workflows: dict[str, Workflow] = {}
        self._converted = {key: workflow for key, workflow in self._converted.items() if key in runs.keys() - stale}
        for key in runs:
            if known_workflow := self._converted.get(key):
                workflows[known_workflow.id] = known_workflow
                continue
            shape = self._shapes.get(key, RunShape(*key, time.time(), {}))
            shape = _including(shape, [ti for ti in tasks.values() if (ti.dag_id, ti.run_id) == key])
            try:
                workflow = to_workflow(shape, estimator)
            except ValueError as error:
                log.warning("%s: its graph can't be used, its tasks are planned one by one: %s", key, error)
                workflow = to_workflow(_alone(shape), estimator)
            workflows[workflow.id] = self._converted[key] = workflow
        return workflows

    def _places_of_failed_tries(
        self, held: Iterable[f.Entry], workloads: Mapping[str, ExecuteTask]
    ) -> dict[str, frozenset[str]]:
        """Try (UUID) -> where earlier tries of its task have failed, whichever scheduler had placed them."""
        retried = {entry.ti_id: workloads[entry.ti_id].ti for entry in held if workloads[entry.ti_id].ti.try_number > 1}
        new = {ti_id: ti for ti_id, ti in retried.items() if ti_id not in self._failed_on}
        earlier = self._ledger.of_runs(sorted({(ti.dag_id, ti.run_id) for ti in new.values()})) if new else []
        found = {
            ti_id: frozenset(
                share.place
                for one in earlier
                if (one.dag_id, one.run_id, one.task_id, one.map_index)
                == (ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
                and one.try_number < ti.try_number
                and one.outcome not in NOT_FAILED
                for share in one.shares
            )
            for ti_id, ti in new.items()
        }
        self._failed_on = {ti_id: places for ti_id, places in self._failed_on.items() if ti_id in retried} | found
        return self._failed_on

    def _read_history(self, dag_ids: set[str]) -> None:
        if new := dag_ids - self._read_dags:
            self._read_dags |= new
            past = self._history.of_dags(sorted(new))
            self._learned = replace(self._learned, history={**past, **self._learned.history})

    def _read_outputs(self, runs: Iterable[RunKey]) -> None:
        """Where outputs lie that another scheduler, or this one before a restart, has placed."""
        wanted = [run for run in runs if not any(ref[0] == workflow_id(*run) for ref in self._outputs)]
        for reservation in self._ledger.of_runs(wanted):
            if reservation.outcome == "success":
                ref = (
                    workflow_id(reservation.dag_id, reservation.run_id),
                    stage_id(reservation.task_id, reservation.map_index),
                )
                self._outputs[ref] = _shares_of_output(reservation)

    def _prune(self, now: float) -> None:
        if now - self._pruned_at >= PRUNE_S:
            self._pruned_at = now
            self._ledger.prune(self._settings.keep_s)
            self._outputs.clear()

    # Instructions out

    def _carry_out(
        self,
        instructions: Iterable[f.Instruction],
        view: FleetView,
        live: list[Reservation],
        workloads: Mapping[str, ExecuteTask],
        now: float,
        workflows: Mapping[str, Workflow] | None = None,
        solver: str = "",
    ) -> None:
        for instruction in instructions:
            match instruction:
                case f.Claim(entry, assignment, held_s):
                    assert workflows is not None
                    self._bind(entry, assignment, held_s, view, workloads, workflows[entry.ref.workflow], solver, now)
                case f.Fail(entry, reason):
                    ti = workloads[entry.ti_id].ti
                    log.warning("%s can never be placed: %s", entry.ref, reason)
                    try:
                        write_binding(_address(ti), refusal_for(entry, ti.try_number, reason))
                    finally:
                        # Without its refusal it fails as well, only with a poorer reason.
                        self._submit(entry.ti_id)
                case f.Release(entry, outcome):
                    found = next((one for one in live if one.id == entry.reservation), None)
                    if found:
                        self._release(found, outcome, view, now)
                    else:
                        self._ledger.release(entry.reservation, outcome)
                case f.GiveBack(entry):
                    log.info(
                        "%s goes back to the scheduler after %.0f s: nothing could serve it",
                        entry.ref,
                        now - entry.queued_s,
                    )
                    give_back([entry.ti_id])
                    self._hand_back(entry.ti_id)
                case f.Say(entry, text):
                    self._tell(entry.ti_id, text)

    def _bind(
        self,
        entry: f.Entry,
        assignment: Assignment,
        held_s: float,
        view: FleetView,
        workloads: Mapping[str, ExecuteTask],
        workflow: Workflow,
        solver: str,
        now: float,
    ) -> None:
        """Claim, write the binding, submit: if any step fails, the task is held as before and nothing stays taken."""
        ti = workloads[entry.ti_id].ti
        try:
            # Not the cycle's own time: what was released in this cycle has ended before this begins.
            wanted = self._wanted(ti, assignment, view, workflow, solver, time.time())
            reservation = self._ledger.claim(wanted)
        except Exception as error:
            # The others of the plan still get their chance; this one is planned again.
            level = logging.DEBUG if isinstance(error, ClaimLost) else logging.WARNING
            log.log(level, "%s could not be claimed: %r", entry.ref, error)
            self._frontier.handle(f.ClaimLost(entry.ti_id))
            return
        for instruction in self._frontier.handle(f.Claimed(entry.ti_id, reservation.id)):
            if isinstance(instruction, f.Release):
                self._ledger.release(reservation.id, instruction.outcome)
                continue
            try:
                because = self._hold_reason.pop(str(entry.ref), "")
                binding = binding_for(reservation, view.urls, self._settings.secret(), now, held_s, because)
                write_binding(_address(ti), binding)
                self._submit(entry.ti_id)
            except Exception:
                log.exception("%s: the binding could not be handed over", entry.ref)
                for undo in self._frontier.handle(f.HandoverFailed(entry.ti_id)):
                    assert isinstance(undo, f.Release)
                    self._ledger.release(reservation.id, undo.outcome)

    def _wanted(
        self, ti: Any, assignment: Assignment, view: FleetView, workflow: Workflow, solver: str, now: float
    ) -> Reservation:
        shares = tuple(
            DeviceShare(member.id, share.place, member.node, max(1, min(share.prompts, member.max_seqs)), share.prompts)
            for share in assignment.shares
            for member in view.fleet.members(share.place)
        )
        longest = max((share.cost for share in assignment.shares), key=lambda cost: cost.total_s)
        overhead_s = self._learned.overhead_s
        busy_s = longest.load_s + longest.transfer_s + longest.prefill_s
        stage = assignment.ref.stage
        return Reservation(
            id=new_id(),
            ti_id=str(ti.id),
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            map_index=ti.map_index,
            try_number=ti.try_number,
            stage=stage,
            model=assignment.model,
            policy=solver,
            claimed_at=now,
            prefill_end_at=now + overhead_s + busy_s,
            finish_at=now + overhead_s + busy_s + longest.decode_s,
            shares=shares,
            reason=assignment.reason,
            chain=tuple((segment.key, segment.tokens) for segment in workflow.chain(stage)),
            conversation=conversation_key(assignment.model, assignment.ref),
            evict=assignment.evict,
            cost=longest.as_dict(),
        )


@contextmanager
def connect() -> Iterator[Connection]:
    """A transaction on Airflow's database."""
    from airflow import settings

    assert settings.engine is not None
    with settings.engine.begin() as connection:
        yield connection


def open_source(settings: Settings) -> StateSource:
    """The state source that the settings name."""
    from airflow_fate.state.local import LocalFleet

    return LocalFleet(settings.fleet_dir, settings.label_prefix, stale_after_s=settings.stale_after_s)


def _address(ti: Any) -> TaskAddress:
    return TaskAddress(ti.dag_id, ti.run_id, ti.task_id, ti.map_index)


def _refs(shape: RunShape) -> Iterator[StageRef]:
    for task_id in shape.tasks:
        for index in shape.instances.get(task_id, (-1,)):
            yield StageRef(workflow_id(shape.dag_id, shape.run_id), stage_id(task_id, index))


def _shares_of_output(reservation: Reservation) -> tuple[tuple[str, float], ...]:
    total = sum(share.prompts for share in reservation.shares) or 1
    return tuple((share.node, share.prompts / total) for share in reservation.shares)


def _including(shape: RunShape, tis: Iterable[Any]) -> RunShape:
    """The shape with at least the given task instances, as their own specs say: a DAG may have changed since."""
    tasks, instances = dict(shape.tasks), dict(shape.instances)
    for ti in tis:
        known = tasks.get(ti.task_id, TaskShape(ti.task_id))
        tasks[ti.task_id] = replace(known, spec=read_spec(ti.executor_config))
        indexes = set(instances.get(ti.task_id, (-1,))) | {ti.map_index}
        instances[ti.task_id] = tuple(sorted(indexes - {-1} if len(indexes) > 1 else indexes))
    return replace(shape, tasks=tasks, instances=instances)


def _alone(shape: RunShape) -> RunShape:
    """The shape's tasks without their edges."""
    return replace(
        shape,
        tasks={
            task_id: TaskShape(task_id, task.spec and task.spec.model_copy(update={"continues": None}))
            for task_id, task in shape.tasks.items()
        },
    )
