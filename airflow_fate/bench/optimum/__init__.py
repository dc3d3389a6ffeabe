"""How near is a policy to the best that anybody could do? The optimum of small instances."""

from airflow_fate.bench.optimum.solve import Optimum, find_optimum
from airflow_fate.bench.optimum.times import NotSmallError

__all__ = ["NotSmallError", "Optimum", "find_optimum"]
