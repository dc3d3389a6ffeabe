"""What does a held try say of itself? Its stage spec, read once: a heartbeat looks at a thousand of them, and often."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from airflow_fate.messages import SpecError, StageSpec, read_spec


class Specs:
    """Stage specs by try (UUID)."""

    def __init__(self) -> None:
        self._read: dict[str, StageSpec | SpecError | None] = {}

    def of(self, ti: Any) -> StageSpec | None:
        """The spec of a task instance, or None when it has none.

        :raises SpecError: when there is one that can't be read.
        """
        ti_id = str(ti.id)
        if ti_id not in self._read:
            try:
                self._read[ti_id] = read_spec(ti.executor_config)
            except SpecError as error:
                self._read[ti_id] = error
        spec = self._read[ti_id]
        if isinstance(spec, SpecError):
            raise spec
        return spec

    def keep(self, ti_ids: Collection[str]) -> None:
        """Forget all others."""
        if len(self._read) > 2 * len(ti_ids) + 100:
            self._read = {ti_id: spec for ti_id, spec in self._read.items() if ti_id in ti_ids}
