"""What does a placement cost? Pure functions over immutable values, and the compiled kernel."""

from airflow_fate.physics.calibration import observe
from airflow_fate.physics.costs import CostModel, CostParts

__all__ = ["CostModel", "CostParts", "observe"]
