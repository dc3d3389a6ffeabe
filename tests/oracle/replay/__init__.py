"""What should have happened? The physics once more, plain and slow: the oracle of the compiled kernel.

It follows docs/physics.md with ordinary objects, its readings included, and replays the decisions of a run.
"""

from tests.oracle.replay.decisions import Ahead, Bind, Decision, Evict, decisions
from tests.oracle.replay.replay import Impossible, replay

__all__ = ["Ahead", "Bind", "Decision", "Evict", "Impossible", "decisions", "replay"]
