"""How soon could the best of all plans end? A bound that no policy can beat.

Two relaxations, the larger counts. No workflow ends before its arrival and its longest chain on the fastest places,
with every prefix cached and every model loaded. And from each arrival on, the prefill lanes must compute at least the
tokens that no cache can spare, all together at the speed of the best place for each.
"""

from __future__ import annotations

import numpy as np

from airflow_fate.cluster import Fleet
from airflow_fate.physics.kernel.encode import encode
from airflow_fate.simulator.workload import Workload


def lower_bound_s(workload: Workload, fleet: Fleet) -> float:
    """Seconds from 0 before which not all workflows can have ended."""
    world = encode(workload.workflows, fleet, output_tokens=workload.output_tokens, log=False).world
    stages = world.stages
    prefill, decode = world.prefill_tps.max(axis=1), world.decode_tps.max(axis=1)
    count = len(stages)
    least_s, lane_s = np.zeros(count), np.zeros(count)
    for index in range(count):
        stage = stages[index]
        if stage.tool:
            least_s[index] = stage.duration_s
            continue
        shared = float(stage.prefix_tokens)
        if stage.continues >= 0:
            parent = stages[stage.continues]
            shared += float(parent.prompt_tokens + parent.output_tokens)
        fresh = max(1.0, float(stage.prompt_tokens) - min(shared, float(stage.prompt_tokens) - 1.0))
        lane_s[index] = stage.prompts * fresh / prefill[stage.model]
        shards = max(1, min(stage.prompts, stage.max_shards))
        smallest = -(-stage.prompts // shards)
        slowed = 1.0 + world.tally[0].decode_slowdown * (smallest - 1)
        least_s[index] = smallest * fresh / prefill[stage.model] + stage.output_tokens / decode[stage.model] * slowed
    longest_s = least_s.copy()
    for index in range(count - 1, -1, -1):
        for k in range(world.child_at[index], world.child_at[index + 1]):
            longest_s[index] = max(longest_s[index], least_s[index] + longest_s[world.child[k]])
    arrival_s = world.workflows["arrival_s"][stages["workflow"]]
    bound = float((arrival_s + longest_s).max())
    lanes = len(fleet.devices)
    for from_s in np.unique(arrival_s):
        bound = max(bound, float(from_s + lane_s[arrival_s >= from_s].sum() / lanes))
    return bound
