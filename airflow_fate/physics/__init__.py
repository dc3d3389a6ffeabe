"""What does a placement cost? Pure functions over immutable values, and the compiled kernel."""

from airflow_fate.physics.calibration import observe, observe_load
from airflow_fate.physics.costs import CostModel, CostParts, described
from airflow_fate.physics.law import Law, Measured, Speeds, described_law

__all__ = [
    "CostModel",
    "CostParts",
    "Law",
    "Measured",
    "Speeds",
    "described",
    "described_law",
    "observe",
    "observe_load",
]
