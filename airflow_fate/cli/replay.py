"""``fate replay``: what does a workload do on a real fleet, and did the simulator say so?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from airflow_fate.cli.bench.options import Models, Objective, chosen_objective, failures_explained, model_map
from airflow_fate.cli.show import FOUND_TROUBLE, INTERRUPTED, Output, Steps, console, fail, print_json
from airflow_fate.cli.usage import UsageError, check_names

if TYPE_CHECKING:
    from airflow_fate.cluster import Fleet
    from airflow_fate.replay.compare import Comparison, Errors
    from airflow_fate.replay.session import Played
    from airflow_fate.simulator.workload import Workload
    from airflow_fate.state.source import StateSource

KNOWN_WITHIN_S = 15.0
_POLL_S = 0.1


def replay(
    workload: Annotated[Path, typer.Option(help="Workload file (docs/physics.md), or OpenTelemetry traces.")],
    out: Annotated[Path, typer.Option(help="Folder for each policy's summary.json and events.jsonl.")],
    fleet_dir: Annotated[
        Path | None, typer.Option(help="Folder of a local fleet. Default: the fleet of the configured Airflow.")
    ] = None,
    policies: Annotated[list[str] | None, typer.Option("--policy", help="May be repeated.")] = None,
    models: Models = None,
    speed: Annotated[float, typer.Option(help="How many times faster than the workload says workflows arrive.")] = 1.0,
    compare: Annotated[bool, typer.Option("--compare", help="Simulate it as well: predicted against real.")] = False,
    objective: Objective = None,
    output: Output = "table",
) -> None:
    """Run a workload on a real fleet, in real time and without Airflow, under one policy after another."""
    with failures_explained("replay"):
        from airflow_fate.simulator.files import read_workload, write_workload

        read = read_workload(workload, model_map(models))
        named = _chosen(policies)
        judged_by = chosen_objective(objective)
        if not 0 < speed < float("inf"):
            raise UsageError(f"--speed must be a number above 0, got {speed:g}")
        from airflow_fate.replay.prepare import as_played

        playable = as_played(read, speed)
        with _fleet(fleet_dir) as (source, secret):
            fleet = _fitting(source, playable, str(workload))
            write_workload(out / "workload.json", playable)
            played = []
            for policy in named:
                done = _play(playable, source, secret, policy, judged_by)
                done.write(out / policy)
                played.append(done)
                if not done.is_whole:
                    what = f"interrupted; {out / policy} has what had ended, later policies were not played"
                    fail("replay", what, INTERRUPTED)
        compared = _compare(playable, fleet, played, judged_by) if compare else {}
        if output == "json":
            print_json(_document(workload, speed, judged_by, played, compared))
        else:
            _show(played, compared)
    failed = {name: why for each in played for name, why in each.failed.items()}
    for name, why in failed.items():
        typer.echo(f"fate replay: workflow {name} did not end: {why}", err=True)
    if failed:
        raise typer.Exit(FOUND_TROUBLE)


def _chosen(policies: list[str] | None) -> list[str]:
    """:raises UsageError: listing the known names."""
    from airflow_fate.planner.registry import PLANNING

    check_names("policy", policies or [], PLANNING)
    if not policies:
        raise UsageError(f"--policy is missing; there are {', '.join(PLANNING)}")
    return list(dict.fromkeys(policies))


@contextmanager
def _fleet(folder: Path | None) -> Iterator[tuple[StateSource, str]]:
    """The fleet's source, once a device may get tasks, and its key.

    :raises UsageError: when there is no fleet.
    """
    source, secret = _of_folder(folder) if folder else _configured()
    source.start()
    try:
        deadline_s = time.monotonic() + KNOWN_WITHIN_S
        while not any(source.snapshot().usable.values()) and time.monotonic() < deadline_s:
            time.sleep(_POLL_S)
        yield source, secret
    finally:
        source.stop()


def _of_folder(folder: Path) -> tuple[StateSource, str]:
    from airflow_fate.cli.fleetdir import source_of

    try:
        secret = (folder / "secret").read_text().strip()
    except OSError as error:
        raise UsageError(
            f"{folder} holds no fleet ({error.strerror}); `fate fleet up --dir {folder}` starts one"
        ) from error
    return source_of(folder), secret


def _configured() -> tuple[StateSource, str]:
    from airflow_fate.cli.airflow_settings import fate_settings, quiet

    with quiet():
        from airflow_fate.executor.settings import SettingsError
        from airflow_fate.executor.sources import open_source

        try:
            settings = fate_settings()
            return open_source(settings), settings.secret()
        except SettingsError as error:
            raise UsageError(str(error)) from error


def _fitting(source: StateSource, playable: Workload, name: str) -> Fleet:
    """The fleet, which can serve the workload.

    :raises FileError: when it can't.
    """
    from airflow_fate.simulator.checks import FileError, check_fits

    fleet = source.snapshot().fleet
    if not fleet.devices:
        raise UsageError("no device of the fleet is known; is it up?")
    try:
        check_fits(playable.workflows, fleet, "the fleet")
    except FileError as error:
        raise FileError(f"{name}: {error}") from error
    return fleet


def _play(playable: Workload, source: StateSource, secret: str, policy: str, objective: str) -> Played:
    from airflow_fate.executor.planning.decider import SearchSettings
    from airflow_fate.replay.fleet import FleetError
    from airflow_fate.replay.session import play_policy

    stages = sum(len(workflow.stages) for workflow in playable.workflows)
    try:
        with Steps(policy, stages) as steps:
            search = SearchSettings(objective)
            ended = play_policy(playable, source, secret, policy, search, lambda ref: steps.step(str(ref)))
            return asyncio.run(ended)
    except FleetError as error:
        fail("replay", error)


def _compare(playable: Workload, fleet: Fleet, played: Sequence[Played], objective: str) -> Mapping[str, Comparison]:
    """Each policy's replay beside its simulation; without those of which no workflow ended."""
    from airflow_fate.replay.compare import compare, learned
    from airflow_fate.simulator.simulate import simulate

    costs = learned([lesson for each in played for lesson in each.lessons], fleet).costs
    compared = {}
    for each in played:
        if each.failed or not each.summary:
            continue
        run = simulate(playable, fleet, each.policy, objective=objective, costs=costs, host_models=each.host_models)
        compared[each.policy] = compare(each.events, each.summary, run.events, run.summary)
    return compared


