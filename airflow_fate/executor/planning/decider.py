"""Who decides, and what when that fails? The configured policy, the rule that the search has found for it, and the way
down.

FATE plans in this thread, by the best rule that is known. A child process looks for better ones: it is asked now and
then, and its answers are used from when they are there. A task that the policy chokes on is placed by late-binding
round robin, alone. If the policy itself fails, round robin decides about all of them, with a warning: tasks still run.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from airflow_fate.executor.planning.isolation import culprits
from airflow_fate.executor.planning.solver import Question, SolverProcess
from airflow_fate.planner.plan import Hold, Impossible, Plan, PlanConfig, Policy, Problem, ReadyStage
from airflow_fate.planner.policies import policy as find_policy
from airflow_fate.planner.validate import violations
from airflow_fate.workflow import StageRef

if TYPE_CHECKING:
    from airflow_fate.physics.restart.snapshot import Snapshot

log = logging.getLogger(__name__)
ASK_EVERY_S = 1.0
FALLBACK = "round_robin"
HOW = "`fate compile` does it ahead"


@dataclass(frozen=True)
class SearchSettings:
    """What a search is for.

    :param limit_s: its wall time, in the child.
    """

    objective: str = "balanced"
    limit_s: float = 0.5


class Decider:
    """Plans and never raises.

    :param policy_name: ``fate`` or a baseline.
    :param solver: looks for better rules for FATE; None keeps to the greedy one.
    :param clock: monotonic seconds.
    :param find: a policy by its name.
    """

    def __init__(
        self,
        policy_name: str,
        solver: SolverProcess | None,
        search: SearchSettings = SearchSettings(),
        clock: Callable[[], float] = time.monotonic,
        find: Callable[[str], Policy] = find_policy,
    ) -> None:
        self._name = policy_name
        self._policy = find(policy_name)
        self._fallback = find(FALLBACK)
        self._config = PlanConfig()
        self._solver = solver if policy_name == "fate" else None
        self._search = search
        self._clock = clock
        self._asked = 0
        self._asked_at = -ASK_EVERY_S
        self._asked_about: frozenset[StageRef] = frozenset()
        self._odd: set[StageRef] = set()
        """Stages of the frontier that the policy can't plan."""
        self.degraded = ""
        # In a thread: a scheduler that says nothing for half a minute is taken for dead, and compiling takes longer.
        self._loading = threading.Thread(target=self.warm, name="fate-planner", daemon=True)

    def start(self) -> None:
        """Begin to load the planner."""
        self._loading.start()

    @property
    def is_loading(self) -> bool:
        """Whether a plan would have to wait for compiled code."""
        return self._loading.is_alive()

    def tend(self) -> None:
        """Replace a solver that has died or hangs. Cheap, and never raises: for every heartbeat."""
        # Two processes that compile at once would take twice as long.
        if self._solver and not self.is_loading:
            self._solver.tend()

    def stop(self) -> None:
        if self._solver:
            self._solver.stop()

    def warm(self) -> None:
        """Load the compiled code, or compile it: better now than in the first heartbeat with work."""
        if self._name == FALLBACK:
            return
        from airflow_fate.physics.jit.compiled import is_compiled
        from airflow_fate.planner.warm import warm

        if not is_compiled():
            log.warning("The planner has not been compiled on this machine yet, which takes a minute or two: %s", HOW)
        began = self._clock()
        warm()
        log.info("The planner is ready after %.1f s", self._clock() - began)

    def decide(self, problem: Problem) -> Plan:
        """A plan for the frontier; one that holds everything if every way has failed."""
        self._odd &= {ready.ref for ready in problem.frontier}
        plan = self._of_all(problem.of([ready for ready in problem.frontier if ready.ref not in self._odd]))
        alone = [self._alone(ready, problem) for ready in problem.frontier if ready.ref in self._odd]
        return replace(
            plan,
            assignments=plan.assignments + tuple(assignment for part in alone for assignment in part.assignments),
            holds=plan.holds + tuple(hold for part in alone for hold in part.holds),
            impossible=plan.impossible + tuple(stage for part in alone for stage in part.impossible),
        )

    def _of_all(self, problem: Problem) -> Plan:
        """A plan by the policy, or by the fallback; what a task of the frontier does to it costs that task alone."""
        failures = []
        for name, way in ((self._name, self._plan), (FALLBACK, self._fall_back)):

            def plan(part: Sequence[ReadyStage], way: Callable[[Problem], Plan] = way) -> Plan:
                return way(problem.of(part))

            try:
                try:
                    answer = way(problem)
                except Exception as error:
                    failures.append(f"{name}: {error!r}")
                    self._note_odd(culprits(problem.frontier, plan), name)
                    answer = plan([ready for ready in problem.frontier if ready.ref not in self._odd])
            except Exception:
                self._degrade(f"planning failed: {'; '.join(failures)}")
                continue
            if name == self._name:
                self.degraded = ""
            return answer
        why = f"no plan can be made at all ({failures[-1]}); the scheduler's log has more"
        holds = (Hold(ready.ref, "", problem.now + ASK_EVERY_S, why) for ready in problem.frontier)
        return Plan(holds=tuple(holds), solver="none")

    def _fall_back(self, problem: Problem) -> Plan:
        return self._fallback(problem, self._config)

    def _alone(self, ready: ReadyStage, problem: Problem) -> Plan:
        """Where two of these are sent to the same room, the ledger lets one in."""
        try:
            return self._fall_back(problem.of([ready]))
        except Exception as error:
            return Plan(impossible=(Impossible(ready.ref, f"no plan can be made for this task: {error!r}"),))

    def _note_odd(self, errors: Mapping[ReadyStage, Exception], name: str) -> None:
        for ready, error in errors.items():
            log.warning("%s can't be planned by %s and is placed by %s: %r", ready.ref, name, FALLBACK, error)
            self._odd.add(ready.ref)

    def _plan(self, problem: Problem) -> Plan:
        if self._solver is not None and (better := self._solver.answer()) is not None:
            self._config = replace(self._config, rule=better.rule, joint=better.joint, solver="search")
        plan = self._policy(problem, self._config)
        if self._config.rule is not None and (wrong := violations(plan, problem)):
            log.warning("A plan by the rule that was found is invalid and thrown away: %s", "; ".join(wrong[:3]))
            self._config = replace(self._config, rule=None, joint=(), solver="greedy")
            plan = self._policy(problem, self._config)
        # A joint assignment is for its epoch; a rule holds on.
        self._config = replace(self._config, joint=())
        if self._solver is not None:
            self._ask(self._solver, problem)
        return plan

    def _ask(self, solver: SolverProcess, problem: Problem) -> None:
        from airflow_fate.planner.heartbeat import GREEDY_IN_HEARTBEAT

        about = frozenset(ready.ref for ready in problem.frontier)
        at = self._clock()
        if len(about) < 2 or about == self._asked_about or at - self._asked_at < ASK_EVERY_S:
            return
        question = Question(
            snapshot=partial(_snapshot, problem),
            incumbent=self._config.rule or GREEDY_IN_HEARTBEAT,
            greedy=GREEDY_IN_HEARTBEAT,
            objective=self._search.objective,
            seed=self._asked,
            limit_s=self._search.limit_s,
        )
        if solver.ask(question):
            self._asked += 1
            self._asked_at, self._asked_about = at, about

    def _degrade(self, why: str) -> None:
        if self.degraded != why:
            log.exception("Planning is degraded to %s: %s", FALLBACK, why)
        self.degraded = why


def _snapshot(problem: Problem) -> Snapshot:
    from airflow_fate.physics.restart.snapshot import snapshot

    return snapshot(problem.frontier, problem.workflows.values(), problem.state, problem.costs, problem.now)
