from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_fate.state.fleetfile import FleetFile, FleetFileError, read_fleet_file

GOOD: dict[str, Any] = {
    "name": "demo",
    "threads": 5,
    "models": {
        "m": {
            "file": "m.gguf",
            "weights_gb": 2,
            "load_gb_per_s": {"disk": 0.5, "host": 4},
            "prefill_tps": {"cpu": 140},
            "decode_tps": {"cpu": 42},
        }
    },
    "nodes": {"n": {"zone": "here", "gbps": 10, "host_gb": 3}},
    "devices": {
        "gpu-0": {"node": "n", "gpu": "cpu", "engine": "llamacpp", "memory_gb": 4, "kv_tokens": 8192},
        "gpu-1": {"node": "n", "gpu": "cpu", "engine": "llamacpp", "memory_gb": 4, "kv_tokens": 8192, "threads": 7},
        "gpu-2": {"node": "n", "gpu": "cpu", "engine": "simulated", "memory_gb": 4, "kv_tokens": 8192, "max_seqs": 8},
    },
    "groups": {"pair": ["gpu-0", "gpu-1"]},
}


def _write(folder: Path, content: Any) -> Path:
    (folder / "m.gguf").touch()
    path = folder / "fleet.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_a_fleet_file_becomes_a_fleet(tmp_path: Path) -> None:
    fleet_file = read_fleet_file(_write(tmp_path, GOOD))
    fleet = fleet_file.to_fleet()
    assert fleet.places == ("gpu-0", "gpu-1", "gpu-2", "pair")
    assert fleet.models["m"].disk_bytes_per_s == 0.5e9
    assert fleet.nodes["n"].host_bytes == 3e9
    assert fleet.devices["gpu-2"].max_seqs == 8
    assert fleet.can_hold("gpu-0", "m")
    assert FleetFile.model_validate_json(fleet_file.model_dump_json()) == fleet_file


def test_files_and_threads_are_resolved(tmp_path: Path) -> None:
    fleet_file = read_fleet_file(_write(tmp_path, GOOD))
    assert fleet_file.models["m"].file == str(tmp_path / "m.gguf")
    assert [device.threads for device in fleet_file.devices.values()] == [2, 7, 2]


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("devices", "gpu-0", "memory_gb"), -1, "devices.gpu-0.memory_gb: Input should be greater than 0, got -1"),
        (("devices", "gpu-0", "memory_gb"), float("inf"), "devices.gpu-0.memory_gb: Input should be a finite number"),
        (("devices", "gpu-0", "engine"), "vllm", "devices.gpu-0.engine: Input should be 'llamacpp' or 'simulated'"),
        (("devices", "gpu-0", "node"), "nowhere", "devices.gpu-0.node must be one of n, got 'nowhere'"),
        (("devices", "gpu-0", "memory"), 1, "devices.gpu-0.memory: Extra inputs are not permitted"),
        (("devices", "GPU 0"), GOOD["devices"]["gpu-0"], "devices.GPU 0"),
        (("groups", "pair"), ["gpu-7"], "groups.pair must list devices, got 'gpu-7'"),
        (("models", "m", "file"), "other.gguf", "models.m.file must be 'smollm2-135m' or an existing GGUF file"),
        (("models",), {}, "models: "),
        (("threads",), 0, "threads"),
    ],
)
def test_errors_name_file_key_and_form(tmp_path: Path, path: tuple[str, ...], value: Any, says: str) -> None:
    content = copy.deepcopy(GOOD)
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(FleetFileError) as error:
        read_fleet_file(_write(tmp_path, content))
    assert str(error.value).startswith(str(tmp_path / "fleet.yaml"))
    assert says in str(error.value)


@pytest.mark.parametrize("content", ["- a", "{", "", "a: [1"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(FleetFileError, match=r"fleet\.yaml: must be"):
        read_fleet_file(_write(tmp_path, content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FleetFileError, match=r"none\.yaml: No such file"):
        read_fleet_file(tmp_path / "none.yaml")
