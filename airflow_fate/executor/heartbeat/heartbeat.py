"""What does one heartbeat do? Facts in, release, plan, claim, hand over, tell.

The frontier says what is to be done about a task, and the heartbeat does it: all I/O stands here, no decision does.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, assert_never

from sqlalchemy.exc import DBAPIError

from airflow_fate.executor import frontier as f
from airflow_fate.executor.cycle import Cycle
from airflow_fate.executor.heartbeat.ends import apart
from airflow_fate.executor.heartbeat.handover import (
    TaskAddress,
    binding_for,
    refusal_for,
    reservation_for,
    write_binding,
)
from airflow_fate.executor.heartbeat.metrics import emit
from airflow_fate.executor.runs.connections import Elsewhere
from airflow_fate.state.ledger import DATABASE_AWAY, ClaimLost
from airflow_fate.state.presence import NOTED_EVERY_S

if TYPE_CHECKING:
    from airflow.executors.workloads import ExecuteTask

    from airflow_fate.executor.heartbeat.edges import Edges
    from airflow_fate.executor.heartbeat.ends import Ends
    from airflow_fate.executor.planning.planner import Planner
    from airflow_fate.executor.runs.run_cache import RunCache
    from airflow_fate.executor.runs.specs import Specs
    from airflow_fate.executor.settings import Settings
    from airflow_fate.state.ledger import Reservation
    from airflow_fate.state.source import FleetView

log = logging.getLogger(__name__)
LOOK_S = 1.0
"""A scheduler without tasks looks so often for reservations of others that have ended."""
PRUNE_S = 60.0
LEFT_OVER = "left over"
"""The outcome of a reservation whose try has been queued anew."""


class Outlet(Protocol):
    """Where tasks go from the frontier. A task is named by the UUID of its try."""

    def submit(self, ti_id: str) -> None:
        """To the inner executor: its binding lies in the state store."""

    def pass_on(self, ti_id: str) -> None:
        """To the inner executor: it is none of the fleet's."""

    def hand_back(self, ti_id: str) -> None:
        """To Airflow's scheduler, which will queue it anew."""

    def say(self, ti_id: str, text: str) -> None:
        """Nowhere: this is why it waits."""


