"""``fate record``: which workload were a DAG's runs?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from airflow_fate.cli.airflow_settings import fate_settings, quiet
from airflow_fate.cli.show import WRONG_USE, Output, fail, print_result, waiting


def record(
    dag_id: Annotated[str, typer.Argument(help="Id of the DAG.")],
    run_id: Annotated[str, typer.Argument(help="Only this run.")] = "",
    out: Annotated[Path, typer.Option(help="The workload file that is written.")] = Path("W.json"),
    output: Output = "table",
) -> None:
    """Write a DAG's recorded runs as a workload, for fate replay, fate bench run and fate simulate."""
    from sqlalchemy.exc import DBAPIError

    from airflow_fate.executor.settings import SettingsError

    try:
        with waiting("Reading the ledger and Airflow's runs"), quiet():
            from airflow_fate.executor.runs.dags import read_history
            from airflow_fate.executor.runs.estimates import Defaults, Estimator
            from airflow_fate.replay.recorded import NothingRecorded, recorded
            from airflow_fate.replay.tables import recorded_runs
            from airflow_fate.simulator.files import write_workload

            settings = fate_settings()
            defaults = Defaults(settings.default_prompt_tokens, settings.default_output_tokens, settings.tool_seconds)
            # Keys are compared with one another only: any secret will do.
            estimator = Estimator("record", defaults, read_history(dag_id))
            found = recorded(dag_id, recorded_runs(dag_id, [run_id] if run_id else []), estimator)
    except SettingsError as error:
        fail("record", error, WRONG_USE)
    except NothingRecorded as error:
        fail("record", error)
    except DBAPIError as error:
        fail("record", f"the tables can't be read ({error.orig}); see `fate doctor`")
    write_workload(out, found.workload)
    runs, stages = len(found.workload.workflows), len(found.workload.output_tokens)
    document = {
        "file": str(out),
        "runs": runs,
        "llm_stages": stages,
        "estimated": [str(ref) for ref in found.estimated],
    }
    line = f"{out}: {runs} runs with {stages} LLM stages"
    if found.estimated:
        line += f"; nothing was measured of {len(found.estimated)} of them, whose lengths are estimates"
    print_result(output, document, line)
