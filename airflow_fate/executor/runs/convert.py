"""What workflow is this dag run? Airflow's tasks and instances, read into plain values, become a ``Workflow``. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_fate.executor.runs.estimates import Estimator
from airflow_fate.messages import StageSpec
from airflow_fate.workflow import Stage, StageKind, Workflow

_INSTANCE = re.compile(r"(?P<task>.+)\[(?P<index>\d+)\]")


@dataclass(frozen=True)
class TaskShape:
    """A task of a DAG.

    :param spec: if it runs on the fleet.
    :param upstream: its direct upstream tasks.
    :param group: the mapped task group that it is in, if any: there, an instance follows those of its own index only.
    """

    task_id: str
    spec: StageSpec | None = None
    upstream: tuple[str, ...] = ()
    group: str = ""


_NO_TASK = TaskShape("")


@dataclass(frozen=True)
class RunShape:
    """A dag run.

    :param tasks: of its DAG version, by task id.
    :param values: what templates may look up by path.
    :param instances: task id -> map indexes; absent or (-1,) for a task that isn't mapped or not yet expanded.
    :param finished: stage ids that have ended.
    :param lengths: of the lists that ended tasks gave as batches; None of what is no list, or lies elsewhere.
    """

    dag_id: str
    run_id: str
    arrival_s: float
    tasks: Mapping[str, TaskShape]
    values: Mapping[str, Any] = field(default_factory=dict)
    instances: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    finished: frozenset[str] = frozenset()
    lengths: Mapping[str, int | None] = field(default_factory=dict)


def workflow_id(dag_id: str, run_id: str) -> str:
    return f"{dag_id}/{run_id}"


def stage_id(task_id: str, map_index: int) -> str:
    return task_id if map_index < 0 else f"{task_id}[{map_index}]"


def split_instance(name: str) -> tuple[str, int]:
    """``task[2]`` -> (``task``, 2); ``task`` -> (``task``, -1)."""
    match = _INSTANCE.fullmatch(name)
    return (match["task"], int(match["index"])) if match else (name, -1)


def to_workflow(run: RunShape, estimator: Estimator) -> Workflow:
    """The run as the planner sees it.

    A mapped task that waits for its list stands as one stage until it is expanded. Between two mapped tasks stands a
    join of no duration, so that edges grow with the sum of instances, not with their product. Within a mapped task
    group each index is a chain of its own, as Airflow runs it.

    :raises ValueError: when the tasks don't form a DAG or ``continues`` names no upstream task.
    """
    stages: dict[str, Stage] = {}
    edges: list[tuple[str, str]] = []
    for task_id in _order(run.tasks):
        task = run.tasks[task_id]
        indexes = run.instances.get(task_id, (-1,))
        for index in indexes:
            name = stage_id(task_id, index)
            if task.spec is None:
                stages[name] = estimator.tool(name, run.dag_id, task_id)
                continue
            parent = _continued(task.spec, index, stages, run)
            stages[name] = estimator.llm(name, run.dag_id, task_id, run.run_id, task.spec, run.values, parent)
        for upstream in task.upstream:
            above = run.instances.get(upstream, (-1,))
            if task.group and run.tasks.get(upstream, _NO_TASK).group == task.group and above != (-1,) != indexes:
                both = sorted(set(above).intersection(indexes))
                edges += [(stage_id(upstream, i), stage_id(task_id, i)) for i in both]
                continue
            sources = [stage_id(upstream, i) for i in above]
            targets = [stage_id(task_id, i) for i in indexes]
            if len(sources) > 1 and len(targets) > 1:
                join = f"{upstream}>>{task_id}"
                stages[join] = Stage(join, StageKind.TOOL)
                edges += [(source, join) for source in sources] + [(join, target) for target in targets]
            else:
                edges += [(source, target) for source in sources for target in targets]
    tenants = {task.spec.tenant for task in run.tasks.values() if task.spec}
    weights = [task.spec.weight for task in run.tasks.values() if task.spec]
    return Workflow(
        workflow_id(run.dag_id, run.run_id),
        stages,
        tuple(edges),
        arrival_s=run.arrival_s,
        tenant=min(tenants, default=""),
        weight=max(weights, default=1.0),
        finished=run.finished & stages.keys(),
    )


def _continued(spec: StageSpec, index: int, stages: Mapping[str, Stage], run: RunShape) -> Stage | None:
    """The stage whose conversation is continued: the same instance of a mapped task, the named one, or its first."""
    if spec.continues is None:
        return None
    task_id, wanted = split_instance(spec.continues)
    mapped = run.instances.get(task_id, (-1,))
    if mapped == (-1,):
        wanted = -1
    elif wanted < 0:
        wanted = index if index in mapped else mapped[0]
    parent = stages.get(stage_id(task_id, wanted))
    continued = run.tasks.get(task_id, _NO_TASK).spec
    if parent is None or continued is None:
        return None
    # Another model can't use this one's cache, another tenant must not.
    return parent if parent.model == spec.model and continued.tenant == spec.tenant else None


def _order(tasks: Mapping[str, TaskShape]) -> list[str]:
    import networkx as nx

    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(tasks)
    graph.add_edges_from((up, task.task_id) for task in tasks.values() for up in task.upstream if up in tasks)
    return list(nx.lexicographical_topological_sort(graph))
