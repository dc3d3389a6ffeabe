"""Is there a better wave? The next stage of every place, chosen for all places at once.

Layered as variables, constraints, objective and solve; a wave that is a plain assignment needs no such model.
"""

from airflow_fate.planner.cpsat.apply import apply_wave
from airflow_fate.planner.cpsat.improve import Chosen, improve_wave

__all__ = ["Chosen", "apply_wave", "improve_wave"]
