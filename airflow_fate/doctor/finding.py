"""What did a check see?"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Grade(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check.

    :param remedy: what to do, where something is to be done.
    """

    check: str
    grade: Grade
    seen: str
    remedy: str = ""


def ok(check: str, seen: str) -> Finding:
    return Finding(check, Grade.OK, seen)


def warning(check: str, seen: str, remedy: str) -> Finding:
    return Finding(check, Grade.WARNING, seen, remedy)


def failure(check: str, seen: str, remedy: str) -> Finding:
    return Finding(check, Grade.FAILURE, seen, remedy)


def not_checked(check: str, why: str) -> Finding:
    return Finding(check, Grade.NOT_CHECKED, why)
