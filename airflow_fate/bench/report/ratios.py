"""How much better is one policy than another over all scenarios, and how sure is that?

All means are geometric, of ratios between runs of the same scenario and seed; each scenario counts alike. Confidence
intervals are bootstrapped in two steps, scenarios and then seeds within them: they answer for scenarios of this kind,
not for these alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_fate.bench.metrics import METRICS
from airflow_fate.bench.suite.job import Outcome

_DRAWS = 2000
_LEVEL = 0.95

ScenarioKey = tuple[str, str]
"""Suite and scenario."""


@dataclass(frozen=True)
class Ratio:
    """A geometric mean with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Figures:
    """One figure of all runs: for each name and scenario, its values by seed.

    Only scenarios and seeds that every name has are kept, so that all are compared on the same ground.

    :param names: policies or ablations.
    :param logs: name -> scenario -> logarithms of the figure, seeds in one order.
    """

    names: tuple[str, ...]
    scenarios: tuple[ScenarioKey, ...]
    logs: dict[str, dict[ScenarioKey, NDArray[np.float64]]]

    def ratio(self, name: str, other: str, among: Iterable[ScenarioKey] | None = None) -> Ratio:
        """``name`` over ``other``; below 1, ``name`` is better."""
        scenarios = self.scenarios if among is None else [key for key in self.scenarios if key in set(among)]
        return _bootstrap([self.logs[name][key] - self.logs[other][key] for key in scenarios])

    def in_hindsight(self, names: Sequence[str], other: str, among: Iterable[ScenarioKey]) -> Ratio:
        """The best of the names in each run, chosen when it was over, over ``other``."""
        scenarios = [key for key in self.scenarios if key in set(among)]
        return _bootstrap(
            [np.min([self.logs[name][key] for name in names], axis=0) - self.logs[other][key] for key in scenarios]
        )

    def in_scenario(self, name: str, other: str, scenario: ScenarioKey) -> float:
        return float(np.exp(np.mean(self.logs[name][scenario] - self.logs[other][scenario])))

    def strongest(self, names: Iterable[str], among: Iterable[ScenarioKey]) -> str | None:
        """The best of the names over these scenarios; None without any."""
        wanted = [key for key in self.scenarios if key in set(among)]
        known = [name for name in names if name in self.logs] if wanted else []
        return min(known, key=lambda name: self._mean(name, wanted), default=None)

    def best_in(self, names: Iterable[str], scenario: ScenarioKey) -> str | None:
        """The best of the names in one scenario."""
        return self.strongest(names, [scenario])

    def _mean(self, name: str, among: Sequence[ScenarioKey]) -> float:
        return float(np.mean([self.logs[name][key].mean() for key in among]))


def figures(
    outcomes: Sequence[Outcome], metric: str, name_of: Callable[[Outcome], str | None]
) -> tuple[Figures, list[str]]:
    """A metric of all outcomes, and what had to be left out.

    :param name_of: under which name an outcome counts; None leaves it out.
    """
    values: dict[str, dict[tuple[ScenarioKey, int], float]] = {}
    for outcome in outcomes:
        name = name_of(outcome)
        if name is not None:
            key = (outcome.job.suite, outcome.job.scenario)
            values.setdefault(name, {})[key, outcome.job.seed] = outcome.summary[METRICS[metric]]
    every = {case for of_name in values.values() for case in of_name}
    common = {case for case in every if all(case in of_name for of_name in values.values())}
    left_out = sorted(f"{suite}/{scenario} seed {seed}" for (suite, scenario), seed in every - common)
    scenarios = tuple(dict.fromkeys(key for outcome in outcomes if (key := _key(outcome)) in {c[0] for c in common}))
    logs = {
        name: {
            key: np.log([of_name[case] for case in sorted(common, key=lambda case: case[1]) if case[0] == key])
            for key in scenarios
        }
        for name, of_name in values.items()
    }
    return Figures(tuple(values), scenarios, logs), left_out


def _key(outcome: Outcome) -> ScenarioKey:
    return outcome.job.suite, outcome.job.scenario


def _bootstrap(differences: Sequence[NDArray[Any]]) -> Ratio:
    """The mean of the scenarios' means, back from logarithms, with its interval."""
    if not differences:
        return Ratio(float("nan"), float("nan"), float("nan"))
    rng = np.random.default_rng(0)
    # For each scenario, the means of redrawn seeds; then redrawn scenarios, each with a redrawn mean of its own.
    means = np.stack([each[rng.integers(len(each), size=(_DRAWS, len(each)))].mean(axis=1) for each in differences])
    chosen = rng.integers(len(differences), size=(_DRAWS, len(differences)))
    drawn = means[chosen, np.arange(_DRAWS)[:, None]].mean(axis=1)
    low, high = np.quantile(drawn, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    centre = np.mean([each.mean() for each in differences])
    return Ratio(float(np.exp(centre)), float(np.exp(low)), float(np.exp(high)))
