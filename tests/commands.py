"""What does ``fate COMMAND --output json`` say, where somebody's environment is?"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any


def fate(command: str, environment: Mapping[str, str], **changes: str) -> tuple[int, Any]:
    """Its exit code, and what it prints.

    :param command: with its arguments.
    :param changes: further variables.
    """
    asked = [sys.executable, "-m", "airflow_fate.cli.main", *command.split(), "--output", "json"]
    done = subprocess.run(asked, env={**environment, **changes}, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)
