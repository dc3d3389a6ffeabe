"""How fast is an engine really? The law of docs/physics.md ("Decode", "Steps"), fitted to its answers one by one.

An answer's seconds are a sum: so much for each token of a prompt that was computed meanwhile, for each of its output,
for each of these and each further sequence, and for each of these and each token of context. The logarithms of the four
are found by recursive least squares with forgetting, linear around what is known (Ljung, *System Identification*, 1999,
ch. 11): twice too fast and twice too slow weigh the same, and nothing becomes negative. It begins at what the fleet's
description says, with a wide variance. An error that is much larger than those before counts as one of twice their size
(Huber 1964); only several in a row open the variance again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SPREAD = np.array([1.5, 1.5, 3.0, 3.0])
"""How far each may be from its description at first: a CPU's slowdown for each sequence is 30 times a GPU's."""
_FURTHEST = np.array([3.0, 3.0, 6.0, 10.0])
_LEAST_SLOWDOWN, _LEAST_CONTEXT = 1e-3, 1e-6
"""What slows decoding, for each sequence and each token of context, where none is described."""
_FORGETTING = 0.98
_NOISE, _LEAST_NOISE, _MOST_NOISE = 0.2, 0.02, 0.6
_TOO_NOISY = 0.55
_NOISE_RATE = 0.05
_OUTLIER = 2.0
_IN_A_ROW = 3
_OPENED = 4.0
_NEGLIGIBLE_S = 1e-6
_FEWEST = 3
"""So few answers say nothing yet."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What an engine did in a time.

    :param seconds: that it took.
    :param prompt_tokens: that were computed, of this answer and of others.
    :param output_tokens: of this answer.
    :param beside: of each of them, the further sequences that decoded in its step; their sum.
    :param context: likewise the tokens of context.
    """

    seconds: float
    prompt_tokens: float = 0.0
    output_tokens: float = 0.0
    beside: float = 0.0
    context: float = 0.0


@dataclass(frozen=True, slots=True)
class Speeds:
    """A model on a GPU, in the words of a fleet file.

    :param context_slowdown: for each 1,000 tokens.
    """

    prefill_tps: float
    decode_tps: float
    decode_slowdown: float
    context_slowdown: float


@dataclass(frozen=True)
class Law:
    """What is known of a model on a GPU.

    :param described: what the fleet's description says.
    :param logarithms: of each coefficient over what was described.
    :param covariance: of the logarithms, as rows.
    :param noise: relative error of the answers, as a standard deviation.
    :param answers: how many were learned from.
    :param in_a_row: outliers one after another, negative where the engine was faster than expected.
    """

    described: Speeds
    logarithms: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    noise: float = _NOISE
    answers: int = 0
    in_a_row: int = 0

    @property
    def speeds(self) -> Speeds:
        """As learned; as described where the answers are too few, or contradict each other."""
        if self.answers < _FEWEST or self.noise > _TOO_NOISY:
            return self.described
        prompt_s, output_s, beside_s, context_s = self._coefficients().tolist()
        return Speeds(1.0 / prompt_s, 1.0 / output_s, beside_s / output_s, context_s / output_s * 1000.0)

    def _coefficients(self) -> Floats:
        """Seconds of one of each of the features."""
        slowdown = max(_LEAST_SLOWDOWN, self.described.decode_slowdown)
        context = max(_LEAST_CONTEXT, self.described.context_slowdown / 1000.0)
        lone_s = 1.0 / self.described.decode_tps
        described = np.array([1.0 / self.described.prefill_tps, lone_s, slowdown * lone_s, context * lone_s])
        return np.asarray(described * np.exp(self.logarithms))

    @property
    def spread(self) -> Speeds:
        """Standard deviation of the logarithm of each."""
        return Speeds(*np.sqrt(np.diag(np.array(self.covariance))).tolist())

    def seconds(self, measured: Measured) -> float:
        """How long it should have taken."""
        return float(_features(measured) @ self._coefficients())

    def after(self, measured: Measured) -> Law:
        """The law once an answer was measured; itself where that says nothing."""
        expected_s = self.seconds(measured)
        if min(measured.seconds, expected_s) < _NEGLIGIBLE_S:
            return self
        covariance = np.array(self.covariance)
        x = _features(measured) * self._coefficients() / expected_s
        error, in_a_row = float(np.log(measured.seconds / expected_s)), 0
        limit = _OUTLIER * float(np.sqrt(self.noise**2 + x @ covariance @ x))
        if abs(error) > limit:
            sign = 1 if error > 0 else -1
            in_a_row = self.in_a_row + sign if self.in_a_row * sign > 0 else sign
            error = sign * limit
            if abs(in_a_row) >= _IN_A_ROW:
                covariance, in_a_row = _bounded(covariance * _OPENED), 0
        gain = covariance @ x / (self.noise**2 + x @ covariance @ x)
        logarithms = np.clip(np.array(self.logarithms) + gain * error, -_FURTHEST, _FURTHEST)
        covariance = _bounded((covariance - np.outer(gain, x @ covariance)) / _FORGETTING)
        usual = min(abs(error), _OUTLIER * self.noise)
        variance = self.noise**2 + _NOISE_RATE * (usual**2 - self.noise**2)
        return replace(
            self,
            logarithms=tuple(logarithms.tolist()),
            covariance=tuple(tuple(row) for row in covariance.tolist()),
            noise=float(np.clip(np.sqrt(variance), _LEAST_NOISE, _MOST_NOISE)),
            answers=self.answers + 1,
            in_a_row=in_a_row,
        )


def described_law(speeds: Speeds) -> Law:
    """What is known before any answer."""
    return Law(speeds, (0.0,) * len(_SPREAD), tuple(tuple(row) for row in np.diag(_SPREAD**2).tolist()))


def _features(measured: Measured) -> Floats:
    return np.array([measured.prompt_tokens, measured.output_tokens, measured.beside, measured.context])


def _bounded(covariance: Floats) -> Floats:
    """Forgetting opens what no answer speaks of; never wider than at first."""
    shrink = np.minimum(1.0, _SPREAD / np.sqrt(np.maximum(np.diag(covariance), 1e-300)))
    symmetric = (covariance + covariance.T) / 2
    return np.asarray(symmetric * np.outer(shrink, shrink))
