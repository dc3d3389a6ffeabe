"""How does a workload run on a fleet in real time? Workflows arrive, stages are planned, claimed, asked, and ended.

The executor's decider plans, from the executor's snapshot, and the ledger gives away no more sequences than a device
has. What the executor learns from facts is learned here from the same facts.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from airflow_fate.executor.heartbeat.handover import binding_for, reservation_for
from airflow_fate.executor.planning.decider import Decider
from airflow_fate.executor.planning.snapshot import cluster_state, host_models
from airflow_fate.executor.runs.convert import workflow_id
from airflow_fate.executor.runs.learning import Learned
from airflow_fate.gateway.engines.base import EngineError, RequestRefused
from airflow_fate.messages import Binding, Facts, Share
from airflow_fate.planner.plan import Assignment, Plan, Problem, ReadyStage
from airflow_fate.replay.ask import Answer, Gateways
from airflow_fate.replay.fleet import FleetError
from airflow_fate.replay.log import Log, Served
from airflow_fate.replay.progress import Progress
from airflow_fate.replay.prompts import Prompts
from airflow_fate.simulator.workload import Workload
from airflow_fate.state.ledger import ClaimLost, Ledger, Reservation, new_id, transaction
from airflow_fate.state.source import FleetView, StateSource
from airflow_fate.state.store import in_memory
from airflow_fate.workflow import Stage, StageRef

log = logging.getLogger(__name__)
DAG = "replay"
"""Stands where reservations name a DAG."""
REPLAN_S = 0.5
"""Held stages are planned again after so long even if nothing happened."""
SILENT_S = 60.0
"""A fleet of which no device may get tasks for so long is given up."""
TRIES = 3
NO_OVERHEAD_S = 0.0
"""No process has to start before a stage's prompts are asked."""


@dataclass(frozen=True, slots=True)
class Try:
    """What a reservation says of whose it is, as of a task instance."""

    id: str
    run_id: str
    task_id: str
    try_number: int
    dag_id: str = DAG
    map_index: int = -1


@dataclass(frozen=True)
class Lesson:
    """What an ended stage teaches: the arguments of ``Learned.after``, but for the fleet."""

    reservation: Reservation
    facts: tuple[Facts, ...]
    at_s: float


