"""What Airflow's metrics say of the fleet."""

from __future__ import annotations

import pytest
from airflow.sdk.observability import stats

from airflow_fate.executor.heartbeat.metrics import emit
from tests.unit.executor.builders import report, view


def test_a_device_of_which_nothing_is_known_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    gauges: dict[str, float] = {}
    monkeypatch.setattr(stats, "gauge", gauges.__setitem__)
    emit(view(report("d0")))
    assert gauges == {"fate.devices": 2, "fate.devices.usable": 1, "fate.devices.silent": 1}
