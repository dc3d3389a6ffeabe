"""Airflow's own folder for tests: nothing of this user's Airflow is read or written."""

from __future__ import annotations

import os
import tempfile

_HOME = tempfile.TemporaryDirectory(prefix="fate-airflow-home-", ignore_cleanup_errors=True)
# Airflow reads these when it is first imported, which is before any fixture.
os.environ["AIRFLOW_HOME"] = _HOME.name
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"
