"""What happens to a ready LLM task? A pure state machine: events in, instructions out."""

from airflow_fate.executor.frontier.entry import Entry, Phase
from airflow_fate.executor.frontier.events import (
    Adopted,
    Claimed,
    ClaimLost,
    Elsewhere,
    Ended,
    Event,
    HandoverFailed,
    NotPlanned,
    Planned,
    Queued,
    Rejected,
    Revoked,
    Tick,
)
from airflow_fate.executor.frontier.frontier import Frontier
from airflow_fate.executor.frontier.instructions import (
    Claim,
    Dispatch,
    Fail,
    GiveBack,
    Instruction,
    PassOn,
    Release,
    Say,
)

__all__ = [
    "Adopted",
    "Claim",
    "ClaimLost",
    "Claimed",
    "Dispatch",
    "Elsewhere",
    "Ended",
    "Entry",
    "Event",
    "Fail",
    "Frontier",
    "GiveBack",
    "HandoverFailed",
    "Instruction",
    "NotPlanned",
    "PassOn",
    "Phase",
    "Planned",
    "Queued",
    "Rejected",
    "Release",
    "Revoked",
    "Say",
    "Tick",
]
