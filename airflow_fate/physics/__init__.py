"""What does a placement cost, and what does it leave behind? Pure functions over immutable values."""

from airflow_fate.physics.calibration import observe
from airflow_fate.physics.costs import CostModel, CostParts
from airflow_fate.physics.demand import Demand, demand_of
from airflow_fate.physics.estimate import Estimate, estimate
from airflow_fate.physics.transition import apply

__all__ = ["CostModel", "CostParts", "Demand", "Estimate", "apply", "demand_of", "estimate", "observe"]
