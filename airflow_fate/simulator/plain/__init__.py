"""What should have happened? The benchmark's physics once more, plain and slow: the oracle of the compiled kernel.

It follows BENCHMARK.md with ordinary objects, and replays the decisions of a run. What BENCHMARK.md leaves open is read
as follows, here as in the kernel.

- Inputs begin to move when a shard is bound, one after another, from each shard of each parent on another node.
- Room for a load is set aside when it is asked for, if there is some, or else when its turn comes. While one waits for
  room, its devices let no further shard in, except to models that are on their way: else it might wait for ever.
- A shard is let in when nothing on the places that share its devices was bound before it or is under way. From then on
  it uses its model, and asks for it where it is absent.
- A shard with more prompts than ``max_seqs`` decodes alone.
- A group's speed, network, prefix cache and seats are those of its first device.
- Segments are in use from the start of a prefill that finds them, or its end, to the end of the decode. They count as
  used at the end of the prefill, innermost first. What finds no room beside those in use is not kept.
- A conversation lies only where it was held. Where it does not lie, what follows it is of no use, and not kept.
- What happens at the same time happens in the order in which it was foreseen; loads start, and decisions are carried
  out, after all of it.
"""

from airflow_fate.simulator.plain.decisions import Ahead, Bind, Decision, Evict, decisions
from airflow_fate.simulator.plain.replay import Impossible, replay

__all__ = ["Ahead", "Bind", "Decision", "Evict", "Impossible", "decisions", "replay"]
