"""What commands say: text is never taken for markup, progress is told off a terminal, codes are alike."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from airflow_fate import cli
from airflow_fate.cli import show
from airflow_fate.cli import state as state_command
from airflow_fate.cli.main import app
from airflow_fate.doctor.finding import failure
from tests.until import until


def commands(group: Any = None, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command of ``fate``."""
    group = group or get_command(app)
    if hasattr(group, "commands"):
        for inner, command in group.commands.items():
            yield from commands(command, f"{name} {inner}".strip())
    else:
        yield name, group


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_every_command_can_print_json(name: str) -> None:
    assert "--output" in {option for parameter in dict(commands())[name].params for option in parameter.opts}


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_every_command_ends_with_2_when_it_is_used_wrongly(name: str) -> None:
    assert CliRunner().invoke(app, [*name.split(), "--no-such-option"]).exit_code == 2


def test_help_says_what_exit_codes_mean() -> None:
    said = " ".join(CliRunner().invoke(app, ["--help"]).output.split())
    assert "Exit codes of all commands: 0, all is well; 1, the command ran and found trouble" in said


MODULES = [module.name for module in pkgutil.walk_packages(cli.__path__, "airflow_fate.cli.")]


@pytest.mark.parametrize("module", [module for module in MODULES if module != "airflow_fate.cli.show"])
def test_no_command_has_a_console_of_its_own_that_would_take_text_for_markup(module: str) -> None:
    source = Path(importlib.import_module(module).__file__ or "").read_text()
    assert "rich.console" not in source


def test_a_finding_is_shown_with_its_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = [failure("settings", "[fate] has no key", "[red]take it out[/red]")]
    monkeypatch.setattr("airflow_fate.doctor.examine.examine", lambda settings: findings)
    monkeypatch.setattr("airflow_fate.cli.doctor.fate_settings", lambda: None)
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert "[fate] has no key" in done.stdout
    assert "[red]take it out[/red]" in done.stdout


def test_a_reservations_reason_is_shown_with_its_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    reservation = {"map_index": 0, "task": "t", "devices": ["d"], "dag": "[bold]", "run": "r", "try": 1, "model": "m"}
    state_command._show([], [reservation | {"why": "see [fate] policy"}])
    said = capsys.readouterr().out
    assert "[bold]" in said
    assert "see [fate] policy" in said


def test_a_file_that_cant_be_written_is_told_in_one_sentence() -> None:
    broken = typer.Typer(cls=show.Commands)

    @broken.command()
    def one() -> None:
        raise PermissionError(13, "Permission denied", "/where")

    @broken.command()
    def two() -> None:
        raise KeyboardInterrupt

    done = CliRunner().invoke(broken, ["one"])
    assert (done.exit_code, done.stderr) == (1, "fate: /where: Permission denied\n")
    assert CliRunner().invoke(broken, ["two"]).exit_code == 130


def test_off_a_terminal_progress_is_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "WORD_EVERY_S", 0.001)
    said: list[str] = []
    with show.Steps("Runs", 2) as steps:
        steps.step("one [x]")

        def printed() -> bool:
            said.extend(capsys.readouterr().err.splitlines())
            return "Runs: 1 of 2, one [x] (0 s)" in said

        # By itself, while nothing happens.
        until(printed)
        steps.step("two")
    assert said[0] == "Runs: 0 of 2"
    rest = capsys.readouterr()
    assert (rest.out, rest.err.splitlines()[-1]) == ("", "Runs: 2 of 2, two")


def test_json_goes_to_standard_output_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_fate.planner.warm.warm", lambda: None)
    done = CliRunner().invoke(app, ["compile", "--output", "json"])
    assert list(json.loads(done.stdout)) == ["seconds"]
    assert "Compiling the planner" in done.stderr
