"""Is FATE better than the other policies? One answer for each metric, from all runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from airflow_fate.bench.metrics import METRICS
from airflow_fate.bench.report.document import Block, Heading, Table, Text
from airflow_fate.bench.report.ratios import Figures, Ratio, ScenarioKey, figures
from airflow_fate.bench.suite.job import Outcome
from airflow_fate.bench.suite.plan import objective_for
from airflow_fate.planner.registry import BASELINE, FATE
from airflow_fate.simulator.suites import Scenario

AIMS = {"round_robin": 0.675, "others": 0.911, "plus": 0.95, "worst": 1.02}
"""What FATE should stay below: of round robin (makespan and P95), the strongest other policy, the strongest with "+",
and the best other policy in FATE's worst scenario."""

CONTENDED = "†"


@dataclass(frozen=True)
class Comparison:
    """All policies on one metric.

    :param among: the scenarios that the metric is judged over.
    """

    metric: str
    objective: str
    figures: Figures
    among: tuple[ScenarioKey, ...]
    left_out: Sequence[str]

    @property
    def others(self) -> list[str]:
        """All but FATE that have no "+"."""
        return [name for name in self.figures.names if name != FATE and not name.endswith("+")]

    @property
    def plus(self) -> list[str]:
        return [name for name in self.figures.names if name.endswith("+")]

    @property
    def ranking(self) -> list[tuple[str, Ratio]]:
        """Policies and their ratios to round robin, the best first."""
        ratios = [(name, self.figures.ratio(name, BASELINE, self.among)) for name in self.figures.names]
        return sorted(ratios, key=lambda each: each[1].value)


def compare(
    outcomes: Sequence[Outcome], metric: str, objectives: Sequence[str], scenarios: Mapping[ScenarioKey, Scenario]
) -> Comparison:
    """All policies on a metric. Makespan is judged over contended scenarios: elsewhere the arrivals decide it."""
    objective = objective_for(metric, objectives)

    def name_of(outcome: Outcome) -> str | None:
        job = outcome.job
        return None if job.variation or (job.policy == FATE and job.objective != objective) else job.policy

    compared, left_out = figures(outcomes, metric, name_of)
    contended = tuple(key for key in compared.scenarios if scenarios[key].contended)
    among = contended if metric == "makespan" and contended else compared.scenarios
    return Comparison(metric, objective, compared, among, left_out)


def ratios_document(
    outcomes: Sequence[Outcome], objectives: Sequence[str], scenarios: Mapping[ScenarioKey, Scenario]
) -> dict[str, dict[str, list[float]]]:
    """Metric -> policy -> its ratio to round robin, with the ends of the interval."""
    return {
        metric: {
            policy: [ratio.value, ratio.low, ratio.high]
            for policy, ratio in compare(outcomes, metric, objectives, scenarios).ranking
        }
        for metric in METRICS
    }


def verdict(comparisons: Sequence[Comparison]) -> list[Block]:
    """FATE against the strongest rivals, in one table."""
    columns = [_answers(comparison) for comparison in comparisons]
    questions = [
        ("FATE over round_robin", f"≤ {AIMS['round_robin']} (makespan, P95)"),
        ("strongest other policy", ""),
        ("FATE over it", f"≤ {AIMS['others']}"),
        ("the best of all in each run, in hindsight, over it", ""),
        ("strongest with +", ""),
        ("FATE over it", f"≤ {AIMS['plus']}"),
        ("worst scenario", ""),
        ("FATE over the best other policy there", f"≤ {AIMS['worst']}"),
        ("scenarios, runs a policy", ""),
    ]
    rows = [[question, *(column[n] for column in columns), aim] for n, (question, aim) in enumerate(questions)]
    return [
        Text(
            "Geometric means over scenarios and seeds, with 95 % confidence intervals in brackets. FATE runs with the "
            "metric as its objective. Makespan is judged over the contended scenarios alone."
        ),
        Table(["", *(comparison.metric for comparison in comparisons), "aim"], rows, frozenset({0, 2, 5, 7})),
    ]


def ranking(comparison: Comparison) -> list[Block]:
    """Every policy against round robin and FATE against every policy."""
    compared = comparison.figures
    has_fate = FATE in compared.names
    header = ["policy", f"{comparison.metric} over {BASELINE}", *(["FATE over it"] if has_fate else [])]
    order = comparison.ranking
    rows = [
        [name, str(ratio), *([_over(compared, name, comparison.among)] if has_fate else [])] for name, ratio in order
    ]
    marked = frozenset(index for index, (name, _) in enumerate(order) if name == FATE)
    basis = f"{len(comparison.among)} scenarios"
    if has_fate:
        basis += f"; FATE with the objective {comparison.objective}"
    blocks: list[Block] = [Heading(comparison.metric, 3), Text(basis + "."), Table(header, rows, marked)]
    if comparison.left_out:
        blocks.append(Text("Not all policies have a run, so left out: " + ", ".join(comparison.left_out) + "."))
    return blocks


def by_scenario(comparison: Comparison, scenarios: Mapping[ScenarioKey, Scenario]) -> list[Block]:
    """FATE against the best other policy of each scenario."""
    compared = comparison.figures
    header = ["scenario", "FATE", "best other", "", "FATE over it", "best with +", "", "FATE over it"]
    rows = []
    for key in compared.scenarios:
        cells = [key[1] + (f" {CONTENDED}" if scenarios[key].contended else "")]
        cells.append(f"{compared.in_scenario(FATE, BASELINE, key):.3f}")
        for names in (comparison.others, comparison.plus):
            best = compared.best_in(names, key)
            if best is None:
                cells += ["", "", ""]
                continue
            cells += [
                best,
                f"{compared.in_scenario(best, BASELINE, key):.3f}",
                f"{compared.in_scenario(FATE, best, key):.3f}",
            ]
        rows.append(cells)
    return [Heading(comparison.metric, 3), Table(header, rows)]


def _over(compared: Figures, name: str, among: Sequence[ScenarioKey]) -> str:
    return "" if name == FATE else str(compared.ratio(FATE, name, among))


def _answers(comparison: Comparison) -> list[str]:
    compared, among = comparison.figures, comparison.among
    answers = [str(compared.ratio(FATE, BASELINE, among))]
    rival, plus = (compared.strongest(names, among) for names in (comparison.others, comparison.plus))
    for strongest in (rival, plus):
        answers += [strongest or "", str(compared.ratio(FATE, strongest, among)) if strongest else ""]
    answers.insert(3, str(compared.in_hindsight(compared.names, rival, among)) if rival else "")
    bests = [(key, best) for key in among if (best := compared.best_in(comparison.others, key))]
    worst = max(bests, key=lambda each: compared.in_scenario(FATE, each[1], each[0]), default=None)
    answers += (
        [f"{worst[0][1]} ({worst[1]})", f"{compared.in_scenario(FATE, worst[1], worst[0]):.3f}"] if worst else ["", ""]
    )
    runs = sum(len(compared.logs[FATE][key]) for key in among)
    return [*answers, f"{len(among)}, {runs}"]
