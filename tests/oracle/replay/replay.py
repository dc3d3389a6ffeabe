"""What comes of decisions? Workflows arrive, tools run, stages become ready, and shards go where they were bound."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import Any

from airflow_fate.cluster import Fleet
from airflow_fate.simulator.workload import Workload
from airflow_fate.workflow import StageRef, Workflow
from tests.oracle.replay.caches import chain
from tests.oracle.replay.clock import SAME_TIME_S, Clock
from tests.oracle.replay.decisions import Ahead, Bind, Decision, Evict
from tests.oracle.replay.engine import Engine
from tests.oracle.replay.state import Progress, Shard, make_places

_ROUNDING_S = 1e-6


class Impossible(ValueError):
    """A decision that the physics doesn't allow when it is made."""


def replay(workload: Workload, fleet: Fleet, decisions: Iterable[Decision]) -> list[dict[str, Any]]:
    """The event log of a workload whose policy decided so.

    :raises Impossible: naming the decision that can't be carried out.
    """
    return _Replay(workload, fleet).run(decisions)


class _Replay:
    def __init__(self, workload: Workload, fleet: Fleet) -> None:
        self.fleet, self.clock = fleet, Clock()
        self.workflows = {workflow.id: workflow for workflow in workload.workflows}
        self.output_tokens = {
            ref: workload.output_tokens.get(ref, workflow.stages[ref.stage].expected_output_tokens)
            for workflow in workload.workflows
            for ref in (StageRef(workflow.id, stage) for stage in workflow.stages)
        }
        self.places = make_places(fleet)
        self.engine = Engine(fleet, self.workflows, self.output_tokens, self.clock, self._shard_ended)
        self.bound = 0
        self.stages = {
            StageRef(workflow.id, stage.id): Progress(len(workflow.parents(stage.id)), stage.prompts)
            for workflow in workload.workflows
            for stage in workflow.stages.values()
        }
        self.left = {workflow.id: len(workflow.stages) for workflow in workload.workflows}
        for workflow in sorted(workload.workflows, key=lambda workflow: workflow.arrival_s):
            self.clock.at(workflow.arrival_s, self._arrive, workflow)

    def run(self, decisions: Iterable[Decision]) -> list[dict[str, Any]]:
        to_do = deque(decisions)
        while True:
            due_s = to_do[0].t_s if to_do else math.inf
            t_s = min(self.clock.next_s, due_s)
            if due_s <= self.clock.now_s + SAME_TIME_S:
                # What it waits for may come a rounding error later here than there.
                t_s = self.clock.next_s
                if t_s > self.clock.now_s + _ROUNDING_S:
                    raise Impossible(f"at {self.clock.now_s} s: {to_do[0]}")
            if t_s == math.inf:
                return self.clock.log()
            self.clock.go_to(t_s)
            self.engine.settle(self.places)
            # Loads start after all decisions of an epoch; an eviction may have to wait for one that starts.
            while self._carry_out_all(to_do):
                self.engine.settle(self.places)

    def _carry_out_all(self, to_do: deque[Decision]) -> bool:
        """Carry out the decisions of now, up to the first that is impossible; whether there were some."""
        before = len(to_do)
        while to_do and to_do[0].t_s <= self.clock.now_s + SAME_TIME_S and self._carry_out(to_do[0]):
            to_do.popleft()
        return len(to_do) < before

    def _carry_out(self, decision: Decision) -> bool:
        """False where it is impossible now."""
        place, loader = self.places[decision.place], self.engine.loader
        if isinstance(decision, Bind):
            return self._bind(decision)
        if isinstance(decision, Evict):
            if not loader.can_evict(place, decision.model):
                return False
            loader.evict(place, decision.model)
        elif isinstance(decision, Ahead):
            if decision.model in place.residents:
                return False
            loader.ask(place, decision.model, decision.why)
        return True

    def _bind(self, decision: Bind) -> bool:
        ref, place = decision.ref, self.places[decision.place]
        workflow, progress = self.workflows[ref.workflow], self.stages[ref]
        stage = workflow.stages[ref.stage]
        if not progress.is_ready or decision.prompts > progress.unbound:
            return False
        progress.unbound -= decision.prompts
        progress.shards_left += 1
        self.clock.note(
            "bind",
            workflow=workflow.id,
            stage=stage.id,
            shard=decision.shard,
            device=place.id,
            model=stage.model,
            prompts=decision.prompts,
        )
        links = chain(workflow, stage.id, place.id, self.output_tokens)
        shard = Shard(ref, stage, decision.shard, self.bound, place, decision.prompts, self.clock.now_s, links)
        self.bound += 1
        self._move_inputs(workflow, shard)
        progress.shards.append(shard)
        self.engine.bind(shard)
        return True

    def _move_inputs(self, workflow: Workflow, shard: Shard) -> None:
        for parent in workflow.parents(shard.stage.id):
            stage = workflow.stages[parent]
            for source in self.stages[StageRef(workflow.id, parent)].shards:
                if source.place.node == shard.place.node:
                    continue
                moved = stage.output_bytes * source.prompts / stage.prompts
                seconds = self.fleet.latency_s + moved * 8 / (shard.place.node.gbps * 1e9)
                self.clock.note(
                    "transfer",
                    shard.inputs_s,
                    workflow=workflow.id,
                    stage=shard.stage.id,
                    shard=shard.number,
                    device=shard.place.id,
                    parent=parent,
                    bytes=moved,
                    seconds=seconds,
                )
                shard.inputs_s += seconds

    def _arrive(self, workflow: Workflow) -> None:
        self.clock.note("arrive", workflow=workflow.id)
        for stage in workflow.order:
            if not workflow.parents(stage):
                self._make_ready(workflow, stage)

    def _make_ready(self, workflow: Workflow, stage_id: str) -> None:
        stage, ref = workflow.stages[stage_id], StageRef(workflow.id, stage_id)
        self.clock.note("ready", workflow=workflow.id, stage=stage_id)
        if stage.is_llm:
            self.stages[ref].is_ready = True
            return
        self.clock.note("tool", workflow=workflow.id, stage=stage_id, seconds=stage.duration_s)
        self.clock.at(self.clock.now_s + stage.duration_s, self._finish, workflow, stage_id)

    def _shard_ended(self, shard: Shard) -> None:
        progress = self.stages[shard.ref]
        progress.shards_left -= 1
        if not progress.shards_left and not progress.unbound:
            self._finish(self.workflows[shard.ref.workflow], shard.ref.stage)

    def _finish(self, workflow: Workflow, stage_id: str) -> None:
        self.clock.note("finish", workflow=workflow.id, stage=stage_id)
        for child in workflow.children(stage_id):
            progress = self.stages[StageRef(workflow.id, child)]
            progress.parents_left -= 1
            if not progress.parents_left:
                self._make_ready(workflow, child)
        self.left[workflow.id] -= 1
        if not self.left[workflow.id]:
            self.clock.note("done", workflow=workflow.id)