class Heartbeat:
    """Carries out what the frontier says, once in each of the scheduler's heartbeats.

    :param outlet: where tasks go from the frontier.
    :param edges: what is reached outside of the executor.
    """

    def __init__(
        self,
        settings: Settings,
        frontier: f.Frontier,
        outlet: Outlet,
        edges: Edges,
        specs: Specs,
        run_cache: RunCache,
        planner: Planner,
        ends: Ends,
    ) -> None:
        self._settings = settings
        self._frontier = frontier
        self._outlet = outlet
        self._edges = edges
        self._ledger = edges.ledger
        self._budget = edges.budget
        self._specs = specs
        self._run_cache = run_cache
        self._planner = planner
        self._ends = ends
        self._postponed: deque[f.Instruction] = deque()
        self._granted: dict[str, Reservation] = {}
        """Claimed and not handed over yet, by id."""
        self._known_capacity: dict[str, int] = {}
        # Times of a clock that may be set back: how far away one is counts, not whether it has passed.
        self._looked_at = 0.0
        self._pruned_at = 0.0
        self._noted_at = 0.0

    def start(self) -> None:
        """Start the watch, and load the planner. Nothing here needs the database or a fleet to be there already."""
        self._edges.source.start()
        self._edges.notifier.start()
        self._edges.decider.start()
        self._edges.accounts.start()

    def stop(self) -> None:
        self._edges.source.stop()
        self._edges.notifier.stop()
        self._edges.decider.stop()
        self._edges.accounts.stop()

    def later(self, instruction: f.Instruction) -> None:
        """Carry an instruction out in the next heartbeat: its caller may be inside a transaction."""
        self._postponed.append(instruction)

    def live_reservations(self) -> dict[str, str]:
        """Try (UUID) -> reservation, for all that are live."""
        self._check_tables()
        return {reservation.ti_id: reservation.id for reservation in self._ledger.live()}

    def beat(self, workloads: Mapping[str, ExecuteTask]) -> None:
        """One heartbeat's work.

        :param workloads: held tasks by the UUID of their try.
        :raises DBAPIError: when the database can't be reached.
        """
        self._check_tables()
        try:
            self._beat(workloads)
        except DBAPIError:
            self._edges.store.doubt()
            raise

    def _beat(self, workloads: Mapping[str, ExecuteTask]) -> None:
        self._budget.renew()
        self._edges.decider.tend()
        # 1. Facts in.
        cycle = self._look(workloads)
        # 2. What has ended gives its devices back, whichever scheduler had bound it.
        self._catch_up(cycle)
        cycle = self._release_ended(cycle)
        self._ends.break_off(cycle)
        # 3. What has waited for too long goes back to Airflow's scheduler.
        self._handle(f.Tick(cycle.now), cycle)
        # 4. The others are planned; what the plan binds is claimed and handed over, what it holds is told why.
        self._plan(cycle)
        # 5. In the time that is left: what did the ended ones teach?
        self._ends.learn(cycle.view, self._budget)
        self._note(cycle)
        self._prune(cycle)

    # Facts in

    def _check_tables(self) -> None:
        """Go on with other tables where that must be. What they don't know of is forgotten with the next heartbeat."""
        if self._edges.store.check():
            self._known_capacity.clear()
            self._planner.forget()
            self._run_cache.read_again()

    def _look(self, workloads: Mapping[str, ExecuteTask]) -> Cycle:
        """What is true now. The ledger is asked when there is something to do, and else now and then."""
        now = self._edges.clock()
        view = self._ends.backoff.applied_to(self._edges.source.snapshot(), now)
        emit(view)
        is_busy = self._postponed or len(self._frontier) or abs(now - self._looked_at) > LOOK_S
        if is_busy:
            self._looked_at = now
        return Cycle(now, view, tuple(self._ledger.live()) if is_busy else (), workloads)

    # Release

    def _catch_up(self, cycle: Cycle) -> None:
        """What came between two heartbeats, and what the last one had no time for."""
        for _ in range(len(self._postponed)):
            self._carry_out([self._postponed.popleft()], cycle)

    def _release_ended(self, cycle: Cycle) -> Cycle:
        """End the reservations of tries that have ended; the cycle without them."""
        live = {reservation.id for reservation in cycle.live}
        # Another scheduler was first to see that these have ended.
        self._frontier.handle(
            f.Ended(tuple(entry.ti_id for entry in self._frontier.running() if entry.reservation not in live))
        )
        if not live:
            return cycle
        ended = self._edges.ended_tries([reservation.ti_id for reservation in cycle.live])
        # A held try holds no device. What lives of it is left over: of its part before a deferral that no scheduler has
        # seen as deferred, or of a claim or a release whose answer got lost. Its next claim would be refused for ever.
        left_over = dict.fromkeys((entry.ti_id for entry in self._frontier.held()), LEFT_OVER)
        outcomes = {**left_over, **ended}
        for reservation in cycle.live:
            if outcome := outcomes.get(reservation.ti_id):
                with apart(f"releasing {TaskAddress.of(reservation)}"):
                    self._ends.release(reservation, outcome, cycle)
        self._frontier.handle(f.Ended(tuple(ended)))
        return replace(cycle, live=tuple(each for each in cycle.live if each.ti_id not in outcomes))

    # Plan

    def _plan(self, cycle: Cycle) -> None:
        held = self._frontier.held()
        if not self._planner.is_due(held, cycle):
            return
        verdicts = self._planner.judge(held, cycle)
        elsewhere = [ti_id for ti_id, verdict in verdicts.items() if isinstance(verdict, Elsewhere)]
        self._handle(f.Elsewhere(tuple(elsewhere)), cycle)
        self._register(cycle.view)
        decision = self._planner.decide(self._frontier.held(), verdicts, cycle)
        # However long planning took: a plan is worth nothing until some of it is bound.
        self._budget.renew()
        cycle = replace(cycle, workflows=decision.workflows, warnings=decision.warnings)
        for event in decision.events:
            self._handle(event, cycle)

    def _register(self, view: FleetView) -> None:
        capacity = {device.id: device.max_seqs for device in view.fleet.devices.values()}
        if capacity != self._known_capacity:
            self._ledger.register(capacity)
            self._known_capacity = capacity

    # Carry out

    def _handle(self, event: f.Event, cycle: Cycle) -> None:
        self._carry_out(self._frontier.handle(event), cycle)

    def _carry_out(self, instructions: list[f.Instruction], cycle: Cycle) -> None:
        for instruction in instructions:
            match instruction:
                case f.Claim(entry) if self._budget.is_spent:
                    self._handle(f.ClaimLost(entry.ti_id), cycle)
                case f.Fail() | f.Release() | f.GiveBack() if self._budget.is_spent:
                    self._postponed.append(instruction)
                case f.Claim():
                    self._claim(instruction, cycle)
                case f.Dispatch(entry):
                    self._hand_over(entry, cycle)
                case f.Fail(entry, reason):
                    self._fail(entry, reason, cycle)
                case f.Release():
                    with self._again_if_away(instruction):
                        self._release(instruction, cycle)
                case f.GiveBack(entry):
                    with self._again_if_away(instruction):
                        self._give_back(entry, cycle)
                case f.PassOn(entry):
                    self._outlet.pass_on(entry.ti_id)
                case f.Say(entry, text):
                    self._outlet.say(entry.ti_id, text)
                case _:
                    assert_never(instruction)

    @contextmanager
    def _again_if_away(self, instruction: f.Instruction) -> Iterator[None]:
        """Where the database goes away, this is done in the next heartbeat, and what comes after it goes on."""
        try:
            yield
        except DATABASE_AWAY as error:
            log.warning("%s waits for the database: %r", type(instruction).__name__, error)
            self._postponed.append(instruction)

    def _claim(self, claim: f.Claim, cycle: Cycle) -> None:
        """Ask the ledger for the devices of an assignment."""
        entry = claim.entry
        ti = cycle.workloads[entry.ti_id].ti
        try:
            spec = self._specs.of(ti)
            wanted = reservation_for(
                ti,
                claim.assignment,
                cycle.view.fleet,
                cycle.workflows[entry.ref.workflow],
                claim.solver,
                self._run_cache.learned.overhead_s,
                # Not the heartbeat's own time: what it has released has ended before this begins.
                self._edges.clock(),
                tenant=spec.tenant if spec else "",
            )
            reservation = self._ledger.claim(wanted)
        except Exception as error:
            # The others of the plan still get their chance; this one is planned again.
            level = logging.DEBUG if isinstance(error, ClaimLost) else logging.WARNING
            log.log(level, "%s could not be claimed: %r", entry.ref, error)
            self._handle(f.ClaimLost(entry.ti_id), cycle)
            return
        self._granted[reservation.id] = reservation
        self._handle(f.Claimed(entry.ti_id, reservation.id), cycle)

    def _hand_over(self, entry: f.Entry, cycle: Cycle) -> None:
        """Write the binding and submit the task: if either fails, it is held as before and nothing stays taken."""
        reservation = self._granted.pop(entry.reservation)
        ti = cycle.workloads[entry.ti_id].ti
        try:
            binding = binding_for(
                reservation,
                cycle.view.urls,
                self._settings.secret(),
                cycle.now,
                cycle.now - entry.ready_s,
                entry.held_because,
                fenced=not self._edges.store.failure,
                warning="; ".join(filter(None, (self._degraded, cycle.warnings.get(entry.ti_id, "")))),
            )
            write_binding(ti, binding)
            self._outlet.submit(entry.ti_id)
        except Exception:
            log.exception("%s: the binding could not be handed over", entry.ref)
            self._handle(f.HandoverFailed(entry.ti_id), cycle)

    @property
    def _degraded(self) -> str:
        """What this scheduler has to do without; empty where nothing is missing."""
        missing = "; ".join(filter(None, (self._edges.store.failure, self._edges.decider.degraded)))
        return f"FateExecutor is degraded: {missing}" if missing else ""

    def _fail(self, entry: f.Entry, reason: str, cycle: Cycle) -> None:
        """Let a task fail with its reason; without one in its store it fails as well, only more poorly."""
        if (workload := cycle.workloads.get(entry.ti_id)) is None:
            return
        log.warning("%s fails before it gets a device: %s", entry.ref, reason)
        with apart(f"telling {entry.ref} why it fails", and_database=True):
            write_binding(workload.ti, refusal_for(entry, workload.ti.try_number, reason))
        self._outlet.submit(entry.ti_id)

    def _release(self, release: f.Release, cycle: Cycle) -> None:
        self._granted.pop(release.reservation, None)
        with apart(f"releasing reservation {release.reservation}"):
            for reservation in cycle.live:
                if reservation.id == release.reservation:
                    self._ends.release(reservation, release.outcome, cycle)
                    return
            self._ledger.release(release.reservation, release.outcome)

    def _give_back(self, entry: f.Entry, cycle: Cycle) -> None:
        waited_s = cycle.now - entry.queued_s
        log.info("%s goes back to the scheduler after %.0f s: nothing could serve it", entry.ref, waited_s)
        with apart(f"giving {entry.ref} back"):
            self._edges.give_back([entry.ti_id])
            self._outlet.hand_back(entry.ti_id)

    # What is left to do

    def _note(self, cycle: Cycle) -> None:
        """Note which devices are there, whether anybody uses them or not."""
        if abs(cycle.now - self._noted_at) < NOTED_EVERY_S:
            return
        self._noted_at = cycle.now
        devices = [device for device in cycle.view.fleet.devices if device in cycle.view.reports]
        with apart("noting which devices are there"):
            self._edges.presence.note(devices, cycle.now)
            self._edges.presence.prune(cycle.now - self._settings.keep_s)

    def _prune(self, cycle: Cycle) -> None:
        """Forget a few of the oldest reservations; where there are more, some with each heartbeat."""
        if abs(cycle.now - self._pruned_at) < PRUNE_S:
            return
        if not self._ledger.prune(self._settings.keep_s):
            self._pruned_at = cycle.now
