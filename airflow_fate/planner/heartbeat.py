"""How does a scheduler that plans every second or so follow a rule? What holds of every rule there."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_fate.planner.dispatch.rule import changed
from airflow_fate.planner.search.portfolio import GREEDY

BIND_AHEAD_S = 2.0
"""Several heartbeats may pass between two events: a prefill slot that waited for the next one would stand idle."""

DEPTH = 0.25
"""Looking at fewer stages that wait anyway takes a third of the time, and here the time is the scheduler's."""

OF_EVERY_RULE: Mapping[str, float] = {
    "bind_ahead_s": BIND_AHEAD_S,
    "depth": DEPTH,
    "overlap": 0.0,
    "lookahead": 0.0,
    "prefetch": 0.0,
}
"""Engines compute no prompt for which they have no sequence slot: nothing is bound before its slots are free. What will
be ready soon is not nominated: Airflow adds to each end what it needs to see it, and nobody has measured nominations
with that. Nothing is loaded ahead: in the suites it changed no metric, and engines would be busy loading when a stage
comes that was not seen."""

GREEDY_IN_HEARTBEAT = changed(GREEDY["balanced"], recompute=1.0, lost_prefixes=1.0, shards=0.5, **OF_EVERY_RULE)
"""FATE's rule before anything was searched for. Where prompts are computed slowly, reading a text twice costs more than
anything else; batches are split in light load."""
