"""``fate simulate``: what would FATE gain on a DAG of one's own?"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from airflow_fate.cli.airflow_settings import fate_settings, quiet
from airflow_fate.cli.bench.options import Models, model_map
from airflow_fate.cli.play import play
from airflow_fate.cli.show import FOUND_TROUBLE, WRONG_USE, Output, fail, print_json, waiting
from airflow_fate.cli.usage import UsageError, check_names

if TYPE_CHECKING:
    from airflow_fate.bench.whatif import Answer
    from airflow_fate.cluster import Fleet
    from airflow_fate.executor.runs.dags import DagShape
    from airflow_fate.executor.runs.estimates import Estimator
    from airflow_fate.workflow import Workflow


POLICIES = ("round_robin", "least_loaded", "prefix_affinity", "eft", "fate")


@dataclass(frozen=True)
class Draws:
    """What is played of each workload.

    :param seeds: one for each draw of the outputs.
    :param spread: sigma of the log-normal factor between an output and its estimate.
    :param processes: None for one on each CPU.
    """

    policies: Sequence[str]
    objective: str
    seeds: range
    spread: float
    processes: int | None


def simulate(
    dag: Annotated[
        str,
        typer.Argument(
            help="A DAG's file, the id of a DAG of the configured Airflow, or a workload or trace in a file *.json."
        ),
    ],
    fleet: Annotated[Path, typer.Option(help="fleet.yaml, the fleet.json of a fleet's folder, or the benchmark's.")],
    dag_id: Annotated[str | None, typer.Option(help="Which DAG of the file.")] = None,
    runs: Annotated[int, typer.Option(min=1, max=1000, help="How many runs of the DAG.")] = 20,
    every: Annotated[float, typer.Option(min=0, help="Seconds from one run to the next.")] = 5.0,
    mapped: Annotated[
        list[str] | None, typer.Option("--map", help="TASK=N: instances of a mapped task. May be repeated.")
    ] = None,
    policy: Annotated[list[str] | None, typer.Option(help="May be repeated.")] = None,
    objective: Annotated[str, typer.Option(help="makespan, mean, p95 or balanced.")] = "balanced",
    seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    seeds: Annotated[int, typer.Option(min=2, help="How many draws of the outputs.")] = 5,
    spread: Annotated[
        float, typer.Option(min=0, max=3, help="How far outputs lie from estimates: a log's sigma.")
    ] = 0.3,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; default one for each CPU.")] = None,
    models: Models = None,
    output: Output = "table",
) -> None:
    """Play runs of a real DAG, or a workload, on a fleet under several policies, side by side."""
    from airflow_fate.planner.registry import BASELINE
    from airflow_fate.simulator.checks import FileError
    from airflow_fate.simulator.files import read_fleet, read_inputs

    # What can be said at once is said before Airflow is imported, which takes seconds.
    try:
        _check(policy or [], objective)
        if _is_workload(dag):
            workload, known_fleet = read_inputs(Path(dag), fleet, model_map(models))
        else:
            workload, known_fleet = None, read_fleet(fleet)
            _check_dag(dag, dag_id)
    except (FileError, UsageError) as error:
        fail("simulate", error, WRONG_USE)
    named = list(dict.fromkeys([BASELINE, *(policy or POLICIES)]))
    draws = Draws(named, objective, range(seed, seed + seeds), spread, jobs)
    if workload is not None:
        _simulate_workload(dag, workload.workflows, known_fleet, str(fleet), draws, output)
        return
    from airflow_fate.executor.runs.dags import DagError
    from airflow_fate.executor.settings import SettingsError

    try:
        with waiting("Reading the DAG with Airflow"), quiet():
            shape, estimator = _read(dag, dag_id)
        counts = _counts(shape, mapped or [])
        workflows = _workflows(shape, estimator, counts, known_fleet, str(fleet), runs, every)
    except (DagError, FileError, SettingsError, UsageError) as error:
        fail("simulate", error, WRONG_USE)
    answers = _play(workflows, known_fleet, draws)
    bases = _bases(shape, estimator, counts)
    notes = [*_notes_of_dag(shape, counts, bases), *_notes(answers, draws)]
    if output == "json":
        document = {
            "dag": shape.dag_id,
            "origin": shape.origin,
            "fleet": str(fleet),
            "runs": runs,
            "every_s": every,
            "seeds": seeds,
            "policies": {answer.policy: answer.document() for answer in answers},
            "tasks": bases,
            "notes": notes,
        }
        print_json(document)
    else:
        from airflow_fate.cli.simulation_tables import show

        show(answers, bases, notes, f"{runs} runs of {shape.dag_id}, one every {every:g} s, on {fleet}")


def _simulate_workload(
    name: str, workflows: tuple[Workflow, ...], fleet: Fleet, fleet_name: str, draws: Draws, output: str
) -> None:
    answers = _play(workflows, fleet, draws)
    notes = _notes(answers, draws)
    if output == "json":
        print_json(
            {
                "workload": name,
                "fleet": fleet_name,
                "seeds": len(draws.seeds),
                "policies": {answer.policy: answer.document() for answer in answers},
                "notes": notes,
            }
        )
    else:
        from airflow_fate.cli.simulation_tables import show

        show(answers, {}, notes, f"{len(workflows)} workflows of {name}, on {fleet_name}")


def _is_workload(dag: str) -> bool:
    return dag.endswith(".json")


def _is_file(dag: str) -> bool:
    return dag.endswith(".py") or os.sep in dag or Path(dag).exists()


def _check_dag(dag: str, dag_id: str | None) -> None:
    """:raises UsageError: on what can't be a DAG's file."""
    if _is_file(dag):
        if not Path(dag).is_file():
            raise UsageError(f"{dag}: no such file; expected a Python file with a DAG, or the id of a DAG")
    elif dag_id is not None:
        raise UsageError(f"--dag-id belongs to a DAG's file, got the id {dag!r}")


def _read(dag: str, dag_id: str | None) -> tuple[DagShape, Estimator]:
    from airflow_fate.executor.runs.dags import DagError, read_dag, read_dag_file, read_history
    from airflow_fate.executor.runs.estimates import Defaults, Estimator

    shape = read_dag_file(Path(dag), dag_id) if _is_file(dag) else read_dag(dag)
    if not shape.llm_tasks:
        raise DagError(
            f"{shape.origin}: no task of {shape.dag_id} runs on the fleet; expected an LLMOperator, @task.fate_llm, or "
            "a common-ai operator with a fate connection and a literal model_id"
        )
    settings = fate_settings()
    defaults = Defaults(settings.default_prompt_tokens, settings.default_output_tokens, settings.tool_seconds)
    # Keys are compared with one another only: any secret will do.
    return shape, Estimator("what if", defaults, read_history(shape.dag_id))


def _counts(shape: DagShape, given: list[str]) -> dict[str, int]:
    """Instances of the mapped tasks: as asked for, else as the DAG says.

    :raises UsageError: on what is no ``TASK=N`` of a mapped task.
    """
    counts = {task_id: count for task_id, count in shape.mapped.items() if count is not None}
    for pair in given:
        task_id, _, number = pair.rpartition("=")
        if not task_id or not number.isdecimal() or not 1 <= int(number) <= 10_000:
            raise UsageError(f"--map must be TASK=N with N from 1 to 10000, got {pair!r}")
        if task_id not in shape.mapped:
            known = ", ".join(sorted(shape.mapped)) or "it has none"
            raise UsageError(f"--map must name a mapped task of {shape.dag_id} ({known}), got {task_id!r}")
        counts[task_id] = int(number)
    return counts


def _check(policies: list[str], objective: str) -> None:
    """:raises UsageError: listing the known names."""
    from airflow_fate.planner.objectives import OBJECTIVES
    from airflow_fate.planner.registry import NAMES

    check_names("policy", policies, NAMES)
    check_names("objective", [objective], OBJECTIVES)


def _workflows(
    shape: DagShape,
    estimator: Estimator,
    counts: Mapping[str, int],
    fleet: Fleet,
    fleet_name: str,
    runs: int,
    every_s: float,
) -> tuple[Workflow, ...]:
    """The runs, which the fleet can serve.

    :raises FileError: when it can't.
    """
    from airflow_fate.executor.runs.dags import runs_of
    from airflow_fate.simulator.checks import FileError, why_not

    for task in shape.llm_tasks:
        if task.spec and (misfit := why_not(task.spec.model, fleet, fleet_name)):
            raise FileError(f"{shape.origin}: {shape.dag_id}.{task.task_id}: model {misfit}")
    return runs_of(shape, estimator, runs, every_s, counts)


def _play(workflows: tuple[Workflow, ...], fleet: Fleet, draws: Draws) -> list[Answer]:
    """Each policy's answer, round robin's first; ends the command, if a run failed."""
    from airflow_fate.bench.whatif import answer, draw_jobs, execute_draw
    from airflow_fate.planner.registry import BASELINE

    wanted = draw_jobs(workflows, fleet, draws.policies, draws.objective, draws.seeds, draws.spread)
    outcomes = play("Simulations", execute_draw, wanted, draws.processes)
    if len(outcomes) < len(wanted):
        raise typer.Exit(FOUND_TROUBLE)
    summaries: dict[str, list[Mapping[str, float]]] = {}
    for job, summary in outcomes:
        summaries.setdefault(job.policy, []).append(summary)
    return [answer(policy, of_policy, summaries[BASELINE]) for policy, of_policy in summaries.items()]


def _bases(shape: DagShape, estimator: Estimator, counts: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Each LLM task's estimates and what they rest on."""
    from airflow_fate.executor.runs.dags import runs_of

    (run,) = runs_of(shape, estimator, 1, 0.0, {})
    bases = {}
    for task in shape.llm_tasks:
        assert task.spec is not None
        stage = run.stages[task.task_id]
        basis = estimator.basis(shape.dag_id, task.task_id, task.spec, {"params": shape.params})
        bases[task.task_id] = {
            "model": task.spec.model,
            "instances": counts.get(task.task_id, 1),
            "prompts": stage.prompts,
            "prompt_tokens": stage.prompt_tokens,
            "prompt_from": basis.prompt,
            "output_tokens": stage.expected_output_tokens,
            "output_from": basis.output,
            "history_runs": basis.runs,
        }
    return bases


