"""What was worked out from an immutable value before?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")
Derived = TypeVar("Derived")


def remembered(value: Value, name: str, make: Callable[[Value], Derived]) -> Derived:
    """``make(value)``, kept with the value as ``functools.cached_property`` does: it lives as long as that."""
    kept = vars(value)
    key = f"_{name}"
    if key not in kept:
        kept[key] = make(value)
    derived: Derived = kept[key]
    return derived
