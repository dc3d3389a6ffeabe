"""Holds on devices."""

from __future__ import annotations

from airflow_fate.costs import Hold, Interval, Owner


def owner(reservation: str = "r", **fields: str) -> Owner:
    values = {"dag_id": "dag", "run_id": "run", "task_id": "task", "tenant": "", "model": "m"} | fields
    return Owner(reservation, **values)


def hold(
    name: str,
    start_at: float,
    end_at: float,
    load: tuple[float, float] | None = None,
    *,
    device: str = "d0",
    sequences: int = 1,
    gpu: str = "cpu",
    **fields: str,
) -> Hold:
    span = Interval(start_at, end_at)
    return Hold(owner(name, **fields), device, gpu, sequences, span, Interval(*load) if load else None)
