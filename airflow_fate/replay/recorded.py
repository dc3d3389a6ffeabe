"""Which workload were a DAG's runs? Their graphs from Airflow, their lengths as gateways measured them. Pure.

What is lost: texts, of which the prefixes' keys remain; tries that failed; of a task that asked several times for each
prompt, all but the mean of its requests; waiting for people and for other pools, which is in a tool's time where it is
anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from airflow_fate.executor.runs.convert import RunShape, TaskShape, stage_id, to_workflow
from airflow_fate.executor.runs.estimates import BYTES_PER_TOKEN, Estimator
from airflow_fate.messages import Facts
from airflow_fate.simulator.workload import Workload
from airflow_fate.state.ledger import Reservation
from airflow_fate.workflow import Segment, Stage, StageRef, Workflow


class NothingRecorded(ValueError):
    """There is nothing of which a workload could be made; says why."""


@dataclass(frozen=True)
class RecordedRun:
    """What the tables know of a run.

    :param reservations: of all of its tries.
    :param seconds: stage -> how long its task ran, as Airflow says.
    """

    shape: RunShape
    reservations: tuple[Reservation, ...]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Recorded:
    """A workload, and what it lacks.

    :param estimated: LLM stages of which nothing was measured.
    """

    workload: Workload
    estimated: tuple[StageRef, ...]


def recorded(name: str, runs: Iterable[RecordedRun], estimator: Estimator) -> Recorded:
    """The runs as a workload that begins when the first of them did.

    :param estimator: for what nothing was measured, and for what a policy would have expected.
    :raises NothingRecorded: when there is no run with a task on the fleet.
    """
    known = sorted((run for run in runs if run.reservations), key=lambda run: run.shape.arrival_s)
    if not known:
        raise NothingRecorded(f"no run of {name} has placed a task on the fleet, or their records are gone")
    began_s = known[0].shape.arrival_s
    workflows: list[Workflow] = []
    outputs: dict[StageRef, int] = {}
    estimated: list[StageRef] = []
    for run in known:
        measured = _measured(run.reservations)
        workflow = _workflow(run, measured, estimator, began_s)
        for stage in workflow.stages.values():
            if stage.is_llm:
                ref = StageRef(workflow.id, stage.id)
                fact = measured.get(stage.id)
                outputs[ref] = fact.output_tokens if fact else stage.expected_output_tokens
                if not fact:
                    estimated.append(ref)
        workflows.append(workflow)
    return Recorded(Workload(name, tuple(workflows), outputs), tuple(estimated))


@dataclass(frozen=True)
class _Lengths:
    model: str
    prompts: int
    prompt_tokens: int
    output_tokens: int


def _measured(reservations: Sequence[Reservation]) -> dict[str, _Lengths]:
    """Stage -> what its last good try measured."""
    measured = {}
    for reservation in reservations:
        facts = [Facts.model_validate(fact) for fact in reservation.facts or ()]
        requests = sum(fact.requests for fact in facts)
        if reservation.outcome != "success" or not requests:
            continue
        places = {share.place: share.prompts for share in reservation.shares}
        measured[stage_id(reservation.task_id, reservation.map_index)] = _Lengths(
            reservation.model,
            max(1, sum(places.values())),
            round(sum(fact.prompt_tokens for fact in facts) / requests),
            round(sum(fact.completion_tokens for fact in facts) / requests),
        )
    return measured


def _workflow(run: RecordedRun, measured: Mapping[str, _Lengths], estimator: Estimator, began_s: float) -> Workflow:
    models = {reservation.task_id: reservation.model for reservation in run.reservations}
    tasks = {name: _placed(task, models.get(name)) for name, task in run.shape.tasks.items()}
    known = to_workflow(replace(run.shape, tasks=tasks, finished=frozenset()), estimator)
    stages = {
        name: _llm(stage, measured.get(name))
        if stage.is_llm
        else replace(stage, duration_s=max(0.0, run.seconds.get(name, 0.0)))
        for name, stage in known.stages.items()
    }
    # A workload's stage continues a parent, a task's any that is upstream.
    continued = {(stage.continues, stage.id) for stage in stages.values() if stage.continues is not None}
    return replace(
        known,
        stages=stages,
        edges=(*known.edges, *sorted(continued - set(known.edges))),
        arrival_s=run.shape.arrival_s - began_s,
    )


def _placed(task: TaskShape, model: str | None) -> TaskShape:
    """The task on the model that it had; a tool if it had none."""
    return replace(task, spec=task.spec.model_copy(update={"model": model}) if task.spec and model else None)


def _llm(stage: Stage, lengths: _Lengths | None) -> Stage:
    """The stage with its real lengths. Its shared beginning can't be longer than its prompt."""
    if lengths is None:
        return stage
    prefix, left = [], lengths.prompt_tokens
    for segment in stage.prefix:
        prefix.append(Segment(segment.key, min(segment.tokens, left)))
        left -= prefix[-1].tokens
    return replace(
        stage,
        model=lengths.model,
        prompts=lengths.prompts,
        prompt_tokens=lengths.prompt_tokens,
        prefix=tuple(prefix),
        output_bytes=lengths.output_tokens * BYTES_PER_TOKEN * lengths.prompts,
    )