def _notes(answers: list[Answer], draws: Draws) -> list[str]:
    """How sure all this is."""
    from airflow_fate.planner.registry import BASELINE

    notes = [
        f"Outputs were drawn {len(draws.seeds)} times around their estimates (log-normal, sigma {draws.spread:g}); "
        "intervals are 95 % over the draws alone: how wrong the estimates themselves are, they can't tell."
    ]
    alike = [answer.policy for answer in answers if answer.ratios and not answer.is_told_apart]
    if alike:
        notes.append(f"In one figure or more not told apart from {BASELINE}: {', '.join(alike)}.")
    return notes


def _notes_of_dag(shape: DagShape, counts: Mapping[str, int], bases: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the estimates rest on."""
    runs = [base["history_runs"] for base in bases.values() if base["history_runs"]]
    guessed = [name for name, base in bases.items() if "default" in (base["prompt_from"], base["output_from"])]
    notes = [
        f"{len(runs)} of {len(bases)} LLM tasks have a history" + (f" ({min(runs)} runs or more)." if runs else ".")
    ]
    if guessed:
        notes.append(f"Lengths rest on a default: {', '.join(guessed)}.")
    notes += [
        f"{task_id} is mapped and stands for one instance; --map {task_id}=N sets how many."
        for task_id in shape.mapped
        if task_id not in counts
    ]
    return notes
