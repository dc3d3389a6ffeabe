"""Commands of ``make`` that run side by side are heard while they run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import aloud

ROOT = Path(__file__).parents[2]


def test_lines_have_a_name_and_the_status_is_the_commands() -> None:
    code = "import sys; print('one'); print('two', end=''); sys.exit(3)"
    done = subprocess.run(
        [sys.executable, "-m", "tests.aloud", "unit", sys.executable, "-c", code],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "unit: one\nunit: two\n")


def test_a_silent_command_and_dots_without_an_end_are_heard(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aloud, "SILENCE_S", 0.01)
    code = "import sys, time; sys.stdout.write('...'); sys.stdout.flush(); time.sleep(0.5)"
    assert aloud.run("unit", [sys.executable, "-c", code]) == 0
    said = capfdbinary.readouterr().out.decode()
    assert "unit: ...\n" in said
    assert "unit: ... 0 s\n" in said
