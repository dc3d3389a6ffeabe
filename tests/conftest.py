"""Airflow's own folder for tests: nothing of this user's Airflow is read or written. And signals that are heard."""

from __future__ import annotations

import os
import signal
import tempfile

_HOME = tempfile.TemporaryDirectory(prefix="fate-airflow-home-", ignore_cleanup_errors=True)
# Airflow reads these when it is first imported, which is before any fixture.
os.environ["AIRFLOW_HOME"] = _HOME.name
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"
# A job in a shell's background ignores Ctrl-C, and so would all programs that tests start and end by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
