"""What does a placement cost, and what does it leave behind? Plain functions over immutable values.

What the planner's compiled estimates say of one place and one state is held against this.
"""

from tests.oracle.forecast.demand import Demand, demand_of
from tests.oracle.forecast.estimate import Estimate, estimate
from tests.oracle.forecast.transition import apply

__all__ = ["Demand", "Estimate", "apply", "demand_of", "estimate"]
