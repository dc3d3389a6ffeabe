"""What should have happened? The physics once more, plain and slow: the oracle of the compiled kernel.

It follows docs/physics.md with ordinary objects, its readings included, and replays the decisions of a run.
"""

from airflow_fate.simulator.plain.decisions import Ahead, Bind, Decision, Evict, decisions
from airflow_fate.simulator.plain.replay import Impossible, replay

__all__ = ["Ahead", "Bind", "Decision", "Evict", "Impossible", "decisions", "replay"]
