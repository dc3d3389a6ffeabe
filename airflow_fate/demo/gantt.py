"""How did the passes look over time? A Gantt picture: one row a device, one colour a run."""

from __future__ import annotations

from pathlib import Path

from airflow_fate.demo.passes import PassResult


def draw(results: dict[str, PassResult], path: Path) -> None:
    """Write a PNG with one panel for each pass, on one time scale; hatched is reading, plain is the rest."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    longest = max(result.wall_s for result in results.values())
    figure, panels = plt.subplots(len(results), 1, figsize=(12, 2.4 * len(results)), sharex=True, squeeze=False)
    runs = sorted({_run(task.task) for result in results.values() for task in result.tasks})
    colours = plt.get_cmap("tab10")
    for panel, (name, result) in zip(panels[:, 0], results.items(), strict=True):
        devices = sorted({task.device for task in result.tasks})
        for task in result.tasks:
            row, colour = devices.index(task.device), colours(runs.index(_run(task.task)) % 10)
            panel.barh(row, task.end_s - task.start_s, left=task.start_s, height=0.8, color=colour, edgecolor="white")
            panel.barh(
                row,
                task.prefill_s,
                left=task.start_s,
                height=0.3,
                color=colour,
                edgecolor="black",
                hatch="////",
                linewidth=0.3,
            )
        panel.set_yticks(range(len(devices)), devices)
        panel.set_title(f"{name}: {result.wall_s:.0f} s, {result.cached_tokens:,} prompt tokens cached", loc="left")
        panel.set_xlim(0, longest)
    panels[-1, 0].set_xlabel("seconds since the runs were triggered; hatched: prefill")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _run(task: str) -> str:
    dag_id, run_id, _ = task.split("/", 2)
    return f"{dag_id} {run_id.rpartition('-')[2]}"
