"""Is there a better joint assignment? The next stage of every place, chosen for all places of a dispatch round at once.

Layered as variables, constraints, objective and solve. A problem that is a plain assignment needs no such model.
"""

from airflow_fate.planner.search.joint.improve import JointAssignment, improve_assignment

__all__ = ["JointAssignment", "improve_assignment"]
