"""Where is each task that Airflow handed over? Held for a plan, or on its way to the inner executor."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.executors.workloads import ExecuteTask
    from airflow.executors.workloads.types import WorkloadKey


class Workloads:
    """Tasks until the inner executor has them; the heartbeat's outlet.

    :param new_token: makes a token for a try (UUID).
    :param log_wait: says in a task's event log why it waits.
    """

    def __init__(self, new_token: Callable[[str], str], log_wait: Callable[[ExecuteTask, str], None]) -> None:
        self._new_token = new_token
        self._log_wait = log_wait
        self._held: dict[str, ExecuteTask] = {}
        self._bound: deque[ExecuteTask] = deque()
        self._plain: deque[ExecuteTask] = deque()

    @property
    def held(self) -> Mapping[str, ExecuteTask]:
        """Tasks of the frontier, by the UUID of their try."""
        return self._held

    def hold(self, workload: ExecuteTask) -> None:
        """A task of the fleet has come; where the same try is still on its way, that is out of date."""
        self.revoke(str(workload.ti.id))
        self._held[str(workload.ti.id)] = workload

    def add_plain(self, workload: ExecuteTask) -> None:
        """A task that is none of the fleet's has come."""
        self._plain.append(workload)

    # The heartbeat's outlet

    def submit(self, ti_id: str) -> None:
        workload = self._held[ti_id]
        # The token was made when Airflow queued the task; an expired one would fail it.
        workload.token = self._new_token(ti_id)
        self._bound.append(self._held.pop(ti_id))

    def pass_on(self, ti_id: str) -> None:
        self._plain.append(self._held.pop(ti_id))

    def hand_back(self, ti_id: str) -> None:
        self._held.pop(ti_id, None)

    def say(self, ti_id: str, text: str) -> None:
        if workload := self._held.get(ti_id):
            self._log_wait(workload, text)

    # On the way to the inner executor

    def leaving(self) -> list[ExecuteTask]:
        """Tasks for the inner executor, bound ones first: they hold a device. The others come by their priority."""
        return [*self._bound, *sorted(self._plain, key=lambda workload: -workload.ti.priority_weight)]

    @property
    def leaving_count(self) -> int:
        return len(self._bound) + len(self._plain)

    def left(self, workload: ExecuteTask) -> None:
        """The inner executor has it."""
        (self._bound if workload in self._bound else self._plain).remove(workload)

    # What Airflow asks

    def has(self, ti_id: str, key: WorkloadKey) -> bool:
        """Whether a try, or another part of it with the same key, is here."""
        return ti_id in self._held or any(workload.key == key for workload in (*self._bound, *self._plain))

    def revoke(self, ti_id: str) -> None:
        """Airflow takes a task back, wherever it is."""
        self._held.pop(ti_id, None)
        self._bound = deque(workload for workload in self._bound if str(workload.ti.id) != ti_id)
        self._plain = deque(workload for workload in self._plain if str(workload.ti.id) != ti_id)
