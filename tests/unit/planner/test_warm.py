"""Once warm, a search keeps its deadline: nothing is imported, compiled or gone through that was there before."""

from __future__ import annotations

import json
import subprocess
import sys

_SEARCHES = """
import gc, json, sys, time

from numba.core.dispatcher import Dispatcher

from airflow_fate.physics.costs import CostModel
from airflow_fate.physics.restart.snapshot import snapshot
from airflow_fate.planner import PlanConfig, Problem
from airflow_fate.planner.fate import plan
from airflow_fate.planner.heartbeat import GREEDY_IN_HEARTBEAT
from airflow_fate.planner.search.improve import better_way
from airflow_fate.planner.warm import warm
from airflow_fate.simulator.instances import random_instance

instances = [random_instance(seed, 16, 100) for seed in range(2)]
dispatchers = [each for each in gc.get_objects() if isinstance(each, Dispatcher)]
warm()
modules, versions = set(sys.modules), [len(function.signatures) for function in dispatchers]
for frontier, workflows, state in instances:
    world = snapshot(frontier, workflows.values(), state, CostModel(), 0.0).world
    better_way(world, GREEDY_IN_HEARTBEAT, GREEDY_IN_HEARTBEAT, "balanced", 0, 1.0, clock=time.perf_counter)
    plan(Problem(frontier, workflows, state, CostModel(), 0.0), PlanConfig())
later = [o.py_func.__name__ for o, count in zip(dispatchers, versions) if len(o.signatures) != count]
unfrozen = len(gc.get_objects())
print(json.dumps({"imported": sorted(set(sys.modules) - modules), "compiled": later,
                  "frozen": gc.get_freeze_count() > 10 * unfrozen}))
"""


def test_a_search_finds_everything_loaded_and_little_for_the_collector_to_look_through() -> None:
    output = subprocess.run([sys.executable, "-c", _SEARCHES], capture_output=True, text=True, check=True).stdout
    assert json.loads(output) == {"imported": [], "compiled": [], "frozen": True}
