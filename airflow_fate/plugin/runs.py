"""What made a run take so long? Its placements over time, and which of them its end waited for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from airflow_fate.costs import Amount
from airflow_fate.executor.runs.convert import TaskShape
from airflow_fate.plugin.receipt import Receipt


@dataclass(frozen=True, slots=True)
class Span:
    """When a task instance ran, Unix seconds."""

    task_id: str
    map_index: int
    start_at: float
    end_at: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """A run's task instances that have begun, whoever placed them, and the tasks of its DAG by id."""

    spans: tuple[Span, ...]
    tasks: Mapping[str, TaskShape]


@dataclass(frozen=True, slots=True)
class Placement:
    """A receipt, whether the run's end waited for it, and what it cost."""

    receipt: Receipt
    is_critical: bool
    cost: Amount


@dataclass(frozen=True, slots=True)
class RunPlacements:
    """A run's placements in the order of their claims. Times are Unix seconds; None where nothing was placed.

    :param end_at: of the last phase, expected where it still runs.
    :param cost: of all placements.
    """

    start_at: float | None
    end_at: float | None
    cost: Amount
    placements: tuple[Placement, ...]


def run_placements(placed: Iterable[Receipt], known: Timeline, costs: Mapping[str, Amount]) -> RunPlacements:
    """All placements of a run, the critical ones marked: every try of a critical instance is.

    :param costs: by reservation.
    """
    receipts = tuple(placed)
    critical = {(span.task_id, span.map_index) for span in critical_path(known)}
    return RunPlacements(
        start_at=min((receipt.claimed_at for receipt in receipts), default=None),
        end_at=max((receipt.phases_end_at for receipt in receipts), default=None),
        cost=sum((costs[receipt.reservation] for receipt in receipts), Amount()),
        placements=tuple(
            Placement(receipt, (receipt.task_id, receipt.map_index) in critical, costs[receipt.reservation])
            for receipt in receipts
        ),
    )


def critical_path(known: Timeline) -> tuple[Span, ...]:
    """From the instance that ended last back to one that waited for none: each time to the one before that ended last.

    Within a mapped task group, an instance waits for those of its own index only.
    """
    of_task: dict[str, list[Span]] = {}
    for span in known.spans:
        of_task.setdefault(span.task_id, []).append(span)
    path: list[Span] = []
    before = known.spans
    while before:
        last = max(before, key=lambda span: (span.end_at, span.start_at))
        path.append(last)
        shape = known.tasks.get(last.task_id, TaskShape(last.task_id))
        before = tuple(
            span
            for task_id in shape.upstream
            for span in of_task.get(task_id, ())
            if not _in_one_group(shape, known.tasks.get(task_id)) or span.map_index == last.map_index
        )
    return tuple(reversed(path))


def _in_one_group(task: TaskShape, upstream: TaskShape | None) -> bool:
    return upstream is not None and bool(task.group) and task.group == upstream.group
