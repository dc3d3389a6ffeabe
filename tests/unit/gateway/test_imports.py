"""A gateway runs in an engine's own image, which has this package and nothing of what the scheduler needs."""

from __future__ import annotations

import subprocess
import sys

FOREIGN = ("numpy", "scipy", "numba", "ortools", "sqlalchemy", "airflow")


def test_a_gateway_needs_nothing_that_only_schedulers_have() -> None:
    code = f"import airflow_fate.gateway.process, sys; print([name for name in {FOREIGN} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
