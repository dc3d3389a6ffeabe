"""What does the demo run? Four runs at once, each over a document of its own of about 700 tokens."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

DAGS = Path(__file__).parent / "dags"
FLEET_FILE = Path(__file__).parent / "fleet.yaml"
DAG_IDS = ("fate_demo_incidents", "fate_demo_contracts")
WARMUP_DAG_ID = "fate_demo_warmup"
RUNS_OF_EACH = 2
TASKS_OF_A_RUN = 7
SENTENCES = 44

_WHO = ("The operator", "The night shift", "A supplier", "The finance team", "The on-call engineer", "The auditor")
_DID = ("reported", "measured", "disputed", "confirmed", "estimated", "repaired")
_WHAT = ("a delay of", "a loss of", "a surplus of", "an outage of", "a shipment of", "a deviation of")
_UNIT = ("hours", "pallets", "percent", "thousand euros", "machines", "customers")
_WHERE = ("in the northern plant", "at the harbour", "on line seven", "in the data centre", "along the river route")


@dataclass(frozen=True)
class Trigger:
    """One dag run to start."""

    dag_id: str
    run_id: str
    document: str


def triggers(prefix: str, runs_of_each: int) -> list[Trigger]:
    """The runs of one pass, the same documents in every pass."""
    return [
        Trigger(dag_id, f"{prefix}-{number}", document(f"{dag_id}-{number}"))
        for number in range(runs_of_each)
        for dag_id in DAG_IDS
    ]


def document(title: str) -> str:
    """A report whose text depends on its title from its first words on, so that no two share a prefix."""
    chance = random.Random(title)
    lines = [f"Report {title}, number {chance.randrange(10**6)}."]
    for _ in range(SENTENCES):
        parts = (chance.choice(_WHO), chance.choice(_DID), chance.choice(_WHAT))
        lines.append(f"{' '.join(parts)} {chance.randrange(2, 90)} {chance.choice(_UNIT)} {chance.choice(_WHERE)}.")
    return " ".join(lines)
