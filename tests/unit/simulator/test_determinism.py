"""Equal arguments give equal event logs, byte by byte: in every process, and whether the kernel is compiled or not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from airflow_fate.physics.dynamics.event_loop import advance

_PRINT_LOGS = """
import json, sys
from airflow_fate.simulator.simulate import simulate
from airflow_fate.simulator.suites import find_scenarios

suite, name, tries, *policies = sys.argv[1:]
workload, fleet = find_scenarios(suite, name)[0].build(2)
for policy in policies:
    options = {"tries": int(tries)} if policy == "fate" else {}
    for event in simulate(workload, fleet, policy, seed=7, options=options).events:
        print(json.dumps(event))
"""


def printed(*runs: tuple[dict[str, str], tuple[str, ...]]) -> list[bytes]:
    """The logs that processes print, each with its environment and arguments; they run side by side."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _PRINT_LOGS, *arguments], env=os.environ | environment, stdout=subprocess.PIPE
        )
        for environment, arguments in runs
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(runs)
    return outputs


@pytest.mark.more
def test_a_log_does_not_depend_on_the_process_or_the_hash_seed() -> None:
    arguments = ("real-dag", "high-groups", "3", "round_robin", "eft", "fate")
    first, other = printed(*(({"PYTHONHASHSEED": seed}, arguments) for seed in ("1", "2345")))
    assert first.count(b"\n") > 10_000
    assert first == other


def test_the_kernel_tells_the_same_whether_it_is_compiled_or_not() -> None:
    assert hasattr(advance, "py_func"), "this process should have a compiled kernel"
    arguments = ("small", "small-prefix", "1", "round_robin_push", "eft", "next_use+", "fate")
    compiled, plain = printed(({}, arguments), ({"NUMBA_DISABLE_JIT": "1"}, arguments))
    assert compiled.count(b"\n") > 400
    assert compiled == plain