def _document(
    workload: Path, speed: float, objective: str, played: Sequence[Played], compared: Mapping[str, Comparison]
) -> dict[str, Any]:
    from airflow_fate.replay.compare import order

    document: dict[str, Any] = {
        "workload": str(workload),
        "speed": speed,
        "objective": objective,
        "policies": {
            each.policy: {
                "summary": each.summary,
                "failed": dict(each.failed),
                "prompt_tokens_counted_over_asked": each.counted_over_asked,
            }
            for each in played
        },
    }
    if compared:
        document["compared"] = {policy: each.document() for policy, each in compared.items()}
        document["rank_correlation"] = order(compared)
    return document


def _show(played: Sequence[Played], compared: Mapping[str, Comparison]) -> None:
    table = Table(title="Replayed", title_justify="left")
    table.add_column("policy")
    for column in ("makespan s", "mean s", "p95 s", "loads", "load s", "cached", "plan p50 / p99 ms", "tokens"):
        table.add_column(column, justify="right")
    for each in played:
        if not each.summary:
            table.add_row(each.policy, "no workflow ended")
            continue
        summary = each.summary
        prompt_tokens = summary["cached_tokens"] + summary["prefill_tokens"]
        table.add_row(
            each.policy,
            *(f"{summary[key]:.2f}" for key in ("makespan_s", "mean_s", "p95_s")),
            f"{summary['loads']:.0f}",
            f"{summary['load_s']:.1f}",
            f"{summary['cached_tokens'] / prompt_tokens if prompt_tokens else 0:.0%}",
            f"{1000 * summary['plan_p50_s']:.1f} / {1000 * summary['plan_p99_s']:.1f}",
            f"{each.counted_over_asked:.3f}",
        )
    console().print(table)
    console().print("tokens: of prompts, as the engines counted them over those that the workload says")
    if compared:
        _show_compared(compared)


def _show_compared(compared: Mapping[str, Comparison]) -> None:
    from airflow_fate.replay.compare import LEARNED_AFTER, error, order

    table = Table(title="|predicted - real| / real, median and 90th percentile", title_justify="left")
    table.add_column("policy")
    for column in ("stage ends", f"after {LEARNED_AFTER} answers", "workflows", "makespan s", "mean s"):
        table.add_column(column, justify="right")
    for policy, each in compared.items():
        table.add_row(
            policy,
            *(_errors(errors) for errors in (each.stages, each.stages_learned, each.workflows)),
            *(
                f"{each.simulated[key]:.2f} / {each.real[key]:.2f} ({error(each.simulated[key], each.real[key]):.0%})"
                for key in ("makespan_s", "mean_s")
            ),
        )
    console().print(table)
    console().print("makespan and mean: simulated / real, with the speeds that the replay has learned")
    for metric, rank in order(compared).items():
        if rank is not None:
            console().print(f"rank correlation of {len(compared)} policies by {metric}: {rank:.2f}")


def _errors(errors: Errors | None) -> str:
    return f"{errors.median:.0%}, {errors.p90:.0%} of {errors.count}" if errors else "none"
