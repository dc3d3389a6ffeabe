"""Is all loaded that plans need? A small plan and a small search, after which every function is compiled."""

from __future__ import annotations

import gc

from airflow_fate.cluster import ClusterState, Device, Fleet, ModelSpec, Node
from airflow_fate.physics.costs import CostModel
from airflow_fate.physics.restart.snapshot import snapshot
from airflow_fate.planner.fate import plan
from airflow_fate.planner.heartbeat import GREEDY_IN_HEARTBEAT
from airflow_fate.planner.plan import PlanConfig, Problem, ReadyStage
from airflow_fate.planner.search.improve import better_way
from airflow_fate.workflow import Stage, StageRef, Workflow


def warm() -> None:
    """Compile what is not compiled yet (a minute or two), and load the rest.

    Three stages for two sequences: two are bound, one is held, and who runs is not a plain assignment, so that CP-SAT
    itself is asked. What this process has allocated by then is out of the garbage collector's sight afterwards: looking
    through all that was loaded takes as long as a search may (140 to 220 ms).
    """
    fleet = Fleet(
        {"node": Node("node")},
        {"device": Device("device", "node", "gpu", 2e9, 1000, 2)},
        {"model": ModelSpec("model", 1e9, 1e9, 1e9, {"gpu": 100.0}, {"gpu": 10.0})},
    )
    run = Workflow("run", {name: Stage(name, model="model", prompt_tokens=100) for name in "abc"})
    frontier = [ReadyStage(StageRef(run.id, name), 0.0) for name in run.order]
    state, costs = ClusterState(fleet), CostModel()
    plan(Problem(frontier, {run.id: run}, state, costs, 0.0), PlanConfig())
    world = snapshot(frontier, [run], state, costs, 0.0).world
    better_way(world, GREEDY_IN_HEARTBEAT, GREEDY_IN_HEARTBEAT, "balanced", 0, 1.0, clock=lambda: 0.0)
    gc.collect()
    gc.freeze()
