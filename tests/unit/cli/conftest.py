"""Airflow sets up its loggers when it is first imported: before a command silences them for the whole process."""

from __future__ import annotations

import airflow.settings

airflow.settings.initialize()  # type: ignore[no-untyped-call]
