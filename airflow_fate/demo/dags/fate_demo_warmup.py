"""One task without a model: when it has run, a scheduler and its workers are up, and a pass may be timed."""

from __future__ import annotations

from airflow.sdk import dag, task


@dag(schedule=None, tags=["fate", "demo"])
def fate_demo_warmup() -> None:
    @task
    def ready() -> str:
        return "ready"

    ready()


fate_demo_warmup()
