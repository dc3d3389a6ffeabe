"""Who runs where, and why? One entry point, ``fate.plan``, and policies of the same signature."""

from airflow_fate.planner.plan import (
    Action,
    ActionKind,
    Assignment,
    Hold,
    Impossible,
    Plan,
    PlanConfig,
    Policy,
    Problem,
    ReadyStage,
    Share,
)
from airflow_fate.planner.policies import policy

__all__ = [
    "Action",
    "ActionKind",
    "Assignment",
    "Hold",
    "Impossible",
    "Plan",
    "PlanConfig",
    "Policy",
    "Problem",
    "ReadyStage",
    "Share",
    "policy",
]
