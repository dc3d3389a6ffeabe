"""``fate doctor`` and ``fate state`` beside a real Airflow with a local fleet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.commands import fate
from tests.integration.conftest import World


def test_all_is_well_but_a_model_that_fits_nowhere(on_sqlite: World) -> None:
    code, findings = fate("doctor", on_sqlite.stack.environment())
    troubles = {finding["check"]: finding["seen"] for finding in findings if finding["grade"] != "ok"}
    assert troubles == {
        "models": "1 of 4 can be placed nowhere: giant needs 400.0 GB; the largest device has 0.1 GB",
    }
    assert code == 0


def test_a_fleet_that_is_not_there_is_told_with_what_starts_it(on_sqlite: World, tmp_path: Path) -> None:
    code, findings = fate("doctor", on_sqlite.stack.environment(), AIRFLOW__FATE__FLEET_DIR=str(tmp_path))
    by_check = {finding["check"]: finding for finding in findings}
    assert code == 1
    assert by_check["devices"]["grade"] == "failure"
    assert "fate fleet up" in by_check["devices"]["remedy"]
    assert by_check["models"]["grade"] == "not checked"


def test_a_wrong_setting_is_told_by_its_key(on_sqlite: World) -> None:
    wrong = on_sqlite.stack.environment() | {"AIRFLOW__FATE__SEARCH_MS": "soon"}
    asked = [sys.executable, "-m", "airflow_fate.cli.main", "doctor"]
    done = subprocess.run(asked, env=wrong, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "[fate] search_ms must be a number >= 1, got 'soon'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_state_has_every_device(on_sqlite: World) -> None:
    code, state = fate("state", on_sqlite.stack.environment())
    assert code == 0
    assert [device["device"] for device in state["devices"]] == ["gpu-0", "gpu-1", "gpu-2"]
    assert all(device["may_get_tasks"] for device in state["devices"])