class Replay:
    """One policy's run of a workload, which begins when this is made.

    :param workload: as :func:`as_played` makes it.
    :param on_end: called with each stage that has ended.
    :param clock: Unix seconds, those of the fleet's reports.
    """

    def __init__(
        self,
        workload: Workload,
        source: StateSource,
        gateways: Gateways,
        secret: str,
        decider: Decider,
        on_end: Callable[[StageRef], None] = lambda ref: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._workload = workload
        self._source = source
        self._gateways = gateways
        self._secret = secret
        self._decider = decider
        self._on_end = on_end
        self._clock = clock
        self._ledger = Ledger(partial(transaction, in_memory()), clock)
        self.learned = Learned()
        self._changed = asyncio.Event()
        self._frontier: dict[StageRef, ReadyStage] = {}
        self._tries: dict[StageRef, int] = {}
        self._resident: dict[str, set[str]] = {}
        """Device -> models that were there when it was last looked at."""
        self.fleet = source.snapshot().fleet
        self.planning_s: list[float] = []
        self.lessons: list[Lesson] = []
        self.asked_tokens = 0
        """Prompt tokens that the workload says, of all answered prompts."""
        self.counted_tokens = 0
        """Those that the engines counted, of the same prompts."""
        began_s = clock()
        self.log = Log(began_s)
        self.progress = Progress(
            replace(workflow, id=_long(workflow.id), arrival_s=began_s + workflow.arrival_s)
            for workflow in workload.workflows
        )
        self._prompts = Prompts(self.progress.workflows, new_id())

    @property
    def failures(self) -> Mapping[str, str]:
        """Workflow that could not end -> why."""
        return {_short(workflow): why for workflow, why in self.progress.failed.items()}

    async def play(self) -> None:
        """Return when each workflow has ended, or can't end.

        What has happened is in the log at any time. When this is cancelled, requests are broken off, reservations end.

        :raises FleetError: when no device may get tasks for a minute.
        """
        view = self._source.snapshot()
        self.fleet = view.fleet
        self._ledger.register({name: device.max_seqs for name, device in view.fleet.devices.items()})
        self._resident = {name: set(report.models) for name, report in view.reports.items()}
        try:
            async with asyncio.TaskGroup() as work:
                work.create_task(self._arrivals(work))
                await self._decide(work)
        except ExceptionGroup as errors:
            raise _first_of(errors, FleetError) from None

    async def _decide(self, work: asyncio.TaskGroup) -> None:
        """Plan whenever something has happened, until all is over."""
        seen_s = self._clock()
        while not self.progress.is_over:
            self._changed.clear()
            view, now = self._source.snapshot(), self._clock()
            if any(view.usable.values()):
                seen_s = now
            elif now - seen_s > SILENT_S:
                raise FleetError(f"no device of the fleet may get tasks since {now - seen_s:.0f} s")
            if self._frontier:
                await self._plan(view, now, work)
            with suppress(TimeoutError):
                async with asyncio.timeout(REPLAN_S):
                    await self._changed.wait()

    async def _arrivals(self, work: asyncio.TaskGroup) -> None:
        for workflow in sorted(self.progress.workflows.values(), key=lambda each: each.arrival_s):
            await asyncio.sleep(workflow.arrival_s - self._clock())
            self.log.of_workflow("arrive", _short(workflow.id), workflow.arrival_s)
            self._get_ready(self.progress.first_ready(workflow.id), work)

    def _get_ready(self, refs: list[StageRef], work: asyncio.TaskGroup) -> None:
        for ref in refs:
            ready_s = self.progress.ready_s(ref)
            self.log.of_stage("ready", _named(ref), ready_s)
            if self._stage_of(ref).is_llm:
                self._frontier[ref] = ReadyStage(ref, ready_s)
            else:
                work.create_task(self._tool(ref, ready_s, work))
        self._changed.set()

    async def _tool(self, ref: StageRef, ready_s: float, work: asyncio.TaskGroup) -> None:
        await asyncio.sleep(ready_s + self._stage_of(ref).duration_s - self._clock())
        ended_s = self._clock()
        self.log.of_stage("tool", _named(ref), ready_s, seconds=ended_s - ready_s)
        self._ended(ref, ended_s, work)

    def _ended(self, ref: StageRef, at_s: float, work: asyncio.TaskGroup) -> None:
        self.log.of_stage("finish", _named(ref), at_s)
        ready = self.progress.ended(ref, at_s)
        if self.progress.is_done(ref.workflow):
            self.log.of_workflow("done", _short(ref.workflow), self.progress.done_s(ref.workflow))
        self._get_ready(ready, work)
        self._on_end(_named(ref))

    async def _plan(self, view: FleetView, now: float, work: asyncio.TaskGroup) -> None:
        # Nothing moves between nodes, so where outputs lie counts for nothing.
        state = cluster_state(view, self._ledger.live(), {}, now)
        known = self.progress.workflows
        frontier = list(self._frontier.values())
        workflows = {ready.ref.workflow: known[ready.ref.workflow] for ready in frontier}
        problem = Problem(frontier, workflows, state, self.learned.costs, now)
        self._decider.tend()
        began_s = time.perf_counter()
        # Answers are timed meanwhile.
        plan = await asyncio.to_thread(self._decider.decide, problem)
        self.planning_s.append(time.perf_counter() - began_s)
        for impossible in plan.impossible:
            self._give_up(impossible.ref, impossible.reason)
        for assignment in plan.assignments:
            self._bind(assignment, plan, view, work)

    def _bind(self, assignment: Assignment, plan: Plan, view: FleetView, work: asyncio.TaskGroup) -> None:
        ready = self._frontier.get(assignment.ref)
        if ready is None:
            return
        ref, now = assignment.ref, self._clock()
        mine = Try(new_id(), _short(ref.workflow), ref.stage, self._tries.get(ref, 0) + 1)
        workflow = self.progress.workflows[ref.workflow]
        wanted = reservation_for(
            mine, assignment, view.fleet, workflow, plan.solver, NO_OVERHEAD_S, now, workflow.tenant
        )
        if any(share.device not in view.urls for share in wanted.shares):
            return
        try:
            reservation = self._ledger.claim(wanted)
        except ClaimLost:
            # A plan may be older than the end of what it counts on.
            return
        del self._frontier[ref]
        self._tries[ref] = mine.try_number
        binding = binding_for(reservation, view.urls, self._secret, now, now - ready.ready_s, "")
        work.create_task(self._serve(ready, reservation, binding, view, assignment.finish_s, work))

    async def _serve(
        self,
        ready: ReadyStage,
        reservation: Reservation,
        binding: Binding,
        view: FleetView,
        expected_end_s: float,
        work: asyncio.TaskGroup,
    ) -> None:
        """A stage from its bind to its end, or to its failure."""
        ref, outcome = ready.ref, "failed"
        try:
            prompts = self._prompts.of(ref)
            answers = await self._answers(ref, prompts, binding, view)
            outcome = "success"
        except EngineError as error:
            self._failed(ready, reservation, error)
            return
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self._ledger.release(reservation.id, outcome)
            self._changed.set()
            if outcome != "success":
                await self._tell(reservation, binding)
        first = answers[0][0]
        tokens = first.usage.prompt_tokens + first.usage.completion_tokens
        self._prompts.answered(ref, prompts[0], first.text, tokens)
        released_s = self._clock()
        self.asked_tokens += len(prompts) * max(1, self._stage_of(ref).prompt_tokens)
        self.counted_tokens += sum(answer.usage.prompt_tokens for part in answers for answer in part)
        shards = await self._served(reservation, binding, answers, view)
        self.log.served(_named(ref), shards, reservation.claimed_at, expected_end_s)
        facts = tuple(shard.facts for shard in shards)
        self.lessons.append(Lesson(reservation, facts, released_s))
        self.learned = self.learned.after(reservation, facts, view.fleet, released_s)
        self._ended(ref, max(shard.ended_s for shard in shards), work)

    async def _answers(
        self, ref: StageRef, prompts: list[str], binding: Binding, view: FleetView
    ) -> list[tuple[Answer, ...]]:
        """For each share, the answers to its prompts, in order.

        :raises EngineError: when a prompt gets none.
        """
        tokens = self._workload.output_tokens[_named(ref)]

        async def ask(share: Share, slots: asyncio.Semaphore, prompt: str) -> Answer:
            async with slots:
                engine = view.reports[share.device].engine
                return await self._gateways.ask(share, engine, binding.model, prompt, tokens)

        asked: list[list[asyncio.Task[Answer]]] = []
        first = 0
        try:
            async with asyncio.TaskGroup() as work:
                for share in binding.shares:
                    slots = asyncio.Semaphore(share.sequences)
                    mine = prompts[first : first + share.prompts]
                    asked.append([work.create_task(ask(share, slots, prompt)) for prompt in mine])
                    first += share.prompts
        except ExceptionGroup as errors:
            raise _first_of(errors, EngineError) from None
        return [tuple(task.result() for task in tasks) for tasks in asked]

    async def _served(
        self, reservation: Reservation, binding: Binding, answers: list[tuple[Answer, ...]], view: FleetView
    ) -> list[Served]:
        """What the devices say of a reservation that was answered; of one that is silent the phases are unknown."""
        place_of = {share.device: share.place for share in reservation.shares}
        shards = []
        for share, mine in zip(binding.shares, answers, strict=True):
            facts = Facts(reservation=reservation.id, device=share.device, model=binding.model)
            try:
                facts = await self._gateways.facts(share)
                gone = await self._gone(share, binding.model) if facts.load_s else set()
            except EngineError as error:
                log.warning("%s did not say what it measured: %s", share.device, error)
                gone = set()
            in_host = binding.model in host_models(view).get(share.node, ())
            source = "host" if in_host else "disk"
            shards.append(Served(place_of[share.device], binding.model, mine, facts, tuple(sorted(gone)), source))
        return shards

    async def _gone(self, share: Share, model: str) -> set[str]:
        """The models that have left a device for this one."""
        there = set((await self._gateways.report(share.url)).models)
        gone = self._resident.get(share.device, set()) - there - {model}
        self._resident[share.device] = there | {model}
        return gone

    def _failed(self, ready: ReadyStage, reservation: Reservation, error: EngineError) -> None:
        """A try has failed: the stage is tried elsewhere, unless its own request is at fault."""
        places = {share.place for share in reservation.shares}
        where = ", ".join(sorted(places))
        self.log.of_stage("fail", _named(ready.ref), self._clock(), device=where, reason=str(error))
        if isinstance(error, RequestRefused) or reservation.try_number >= TRIES:
            self._give_up(ready.ref, f"{ready.ref.stage} on {where}: {error}")
        elif ready.ref.workflow not in self.progress.failed:
            self._frontier[ready.ref] = replace(ready, avoid=ready.avoid | places)

    def _give_up(self, ref: StageRef, why: str) -> None:
        self.progress.fail(ref.workflow, why)
        self._frontier = {other: ready for other, ready in self._frontier.items() if other.workflow != ref.workflow}
        self._changed.set()

    async def _tell(self, reservation: Reservation, binding: Binding) -> None:
        for share in binding.shares:
            try:
                await self._gateways.end(share.url, reservation.id)
            except EngineError as error:
                log.warning("%s was not told that %s is over: %s", share.device, reservation.id, error)

    def _stage_of(self, ref: StageRef) -> Stage:
        return self.progress.workflows[ref.workflow].stages[ref.stage]


def _long(workflow: str) -> str:
    """A workflow's name as reservations make it."""
    return workflow_id(DAG, workflow)


def _short(workflow: str) -> str:
    return workflow.removeprefix(_long(""))


def _named(ref: StageRef) -> StageRef:
    """The stage as the workload names it."""
    return StageRef(_short(ref.workflow), ref.stage)


def _first_of(errors: ExceptionGroup[Exception], kind: type[Exception]) -> Exception:
    """The first of the errors where all are of the kind; else all of them.

    Not ``except*``: what is raised there comes wrapped in a group, in some of Python's versions.
    """
    if errors.split(kind)[1] is not None:
        return errors
    error: Exception = errors
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
