"""Which arguments can't be used? An error names those that can."""

from __future__ import annotations

from collections.abc import Collection


class UsageError(ValueError):
    """Arguments that can't be used; says which are known."""


def check_names(what: str, names: Collection[str], known: Collection[str]) -> None:
    """:raises UsageError: listing the known names."""
    from airflow_fate.planner.registry import check

    try:
        for name in names:
            check(what, name, known)
    except ValueError as error:
        raise UsageError(str(error)) from error
