"""What did this task need before? Running means of tokens and seconds per (dag, task)."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import insert, select, update

from airflow_fate.state.ledger import Connect
from airflow_fate.state.tables import history

WINDOW = 20
"""After this many runs the mean forgets: a new run counts one in twenty."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TaskHistory:
    """Means over earlier tries of one task that ended well. ``duration_s`` is the whole try, start-up included.

    :raises ValueError: on a mean that can't be one.
    """

    runs: int = 0
    prompt_tokens: float = 0.0
    output_tokens: float = 0.0
    duration_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("runs", "prompt_tokens", "output_tokens", "duration_s"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a finite number >= 0, got {value}")

    def with_run(self, prompt_tokens: float, output_tokens: float, duration_s: float) -> TaskHistory:
        share = 1.0 / min(self.runs + 1, WINDOW)
        return TaskHistory(
            self.runs + 1,
            self.prompt_tokens + share * (prompt_tokens - self.prompt_tokens),
            self.output_tokens + share * (output_tokens - self.output_tokens),
            self.duration_s + share * (duration_s - self.duration_s),
        )


class History:
    """Reads and writes task histories; reads whole DAGs at once."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    def of_dags(self, dag_ids: Sequence[str]) -> dict[tuple[str, str], TaskHistory]:
        """(dag id, task id) -> history, for all tasks of the given DAGs that have one."""
        with self._connect() as connection:
            rows = connection.execute(select(history).where(history.c.dag_id.in_(dag_ids))).all()
        histories = {}
        for row in rows:
            try:
                past = TaskHistory(row.runs, row.prompt_tokens, row.output_tokens, row.duration_s)
            except ValueError as error:
                log.warning("The history of %s.%s makes no sense and begins anew: %s", row.dag_id, row.task_id, error)
            else:
                histories[row.dag_id, row.task_id] = past
        return histories

    def record(self, dag_id: str, task_id: str, past: TaskHistory) -> None:
        """Store a task's history. Concurrent writers may lose one run of the mean, which is harmless."""
        values = {
            "runs": past.runs,
            "prompt_tokens": past.prompt_tokens,
            "output_tokens": past.output_tokens,
            "duration_s": past.duration_s,
        }
        with self._connect() as connection:
            changed = connection.execute(
                update(history).where(history.c.dag_id == dag_id, history.c.task_id == task_id).values(**values)
            )
            if changed.rowcount == 0:
                connection.execute(insert(history).values(dag_id=dag_id, task_id=task_id, **values))
