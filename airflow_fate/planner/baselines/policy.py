"""What is a baseline? A list policy under the name by which the literature or a product knows it."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_fate.planner.lists.rule import NEXT_USE, Rule

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
        rule = self.rule._replace(shards=_LIGHT, prefetch=_LIGHT, eviction=NEXT_USE)
        return Baseline(f"{self.name}+", rule, f"{self.about} With shards, prefetch and eviction by next use.")
