"""How does a test wait for what others bring about?"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], timeout_s: float = 60.0) -> T:
    """Wait until something holds; returns what it was.

    :raises AssertionError: when the time runs out.
    """
    deadline_s = time.monotonic() + timeout_s
    while not (outcome := condition()):
        assert time.monotonic() < deadline_s, f"not within {timeout_s:.0f} s"
        time.sleep(0.05)
    return outcome
