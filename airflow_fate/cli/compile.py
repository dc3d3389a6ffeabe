"""``fate compile``: the planner's machine code, once for each machine and version."""

from __future__ import annotations

import time

from airflow_fate.cli.show import Output, print_result, waiting


def compile_planner(output: Output = "table") -> None:
    """Compile the planner, so that no scheduler has to: a minute or two, or a second where that was done before."""
    began_s = time.monotonic()
    with waiting("Compiling the planner, which takes a minute or two where it is not compiled yet"):
        from airflow_fate.planner.warm import warm

        warm()
    took_s = time.monotonic() - began_s
    print_result(output, {"seconds": round(took_s, 1)}, f"The planner is ready after {took_s:.1f} s.")
