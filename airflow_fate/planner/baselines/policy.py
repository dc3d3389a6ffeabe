"""What is a baseline? A list policy under the name by which the literature or a product knows it."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_fate.planner.dispatch.rule import Rule, changed
from airflow_fate.planner.forecast.sight import NEXT_USE

_LIGHT = 0.5
"""Ready stages per place below which splitting batches and loading ahead pay (more of them only burns capacity)."""


@dataclass(frozen=True)
class Baseline:
    """A policy to compare with.

    :param about: its source, and what was adapted.
    :param can_add: whether it has a ``+`` variant.
    """

    name: str
    rule: Rule
    about: str
    can_add: bool = True

    def strengthened(self) -> Baseline:
        """The ``+`` variant: batches in shards, models loaded ahead in light load, eviction by next use."""
        rule = changed(self.rule, shards=_LIGHT, prefetch=_LIGHT, evict_by=NEXT_USE)
        return Baseline(f"{self.name}+", rule, f"{self.about} With shards, prefetch and eviction by next use.")
