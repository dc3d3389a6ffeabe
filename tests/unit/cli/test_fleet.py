"""``fate fleet``: what can't be done is said in a line, with a status that isn't 0, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from airflow_fate.cli.main import app

FLEET = """
models:
  m: {weights_gb: 1, load_gb_per_s: {disk: 1, host: 1}, prefill_tps: {cpu: 1}, decode_tps: {cpu: 1}}
nodes:
  n: {}
devices:
  gpu-0: {node: n, gpu: cpu, engine: simulated, memory_gb: MEMORY, kv_tokens: 8192}
"""


def fate(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


@pytest.mark.parametrize("detach", ["--detach", "--no-detach"])
def test_a_malformed_fleet_file_is_named_with_the_key_and_its_form(tmp_path: Path, detach: str) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(FLEET.replace("MEMORY", "-1"))
    status, said = fate("fleet", "up", "--file", file, "--dir", tmp_path / "fleet", detach)
    assert status == 1
    assert said.startswith(str(file))
    assert "devices.gpu-0.memory_gb: Input should be greater than 0, got -1" in said
    assert not (tmp_path / "fleet").exists()


def test_a_missing_fleet_file_is_named(tmp_path: Path) -> None:
    status, said = fate("fleet", "up", "--file", tmp_path / "none.yaml", "--dir", tmp_path / "fleet")
    assert status == 1
    assert f"{tmp_path / 'none.yaml'}: No such file" in said


@pytest.mark.parametrize("command", ["status", "down"])
def test_a_folder_without_a_fleet_says_how_to_make_one(tmp_path: Path, command: str) -> None:
    status, said = fate("fleet", command, "--dir", tmp_path)
    assert status == 1
    assert f"{tmp_path} holds no fleet; `fate fleet up` makes one" in said
