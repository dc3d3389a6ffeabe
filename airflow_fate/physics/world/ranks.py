"""How long does a stage take on an average place, and what is the longest path behind it?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.jit.terms import prefill_tokens, reusable_tokens
from airflow_fate.physics.world.arrays import World


def rank(world: World) -> None:
    """Fill in mean execution times over the places that can serve a stage, and upward ranks (HEFT, Topcuoglu 2002)."""
    fill_ranks(world, _mean_s(world.prefill_tps), _mean_s(world.decode_tps))


def _mean_s(tps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds per token of each model; 0 where no place can serve it."""
    return np.array([np.mean(1.0 / row[row > 0]) if (row > 0).any() else 0.0 for row in tps], dtype=np.float64)


@compiled
def fill_ranks(world: World, per_prompt_token_s: NDArray[np.float64], per_output_token_s: NDArray[np.float64]) -> None:
    """Parents come before their children in the arrays."""
    for stage in range(world.stages.shape[0] - 1, -1, -1):
        s = world.stages[stage]
        if s.tool != 0:
            s.work_s = s.duration_s
        else:
            shared = reusable_tokens(s.prefix_tokens, s.prompt_tokens)
            tokens = prefill_tokens(s.prompts, s.prompt_tokens, 0.0, shared)
            s.work_s = tokens * per_prompt_token_s[s.model] + s.expected_tokens * per_output_token_s[s.model]
        behind_s = 0.0
        for k in range(world.child_indptr[stage], world.child_indptr[stage + 1]):
            behind_s = max(behind_s, world.stages[world.child_indices[k]].rank_s)
        s.rank_s = s.work_s + behind_s
    for workflow in range(world.workflows.shape[0]):
        w = world.workflows[workflow]
        w.work_left_s = 0.0
        for stage in range(w.first_stage, w.first_stage + w.stages):
            if world.stages[stage].finish_s < 0.0:
                w.work_left_s += world.stages[stage].work_s
