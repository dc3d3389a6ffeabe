"""Which workflow schedulers are compared with? They place by earliest finish and differ in the order of the frontier.

All use the full state-conditional cost over free and busy places alike, as textbook list scheduling does: a stage whose
best place is busy is nominated for it in the profile of those behind it, and is decided anew when something happens.
Gaps before such a nomination are filled with what ends by then (HEFT's insertion). Busy places count however late they
come free, for two stages of each model for every place; that is as good as for all or better (fewer stages wait for a
place that others will have taken).
"""

from __future__ import annotations

from airflow_fate.planner.baselines.policy import Baseline
from airflow_fate.planner.dispatch.rule import Rule, make_rule
from airflow_fate.planner.forecast.sight import NEXT_USE


def _listed(**fields: float) -> Rule:
    return make_rule(waits=1, reserve=1, backfill=1, depth=2.0, **fields)


EARLIEST_FINISH_TIME = Baseline(
    "eft", _listed(by_ready=1), "First come first served, each to the place where it ends first."
)
DISPATCH = Baseline(
    "dispatch",
    make_rule(by_ready=1),
    "First come first served to the free place where it ends first; nothing waits for a busy one. What FATE is with "
    "all its parts off.",
)
HEFT = Baseline(
    "heft",
    _listed(by_rank=1),
    "Topcuoglu et al. 2002: upward rank first. Adapted to arrivals: the ready stages are placed, again at every event.",
)
PEFT = Baseline(
    "peft",
    _listed(by_rank=1, by_own=1),
    "Arabnejad and Barbosa 2014: order by the optimistic cost table, the longest path behind a stage. Adapted: means "
    "over places; the table's difference between places is transfers alone, which the cost of the children sees.",
)
CRITICAL_PATH = Baseline(
    "critical_path",
    _listed(by_arrival=1, by_slack=1),
    "Kelley 1961: within a workflow what has least slack, between workflows the older.",
)
LEAST_ATTAINED_SERVICE = Baseline(
    "las",
    _listed(by_served=1),
    "Autellix (Luo et al. 2025): workflows that got least service first. Adapted: continuous, not in levels.",
)
KVFLOW = Baseline(
    "next_use",
    _listed(by_rank=1, evict_by=NEXT_USE),
    "KVFlow (Pan et al. 2025): steps to execution decide what is evicted; upward rank orders. Adapted: the models "
    "leave by steps to execution, prefixes inside an engine by its own least-recently-used order.",
)
BATCH_AFFINITY = Baseline(
    "batch_affinity",
    _listed(by_ready=1, reload=2.0, prefill=2.0),
    "Halo and Helium: stages that share model and prefix run together. Adapted: loads that a placement causes later "
    "and prompt tokens that it computes again count threefold, so that equals gather where their state lies.",
)
