"""What does the configured Airflow say? Its ``[fate]`` section, without what Airflow prints when it is imported."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_fate.executor.settings import Settings


@contextmanager
def quiet() -> Iterator[None]:
    """What Airflow logs and a DAG's file prints is not a command's output."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    # Airflow sets its own loggers up when it is imported.
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "CRITICAL")
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        logging.disable(before)


def fate_settings() -> Settings:
    """:raises SettingsError: naming the key and the expected form."""
    from airflow_fate.executor import settings

    return settings.configured()
