"""What does one cycle do? Facts in, plan, claims, bindings out: the I/O around the frontier's pure state machine."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from airflow_fate.executor.frontier import frontier as f
from airflow_fate.executor.heartbeat.budget import Budget
from airflow_fate.executor.heartbeat.ends import Ends, apart
from airflow_fate.executor.heartbeat.handover import (
    TaskAddress,
    binding_for,
    refusal_for,
    reservation_for,
    write_binding,
)
from airflow_fate.executor.heartbeat.metrics import emit
from airflow_fate.executor.heartbeat.notifier import EndNotifier
from airflow_fate.executor.planning.decider import Decider, SearchSettings
from airflow_fate.executor.planning.snapshot import broken, cluster_state
from airflow_fate.executor.planning.solver import SolverProcess
from airflow_fate.executor.runs.connections import Connections, Elsewhere, NotKnownYet, Placed, Refused, Verdict
from airflow_fate.executor.runs.reader import ended_tries, give_back
from airflow_fate.executor.runs.run_cache import FailedTries, Memory
from airflow_fate.executor.runs.specs import Specs
from airflow_fate.messages import SpecError
from airflow_fate.planner.plan import Assignment, Hold, Impossible, Plan, Problem, ReadyStage
from airflow_fate.state.history import History
from airflow_fate.state.ledger import ClaimLost, Ledger, Reservation
from airflow_fate.state.limits import bounded
from airflow_fate.state.store import Store
from airflow_fate.workflow import Workflow

if TYPE_CHECKING:
    from airflow.executors.workloads import ExecuteTask

    from airflow_fate.executor.settings import Settings
    from airflow_fate.state.source import FleetView, StateSource

log = logging.getLogger(__name__)
REPLAN_S = 1.0
"""Held tasks are planned again after so long even if nothing happened: busy devices come nearer to being free."""
PRUNE_S = 60.0
NO_PLANNER = "the planner is being loaded; where it must be compiled first, that takes a minute or two"
NO_FLEET = "no device of the fleet is known: is it up, and does [fate] fleet_dir, or pod_selector, name it?"


class Binder:
    """Carries out the frontier's instructions.

    :param submit: gives a bound task to the inner executor.
    :param tell: says why a task waits.
    :param hand_back: drops a task that went back to Airflow's scheduler.
    :param pass_on: gives the inner executor a task that is none of the fleet's.
    :param connections: what is known of the tasks' connections.
    """

    def __init__(
        self,
        settings: Settings,
        frontier: f.Frontier,
        submit: Callable[[str], None],
        tell: Callable[[str, str], None],
        hand_back: Callable[[str], None],
        pass_on: Callable[[str], None],
        connections: Connections,
    ) -> None:
        self._settings = settings
        self._pass_on = pass_on
        self._connections = connections
        self._frontier = frontier
        self._submit = submit
        self._tell = tell
        self._hand_back = hand_back
        self._store = Store(connect)
        self._ledger = Ledger(self._store.connect)
        self._specs = Specs()
        self._memory = Memory(settings, self._ledger, History(self._store.connect), connections, self._specs)
        self._source: StateSource = open_source(settings)
        self._solver = SolverProcess() if settings.solver == "search" and settings.policy == "fate" else None
        self._decider = Decider(
            settings.policy,
            self._solver,
            SearchSettings(settings.objective, settings.search_s),
        )
        # In a thread: a scheduler that says nothing for half a minute is taken for dead, and compiling takes longer.
        self._loading = threading.Thread(target=self._decider.warm, name="fate-planner", daemon=True)
        self._notifier = EndNotifier()
        self._waiting: list[f.Instruction] = []
        self._known_capacity: dict[str, int] = {}
        self._planned_at = 0.0
        self._planned_for: tuple[object, ...] = ()
        self._prune_at = 0.0
        self._hold_reason: dict[str, str] = {}
        self._ends = Ends(settings, self._ledger, self._memory, self._notifier)
        self._budget = Budget()
        self._broken: frozenset[str] = frozenset()

    def start(self) -> None:
        """Start the watch, and load the planner. Nothing here needs the database or a fleet to be there already."""
        self._source.start()
        self._notifier.start()
        self._loading.start()

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
        self._check_store()
        return {reservation.ti_id: reservation.id for reservation in self._ledger.live()}

    def cycle(self, workloads: Mapping[str, ExecuteTask]) -> None:
        """One heartbeat's work.

        :param workloads: held tasks by the UUID of their try.
        """
        self._check_store()
        try:
            self._cycle(workloads)
        except DBAPIError:
            self._store.doubt()
            raise

    def _check_store(self) -> None:
        """Go on with other tables where that must be. What they don't know of is forgotten with the next cycle."""
        if self._store.check():
            self._known_capacity.clear()
            self._planned_for = ()
            self._memory.read_again()

    def _cycle(self, workloads: Mapping[str, ExecuteTask]) -> None:
        if self._solver and not self._loading.is_alive():
            self._solver.tend()
        now = time.time()
        self._budget.renew()
        view = self._ends.trust.of(self._source.snapshot(), now)
        emit(view)
        waiting, self._waiting = self._waiting, []
        live = self._ledger.live() if waiting or len(self._frontier) or now - self._planned_at > REPLAN_S else []
        self._carry_out(waiting, view, live, workloads, now)
        live = self._release_ended(live, view, now)
        self._end_broken(live, view)
        self._carry_out(self._frontier.handle(f.Tick(now)), view, live, workloads, now)
        held = self._frontier.held()
        if held and self._is_due(held, live, view, now):
            self._plan(held, live, view, workloads, now)
        elif not held and now - self._planned_at > REPLAN_S:
            self._planned_at = now
            self._hold_reason.clear()
        self._ends.learn(view, self._budget)
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
                with apart(f"releasing {TaskAddress.of(reservation)}"):
                    self._ends.release(reservation, outcome, view, now)
        self._frontier.handle(f.Ended(tuple(ended)))
        return [reservation for reservation in live if reservation.ti_id not in ended]

    def _end_broken(self, live: list[Reservation], view: FleetView) -> None:
        """Fail the tries whose group is no longer whole: an engine that has lost a member may hang instead of failing.

        Their reservations end as any other's, when the database says that the try has.
        """
        if not live:
            return
        found = {reservation.id: reservation for reservation in broken(view, live)}
        for reservation in found.values():
            if reservation.id not in self._broken:
                log.warning("%s: %s has lost a member", TaskAddress.of(reservation), reservation.shares[0].place)
                self._ends.tell_gateways(reservation, view, "its group has lost a member")
        self._broken = frozenset(found)

    # Plan

    def _is_due(self, held: tuple[f.Entry, ...], live: list[Reservation], view: FleetView, now: float) -> bool:
        seen = (
            tuple(entry.ti_id for entry in held),
            tuple(reservation.id for reservation in live),
            view.version,
            self._connections.version,
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
        self._specs.keep(workloads.keys())
        verdicts = {entry.ti_id: self._verdict(workloads[entry.ti_id]) for entry in held}
        elsewhere = tuple(ti_id for ti_id, verdict in verdicts.items() if isinstance(verdict, Elsewhere))
        self._carry_out(self._frontier.handle(f.Elsewhere(elsewhere)), view, live, workloads, now)
        held = tuple(entry for entry in held if not isinstance(verdicts[entry.ti_id], Elsewhere))
        missing = NO_PLANNER if self._loading.is_alive() else self._nothing_up(view)
        if missing:
            holds = tuple(Hold(entry.ref, "", now + REPLAN_S, missing) for entry in held)
            self._hold_reason |= {str(hold.ref): missing for hold in holds}
            self._carry_out(self._frontier.handle(f.Planned(Plan(holds=holds), now)), view, live, workloads, now)
            return
        self._register(view)
        refused = {ti_id: verdict.reason for ti_id, verdict in verdicts.items() if isinstance(verdict, Refused)}
        waiting = {ti_id: verdict.reason for ti_id, verdict in verdicts.items() if isinstance(verdict, NotKnownYet)}
        runs = self._memory.runs(
            [workloads[ti_id].ti for ti_id, verdict in verdicts.items() if isinstance(verdict, Placed)]
        )
        refused |= runs.refused
        for entry in held:
            if entry.ref.workflow in runs.unusable:
                refused.setdefault(entry.ti_id, runs.unusable[entry.ref.workflow])
        failed = self._memory.failed_tries([workloads[entry.ti_id].ti for entry in held])
        refused |= {ti_id: tries.refusal for ti_id, tries in failed.items() if tries.refusal}
        usable = [entry for entry in held if entry.ti_id not in refused and entry.ti_id not in waiting]
        ready = [
            ReadyStage(entry.ref, entry.ready_s, failed.get(entry.ti_id, FailedTries()).places) for entry in usable
        ]
        state = cluster_state(view, live, self._memory.outputs, now)
        plan = self._decider.decide(Problem(ready, runs.workflows, state, self._memory.learned.costs, now))
        impossible = (Impossible(entry.ref, refused[entry.ti_id]) for entry in held if entry.ti_id in refused)
        unknown = (
            Hold(entry.ref, "", now + REPLAN_S, waiting[entry.ti_id]) for entry in held if entry.ti_id in waiting
        )
        plan = replace(plan, holds=(*plan.holds, *unknown), impossible=(*plan.impossible, *impossible))
        refs = {str(entry.ref) for entry in held}
        self._hold_reason = {ref: reason for ref, reason in self._hold_reason.items() if ref in refs} | {
            str(hold.ref): hold.reason for hold in plan.holds
        }
        # However long planning took: what it found is worth nothing until some of it is bound.
        self._budget.renew()
        claims = self._frontier.handle(f.Planned(plan, now))
        self._carry_out(claims, view, live, workloads, now, runs.workflows, plan.solver)

    def _nothing_up(self, view: FleetView) -> str:
        """What to do about a fleet of which no device may get a task; empty when one may."""
        if not view.fleet.devices:
            return NO_FLEET
        if any(view.usable.values()):
            return ""
        if self._settings.state_source == "local":
            how = f"is it up? `fate fleet status --dir {self._settings.fleet_dir}` shows it, `fate fleet up` starts it"
        else:
            how = f"see their pods: `kubectl get pods -l {self._settings.pod_selector}`, and `fate doctor`"
        return f"none of the {len(view.fleet.devices)} devices of the fleet may get tasks now; {how}"

    def _verdict(self, workload: ExecuteTask) -> Verdict:
        """What becomes of a held task, by its spec and its connection."""
        try:
            spec = self._specs.of(workload.ti)
        except SpecError as error:
            return Refused(str(error))
        verdict = self._connections.judge(spec) if spec else Elsewhere()
        if isinstance(verdict, Placed):
            bundle = getattr(workload, "bundle_info", None)
            why = self._settings.refused_tenant(verdict.spec.tenant, bundle.name if bundle else "")
            return Refused(why) if why else verdict
        return verdict

    def _register(self, view: FleetView) -> None:
        capacity = {device.id: device.max_seqs for device in view.fleet.devices.values()}
        if capacity != self._known_capacity:
            self._ledger.register(capacity)
            self._known_capacity = capacity

    def _prune(self, now: float) -> None:
        """Forget a few of the oldest reservations; where there are more, some with each heartbeat."""
        if now < self._prune_at:
            return
        pruned = self._ledger.prune(self._settings.keep_s)
        self._prune_at = now if pruned else now + PRUNE_S

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
                case f.Claim(entry) if self._budget.is_spent:
                    self._frontier.handle(f.ClaimLost(entry.ti_id))
                case f.Claim(entry, assignment, held_s):
                    assert workflows is not None
                    self._bind(entry, assignment, held_s, view, workloads, workflows[entry.ref.workflow], solver, now)
                case f.PassOn(entry):
                    self._pass_on(entry.ti_id)
                case f.Say(entry, text):
                    self._tell(entry.ti_id, text)
                case _ if self._budget.is_spent:
                    self._waiting.append(instruction)
                case f.Fail(entry, reason):
                    self._refuse(entry, reason, workloads)
                case f.Release(entry, outcome):
                    with apart(f"releasing {entry.ref}"):
                        found = next((one for one in live if one.id == entry.reservation), None)
                        if found:
                            self._ends.release(found, outcome, view, now)
                        else:
                            self._ledger.release(entry.reservation, outcome)
                case f.GiveBack(entry):
                    waited_s = now - entry.queued_s
                    log.info("%s goes back to the scheduler after %.0f s: nothing could serve it", entry.ref, waited_s)
                    with apart(f"giving {entry.ref} back"):
                        give_back([entry.ti_id])
                        self._hand_back(entry.ti_id)

    def _refuse(self, entry: f.Entry, reason: str, workloads: Mapping[str, ExecuteTask]) -> None:
        """Let a task fail with its reason; without one in its store it fails as well, only more poorly."""
        if (workload := workloads.get(entry.ti_id)) is None:
            return
        log.warning("%s can never be placed: %s", entry.ref, reason)
        with apart(f"telling {entry.ref} why it fails", and_database=True):
            write_binding(workload.ti, refusal_for(entry, workload.ti.try_number, reason))
        self._submit(entry.ti_id)

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
            overhead_s = self._memory.learned.overhead_s
            wanted = reservation_for(ti, assignment, view.fleet, workflow, solver, overhead_s, time.time())
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
                spec = self._specs.of(ti)
                binding = binding_for(
                    reservation,
                    view.urls,
                    self._settings.secret(),
                    now,
                    held_s,
                    because,
                    tenant=spec.tenant if spec else "",
                    fenced=not self._store.failure,
                    warning="; ".join(filter(None, (self._store.failure, self._decider.degraded))),
                )
                write_binding(ti, binding)
                self._submit(entry.ti_id)
            except Exception:
                log.exception("%s: the binding could not be handed over", entry.ref)
                for undo in self._frontier.handle(f.HandoverFailed(entry.ti_id)):
                    assert isinstance(undo, f.Release)
                    self._ledger.release(reservation.id, undo.outcome)


@contextmanager
def connect() -> Iterator[Connection]:
    """A transaction on Airflow's database, in which nothing waits for long."""
    from airflow import settings

    assert settings.engine is not None
    with settings.engine.begin() as connection, bounded(connection):
        yield connection


def open_source(settings: Settings) -> StateSource:
    """The state source that the settings name."""
    if settings.state_source == "kubernetes":
        from airflow_fate.state.kubernetes.source import KubernetesFleet, Where

        assert settings.models_file is not None
        where = Where(
            models_file=settings.models_file,
            selector=settings.pod_selector,
            inference_pool=settings.inference_pool,
            gateway_port=settings.gateway_port,
            namespace=settings.namespace,
            accounts=settings.service_accounts,
            label_prefix=settings.label_prefix,
            kubeconfig=settings.kubeconfig,
        )
        return KubernetesFleet(where, settings.pod_stale_after_s)
    from airflow_fate.state.local import LocalFleet

    return LocalFleet(settings.fleet_dir, settings.label_prefix, stale_after_s=settings.stale_after_s)
