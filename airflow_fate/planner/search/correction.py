"""How wrong are the estimates of outputs, and what is to be expected then? Learned from the stages that have ended.

The logarithm of what a stage put out is regressed on that of its estimate, for each model, with a prior that takes
estimates at their word (Bayesian linear regression with a known ridge). Noisy estimates are so drawn towards what is
usual: the mean of a quantity given a noisy reading of it lies between the reading and the mean of all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from airflow_fate.physics.world.arrays import DONE, World

Floats = NDArray[np.float64]

_PRIOR = 12.0
"""So many ended stages weigh as much as the belief that estimates are right."""
_FEWEST = 8
"""Ended stages of a model before its estimates are corrected."""


class Correction:
    """What is expected of each stage, given how those before it turned out."""

    def __init__(self, world: World) -> None:
        self._estimates: Floats = np.maximum(world.stages["expected_tokens"], 1.0).copy()

    def apply(self, world: World) -> float:
        """Correct what is expected of the stages that have not ended.

        :returns: how far off what has ended was, after correction: the standard deviation of the logarithm of output
            over expectation; 0 while too little is known.
        """
        stages = world.stages
        served = stages["tool"] == 0
        ended = served & (stages["status"] == DONE)
        squares, count = 0.0, 0
        for model in np.unique(stages["model"][ended]):
            mine = stages["model"] == model
            seen = ended & mine
            if seen.sum() < _FEWEST:
                continue
            estimates, outputs = np.log(self._estimates[seen]), np.log(np.maximum(stages["output_tokens"][seen], 1.0))
            slope, usual, offset, spread = _fit(estimates, outputs)
            open_ = served & mine & (stages["status"] != DONE)
            expected = np.exp(usual + offset + slope * (np.log(self._estimates[open_]) - usual) + spread**2 / 2)
            stages["expected_tokens"][open_] = np.maximum(1.0, expected)
            squares, count = squares + spread**2 * float(seen.sum()), count + int(seen.sum())
        return float(np.sqrt(squares / count)) if count else 0.0


def _fit(estimates: Floats, outputs: Floats) -> tuple[float, float, float, float]:
    """(slope, mean of the estimates, offset at that mean, spread of what is left), all of logarithms."""
    usual = float(estimates.mean())
    about, error = estimates - usual, outputs - estimates
    noise = float(error.var()) + 1e-9
    # The prior says slope 1 and offset 0; both are learned as deviations from it.
    slope = 1.0 + float((about * error).sum() / ((about * about).sum() + _PRIOR * noise))
    offset = float(error.sum() / (len(error) + _PRIOR))
    spread = float((outputs - usual - offset - slope * about).std())
    return slope, usual, offset, spread
