"""What Airflow is told of this package leads somewhere."""

from __future__ import annotations

from typing import Any

import pytest
from airflow._shared.module_loading import import_string

from airflow_fate.provider_info import get_cli_commands, get_provider_info

INFO = get_provider_info()
PATHS = [
    *INFO["executors"],
    *INFO["db-managers"],
    *INFO["cli"],
    *(kind["hook-class-name"] for kind in INFO["connection-types"]),
    *(decorator["class-name"] for decorator in INFO["task-decorators"]),
]


@pytest.mark.parametrize("path", PATHS)
def test_every_path_can_be_imported(path: str) -> None:
    imported: Any = import_string(path)
    assert callable(imported)


def test_airflow_gets_no_commands_and_need_not_load_the_executor_to_learn_that() -> None:
    assert get_cli_commands() == []
