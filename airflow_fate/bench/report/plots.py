"""What does it look like? Pictures for the report, where matplotlib is installed."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow_fate.atomic import write_whole
from airflow_fate.bench.report.compare import Comparison
from airflow_fate.bench.report.document import Block, Picture
from airflow_fate.bench.report.ratios import ScenarioKey
from airflow_fate.planner.registry import BASELINE, FATE
from airflow_fate.simulator.suites import Scenario

_MOST = 1.5
"""Where the scale ends: some policies are many times as bad as round robin."""

_FATE_COLOUR, _OTHER_COLOUR, _PLUS_COLOUR = "#1f5fb4", "#9aa7b4", "#d08a3a"


def can_draw() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def draw_ranking(comparison: Comparison, folder: Path) -> Block:
    """Bars of all policies with their intervals."""
    order = comparison.ranking[::-1]
    figure, axes = _figure(8, 0.8 + 0.28 * len(order))
    values = [ratio.value for _, ratio in order]
    spread = [[ratio.value - ratio.low for _, ratio in order], [ratio.high - ratio.value for _, ratio in order]]
    axes.barh(range(len(order)), values, xerr=spread, color=[_colour(name) for name, _ in order], ecolor="#444")
    axes.set_yticks(range(len(order)), [name for name, _ in order])
    for row, value in enumerate(values):
        if value > _MOST:
            axes.text(_MOST - 0.01, row, f"{value:.1f}", ha="right", va="center", color="white")
    _scale(axes, f"{comparison.metric} over {BASELINE}")
    return _save(figure, folder, f"{comparison.metric}.png", f"{comparison.metric} of all policies over {BASELINE}")


def draw_scenarios(comparison: Comparison, scenarios: Mapping[ScenarioKey, Scenario], folder: Path) -> Block:
    """A dot for each policy in each scenario, FATE's in colour."""
    compared = comparison.figures
    keys = compared.scenarios[::-1]
    figure, axes = _figure(8, 1 + 0.28 * len(keys))
    for name in sorted(compared.names, key=lambda name: name == FATE):
        if name == BASELINE:
            continue
        values = [compared.in_scenario(name, BASELINE, key) for key in keys]
        size = 42 if name == FATE else 14
        axes.scatter(values, range(len(keys)), s=size, color=_colour(name))
    axes.set_yticks(range(len(keys)), [key[1] for key in keys])
    _scale(
        axes, f"{comparison.metric} over {BASELINE}; grey: other policies, orange: with +; beyond {_MOST}: not shown"
    )
    says = f"{comparison.metric} in each scenario"
    return _save(figure, folder, f"{comparison.metric}-scenarios.png", says)


def draw_reuse(comparison: Comparison, folder: Path) -> Block | None:
    """The metric over the share of reuse, for FATE and the three strongest others; None where that was not run."""
    shares = {key: _share(key[1]) for key in comparison.figures.scenarios}
    keys = sorted((key for key, share in shares.items() if share is not None), key=lambda key: key[1])
    if len(keys) < 2:
        return None
    figure, axes = _figure(8, 4)
    shown = [name for name, _ in comparison.ranking if name not in (FATE, BASELINE)][:3]
    rivals = dict(zip(shown, ("#777777", "#d08a3a", "#4a9a6a"), strict=False))
    colours = {FATE: _FATE_COLOUR} | rivals
    for load, style in (("high", "-"), ("moderate", "--")):
        chosen = [key for key in keys if key[1].startswith(load)]
        for name in [name for name in (FATE, *shown) if name in comparison.figures.names]:
            axes.plot(
                [shares[key] for key in chosen],
                [comparison.figures.in_scenario(name, BASELINE, key) for key in chosen],
                style,
                marker="o",
                color=colours[name],
                label=f"{name}, {load} load",
            )
    axes.set_xlabel("share of a prompt's tokens in shared segments, %")
    axes.set_ylabel(f"{comparison.metric} over {BASELINE}")
    axes.legend(fontsize=8)
    says = f"{comparison.metric} over the share of reuse"
    return _save(figure, folder, f"{comparison.metric}-reuse.png", says)


def _share(scenario: str) -> int | None:
    head, _, percent = scenario.rpartition("-reuse-")
    return int(percent) if head and percent.isdigit() else None


def _colour(name: str) -> str:
    return _FATE_COLOUR if name == FATE else _PLUS_COLOUR if name.endswith("+") else _OTHER_COLOUR


def _scale(axes: Any, label: str) -> None:
    axes.axvline(1, color="#444", linewidth=0.8)
    axes.set_xlim(0, _MOST)
    axes.set_xlabel(label)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    # The object-oriented way: no global state, no window, whatever backend is set.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _save(figure: Any, folder: Path, name: str, says: str) -> Picture:
    picture = io.BytesIO()
    # Without the date and version that matplotlib would write into it, equal results make equal files.
    figure.savefig(picture, format="png", dpi=110, metadata={"Software": None})
    write_whole(folder / name, picture.getvalue())
    return Picture(name, says)


def draw_all(
    comparisons: Sequence[Comparison], scenarios: Mapping[ScenarioKey, Scenario], folder: Path
) -> dict[str, list[Block]]:
    """Pictures by metric."""
    drawn: dict[str, list[Block]] = {}
    for comparison in comparisons:
        reuse = draw_reuse(comparison, folder)
        pictures = [draw_ranking(comparison, folder), draw_scenarios(comparison, scenarios, folder)]
        drawn[comparison.metric] = [*pictures, *([reuse] if reuse else [])]
    return drawn
