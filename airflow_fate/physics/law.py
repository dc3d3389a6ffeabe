"""How fast is an engine really? The law of docs/physics.md ("Decode", "Steps"), fitted to its latest answers.

An answer's seconds are a sum: so much for each token of a prompt that was computed meanwhile, for each of its output,
for each of these and each further sequence, and for each of these and each token of context. The four are found by
least squares that allow nothing negative (Lawson and Hanson 1974), of relative errors, older answers counting less. An
answer whose error is far from the others' counts less, too (Huber 1964, by reweighting). What is described counts as
much as a small part of an answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Floats = NDArray[np.float64]

_KEPT = 160
"""So many of the latest measurements are fitted."""
_AGING = 0.985
"""Each counts so much less than the one after it."""
_DESCRIBED = 0.05
"""What is described counts as much as so much of a measurement."""
_WIDTH = np.array([1.0, 1.0, 30.0, 30.0])
"""By so much more each may differ from it: a CPU's slowdown for each sequence is 30 times a GPU's."""
_USUAL_SLOWDOWN, _USUAL_CONTEXT = 0.03, 3e-5
"""What slows decoding, for each sequence and each token of context, where less is described."""
_MOST = 20.0
"""No engine is so many times faster or slower than described."""
_HUBER = 1.345
_ROUNDS = 4
_LEAST_NOISE, _TOO_NOISY = 0.01, 0.6
_NEGLIGIBLE_S = 1e-3
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
    :param latest: the latest measurements, the newest last.
    :param coefficients: seconds of a prompt token, an output token, and an output token with a further sequence, and
        with a token of context.
    :param deviations: standard deviation of each, relative to it.
    :param noise: how far the latest measurements are from the law, as a share.
    :param answers: how many were learned from.
    """

    described: Speeds
    latest: tuple[Measured, ...]
    coefficients: tuple[float, ...]
    deviations: tuple[float, ...]
    noise: float = 0.0
    answers: int = 0

    @property
    def speeds(self) -> Speeds:
        """As learned; as described where the answers are too few, or contradict each other."""
        if self.answers < _FEWEST or self.noise > _TOO_NOISY:
            return self.described
        prompt_s, output_s, beside_s, context_s = self.coefficients
        return Speeds(1.0 / prompt_s, 1.0 / output_s, beside_s / output_s, context_s / output_s * 1000.0)

    def seconds(self, measured: Measured) -> float:
        """How long it should have taken."""
        return float(_features(measured) @ np.array(self.coefficients))

    def after(self, measured: Measured) -> Law:
        """The law once this was measured; itself where that says nothing."""
        if measured.seconds < _NEGLIGIBLE_S or not _features(measured).any():
            return self
        latest = (*self.latest, measured)[-_KEPT:]
        coefficients, deviations, noise = _fit(latest, self.described)
        return Law(self.described, latest, coefficients, deviations, noise, self.answers + 1)


def described_law(speeds: Speeds) -> Law:
    """What is known before any answer."""
    return Law(speeds, (), tuple(_described(speeds).tolist()), tuple((_WIDTH / _DESCRIBED).tolist()))


def _fit(latest: tuple[Measured, ...], speeds: Speeds) -> tuple[tuple[float, ...], tuple[float, ...], float]:
    """(coefficients, their deviations, noise)"""
    x = np.array([_features(measured) for measured in latest])
    y = np.array([measured.seconds for measured in latest])
    described, usual = _described(speeds), _usual(speeds)
    prior = np.diag(_DESCRIBED / _WIDTH / usual)
    age = np.sqrt(_AGING ** np.arange(len(y))[::-1])
    least_s = np.array([*(described[:2] / _MOST), 0.0, 0.0])
    most_s = np.array([*(described[:2] * _MOST), np.inf, np.inf])
    expected_s, trust, found, noise = y, np.ones(len(y)), described, _LEAST_NOISE
    rows = prior
    for _ in range(_ROUNDS):
        weight = age * trust / expected_s
        rows = np.vstack([x * weight[:, None], prior]) * usual
        solved, _ = nnls(rows, np.concatenate([y * weight, prior @ described]))
        found = np.clip(solved * usual, least_s, most_s)
        expected_s = np.maximum(x @ found, y / _MOST**2)
        errors = np.abs(np.log(y / expected_s))
        noise = max(_LEAST_NOISE, float(np.median(errors)) * 1.4826)
        trust = np.sqrt(np.minimum(1.0, _HUBER * noise / np.maximum(errors, 1e-12)))
    precision = rows.T @ rows / noise**2
    deviations = np.sqrt(np.diag(np.linalg.pinv(precision))) * usual / np.maximum(found, usual)
    return tuple(found.tolist()), tuple(deviations.tolist()), noise


def _described(speeds: Speeds) -> Floats:
    lone_s = 1.0 / speeds.decode_tps
    slowdowns = np.array([speeds.decode_slowdown, speeds.context_slowdown / 1000.0])
    return np.array([1.0 / speeds.prefill_tps, lone_s, *(slowdowns * lone_s)])


def _usual(speeds: Speeds) -> Floats:
    """The size of each coefficient: of those that may be described as 0, what they are on most GPUs."""
    lone_s = 1.0 / speeds.decode_tps
    return np.maximum(_described(speeds), [0.0, 0.0, _USUAL_SLOWDOWN * lone_s, _USUAL_CONTEXT * lone_s])


def _features(measured: Measured) -> Floats:
    return np.array([measured.prompt_tokens, measured.output_tokens, measured.beside, measured.context])
