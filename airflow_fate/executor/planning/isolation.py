"""Which tasks can't a planner plan? It is asked about smaller and smaller parts of the frontier."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from airflow_fate.planner.plan import ReadyStage

LIMIT = 8
"""With more culprits than these, it is the planner that is at fault, and so it is if none of the others is left."""


class NotTheTasks(Exception):
    """The planner fails whatever it is asked."""


def culprits(
    frontier: Sequence[ReadyStage], plan: Callable[[Sequence[ReadyStage]], object], limit: int = LIMIT
) -> dict[ReadyStage, Exception]:
    """The stages that a plan fails on, each with what was raised for it alone.

    A plan for k culprits among n stages is asked for about ``2 k log2(n)`` times.

    :param plan: raises when it can't plan the stages it is given.
    :raises NotTheTasks: when more than ``limit``, or all, would have to be named.
    """
    errors: dict[ReadyStage, Exception] = {}

    def look(part: Sequence[ReadyStage]) -> None:
        try:
            plan(part)
        except Exception as error:
            if len(part) > 1:
                middle = len(part) // 2
                look(part[:middle])
                look(part[middle:])
                return
            if part:
                errors[part[0]] = error
            if not part or len(errors) > limit:
                raise NotTheTasks from error

    look(frontier)
    if len(errors) == len(frontier):
        raise NotTheTasks
    return errors
