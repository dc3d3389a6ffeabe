"""What becomes of the held tasks? The planner decides; about some it can't be asked, or not yet, and they say why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_fate.costs import Action, Payer
from airflow_fate.executor import frontier as f
from airflow_fate.executor.planning.snapshot import cluster_state
from airflow_fate.executor.runs.connections import Elsewhere, NotKnownYet, Placed, Refused, Verdict
from airflow_fate.executor.runs.run_cache import FailedTries
from airflow_fate.messages import SpecError
from airflow_fate.planner.plan import Problem, ReadyStage
from airflow_fate.workflow import Workflow

if TYPE_CHECKING:
    from airflow.executors.workloads import ExecuteTask

    from airflow_fate.executor.accounts.accounts import Accounts
    from airflow_fate.executor.cycle import Cycle
    from airflow_fate.executor.planning.decider import Decider
    from airflow_fate.executor.runs.connections import Connections
    from airflow_fate.executor.runs.run_cache import RunCache
    from airflow_fate.executor.runs.specs import Specs
    from airflow_fate.executor.settings import Settings
    from airflow_fate.state.source import FleetView

REPLAN_S = 1.0
"""Held tasks are planned again after so long even if nothing happened: busy devices come nearer to being free."""
NO_PLANNER = "the planner is being loaded; where it must be compiled first, that takes a minute or two"
NO_FLEET = "no device of the fleet is known: is it up, and does [fate] fleet_dir, or pod_selector, name it?"


@dataclass(frozen=True)
class Decision:
    """What was decided about the held tasks.

    :param events: for the frontier, in this order.
    :param workflows: the planned tasks' runs, by id.
    :param warnings: try -> what its task is to be warned of.
    """

    events: tuple[f.Event, ...]
    workflows: Mapping[str, Workflow] = field(default_factory=dict)
    warnings: Mapping[str, str] = field(default_factory=dict)


class Planner:
    """Has held tasks decided about, when there is reason to."""

    def __init__(
        self,
        settings: Settings,
        specs: Specs,
        connections: Connections,
        run_cache: RunCache,
        decider: Decider,
        accounts: Accounts,
    ) -> None:
        self._settings = settings
        self._specs = specs
        self._connections = connections
        self._run_cache = run_cache
        self._decider = decider
        self._accounts = accounts
        self._planned_at = 0.0
        self._planned_for: object = None

    def forget(self) -> None:
        """Plan in the next heartbeat, even if nothing that is seen here has changed."""
        self._planned_for = None

    def is_due(self, held: Sequence[f.Entry], cycle: Cycle) -> bool:
        """Whether something has changed since the last plan, or enough time has passed, or the clock was set back."""
        return bool(held) and (
            abs(cycle.now - self._planned_at) >= REPLAN_S or self._planned_for != self._what_counts(held, cycle)
        )

    def judge(self, held: Sequence[f.Entry], cycle: Cycle) -> Mapping[str, Verdict]:
        """Try -> what becomes of a held task, by its spec and its connection."""
        self._specs.keep(cycle.workloads.keys())
        return {entry.ti_id: self._verdict(cycle.workloads[entry.ti_id]) for entry in held}

    def decide(self, held: Sequence[f.Entry], verdicts: Mapping[str, Verdict], cycle: Cycle) -> Decision:
        """What becomes of held tasks that run on the fleet.

        :param verdicts: for each of the held tasks, and maybe for others.
        :raises DBAPIError: when the database can't be reached.
        """
        self._planned_at = cycle.now
        self._planned_for = self._what_counts(held, cycle)
        if reason := self._why_nothing(cycle.view):
            return Decision((f.NotPlanned({entry.ti_id: reason for entry in held}, cycle.now),))
        tasks = {entry.ti_id: cycle.workloads[entry.ti_id].ti for entry in held}
        runs = self._run_cache.runs([ti for ti_id, ti in tasks.items() if isinstance(verdicts[ti_id], Placed)])
        failed = self._run_cache.failed_tries(tasks.values())
        overdrafts = self._accounts.judge(
            {
                ti_id: Payer(ti.dag_id, ti.run_id, verdict.spec.tenant)
                for ti_id, ti in tasks.items()
                if isinstance(verdict := verdicts[ti_id], Placed)
            },
            cycle.now,
        )
        warnings: dict[str, str] = {}
        unknown: dict[str, str] = {}
        rejected: dict[str, str] = {}
        ready: list[ReadyStage] = []
        for entry in held:
            verdict = verdicts[entry.ti_id]
            tries = failed.get(entry.ti_id, FailedTries())
            over = overdrafts.get(entry.ti_id)
            reason = (
                tries.refusal
                or runs.refused.get(entry.ti_id, "")
                or (verdict.reason if isinstance(verdict, Refused) else "")
                or runs.unusable.get(entry.ref.workflow, "")
            )
            if reason:
                rejected[entry.ti_id] = reason
            elif isinstance(verdict, NotKnownYet):
                unknown[entry.ti_id] = verdict.reason
            elif over is not None and over.action is Action.FAIL:
                rejected[entry.ti_id] = over.reason
            elif over is not None and over.action is Action.HOLD:
                unknown[entry.ti_id] = over.reason
            else:
                if over is not None:
                    warnings[entry.ti_id] = over.reason
                ready.append(ReadyStage(entry.ref, entry.ready_s, tries.places))
        state = cluster_state(cycle.view, cycle.live, self._run_cache.outputs, cycle.now)
        problem = Problem(ready, runs.workflows, state, self._run_cache.learned.costs, cycle.now)
        plan = f.Planned(self._decider.decide(problem), cycle.now)
        return Decision((plan, f.Rejected(rejected), f.NotPlanned(unknown, cycle.now)), runs.workflows, warnings)

    def _what_counts(self, held: Sequence[f.Entry], cycle: Cycle) -> object:
        """What a plan rests on, as a value that tells two of them apart."""
        return (
            tuple(entry.ti_id for entry in held),
            tuple(reservation.id for reservation in cycle.live),
            cycle.view.version,
            self._connections.version,
            self._accounts.version,
        )

    def _why_nothing(self, view: FleetView) -> str:
        """Why no task at all can be planned now, and what to do about it; empty when one can."""
        if self._decider.is_loading:
            return NO_PLANNER
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
