from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_fate.gateway.settings import read_settings
from airflow_fate.state.fleetfile import FleetFileError, parse_fleet_file, read_running_fleet
from airflow_fate.state.fleetschema import FleetFile

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
    fleet_file = read_running_fleet(_write(tmp_path, GOOD))
    fleet = fleet_file.to_fleet()
    assert fleet.places == ("gpu-0", "gpu-1", "gpu-2", "pair")
    assert fleet.models["m"].disk_bytes_per_s == 0.5e9
    assert fleet.nodes["n"].host_bytes == 3e9
    assert fleet.devices["gpu-2"].max_seqs == 8
    assert fleet.can_hold("gpu-0", "m")
    assert FleetFile.model_validate_json(fleet_file.model_dump_json()) == fleet_file


def test_what_the_physics_assumes_may_be_said_of_a_fleet_that_runs(tmp_path: Path) -> None:
    fleet = read_running_fleet(_write(tmp_path, GOOD | {"decode_slowdown": 0.01, "latency_s": 0.5})).to_fleet()
    assert (fleet.decode_slowdown, fleet.latency_s) == (0.01, 0.5)


def test_files_and_threads_are_resolved(tmp_path: Path) -> None:
    fleet_file = read_running_fleet(_write(tmp_path, GOOD))
    assert fleet_file.models["m"].file == str(tmp_path / "m.gguf")
    assert [device.threads for device in fleet_file.devices.values()] == [2, 7, 2]


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("devices", "gpu-0", "memory_gb"), -1, "devices.gpu-0.memory_gb: must be greater than 0, got -1"),
        (("devices", "gpu-0", "memory_gb"), float("inf"), "devices.gpu-0.memory_gb: must be a finite number"),
        (
            ("devices", "gpu-0", "engine"),
            "tgi",
            "devices.gpu-0.engine: must be 'llamacpp', 'vllm', 'openai' or 'simulated'",
        ),
        (("devices", "gpu-0", "engine"), "vllm", "devices.gpu-0.url must be the http:// URL of the vllm server"),
        (("devices", "gpu-0", "url"), "http://x", "devices.gpu-0.url is for engines vllm and openai, got engine 'llam"),
        (("devices", "gpu-0", "key_env"), "KEY", "devices.gpu-0.key_env is for engines vllm and openai"),
        (("devices", "gpu-0", "models"), ["m"], "devices.gpu-0.models is for engines vllm and openai"),
        (("devices", "gpu-0", "events_url"), "tcp://x:1", "devices.gpu-0.events_url must be the tcp:// address of a v"),
        (("devices", "gpu-2", "engine"), None, "devices.gpu-2.engine is missing: a fleet that runs has one for each"),
        (("devices", "gpu-2", "kv_tokens"), 0, "devices.gpu-2.kv_tokens must be greater than 0, got 0"),
        (("devices",), [{"node": "n"}], "devices[0] must be an object with an id, got {'node': 'n'}"),
        (("devices", "gpu-0", "node"), "nowhere", "devices.gpu-0.node must be one of n, got 'nowhere'"),
        (("devices", "gpu-0", "memory"), 1, "devices.gpu-0.memory: is no known key"),
        (
            ("devices", "GPU 0"),
            GOOD["devices"]["gpu-0"],
            "devices must be named in lower-case letters, digits and hyphens",
        ),
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
        read_running_fleet(_write(tmp_path, content))
    assert str(error.value).startswith(str(tmp_path / "fleet.yaml"))
    assert says in str(error.value)


@pytest.mark.parametrize("content", ["- a", "{", "", "a: [1"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(FleetFileError, match=r"fleet\.yaml: must be"):
        read_running_fleet(_write(tmp_path, content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FleetFileError, match=r"none\.yaml: No such file"):
        read_running_fleet(tmp_path / "none.yaml")


def served(tmp_path: Path, **keys: Any) -> FleetFile:
    device = {"node": "n", "gpu": "cpu", "engine": "openai", "memory_gb": 4, "kv_tokens": 8192, **keys}
    return read_running_fleet(_write(tmp_path, GOOD | {"devices": {"mine": device}, "groups": {}}))


@pytest.mark.parametrize(
    "url",
    ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/", "http://h:1/v1/chat/completions", " http://h:1 "],
)
def test_an_engines_url_is_taken_as_people_write_it(tmp_path: Path, url: str) -> None:
    assert served(tmp_path, url=url).devices["mine"].engine_url == "http://h:1"


@pytest.mark.parametrize("url", ["", "h:1/v1", "localhost", "ftp://h/", "http://"])
def test_what_is_no_url_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(FleetFileError, match=r"devices\.mine\.url must be the http:// URL of the openai server"):
        served(tmp_path, url=url)


def test_a_key_is_a_file_beside_the_fleet_file_or_a_variable_but_not_both(tmp_path: Path) -> None:
    assert served(tmp_path, url="http://h", key_file="k").devices["mine"].engine_key_file == str(tmp_path / "k")
    with pytest.raises(FleetFileError, match="key_env and key_file exclude each other"):
        served(tmp_path, url="http://h", key_file="k", key_env="K")


def test_what_an_engine_has_is_known_to_the_planner(tmp_path: Path) -> None:
    both = GOOD["models"] | {"other": GOOD["models"]["m"] | {"file": None}}
    mine = {"node": "n", "gpu": "cpu", "engine": "openai", "memory_gb": 4, "kv_tokens": 8192, "url": "http://h"}
    devices = {"own": mine, "some": mine | {"models": ["other"]}, "file": GOOD["devices"]["gpu-0"]}
    file = read_running_fleet(_write(tmp_path, GOOD | {"models": both, "devices": devices, "groups": {}}))
    fleet = file.to_fleet()
    assert {place: fleet.can_hold(place, "other") for place in devices} == {"own": True, "some": True, "file": False}
    assert {place: fleet.can_hold(place, "m") for place in devices} == {"own": True, "some": False, "file": True}
    wrong = _write(tmp_path, GOOD | {"models": both, "devices": {"some": mine | {"models": ["ghost"]}}, "groups": {}})
    with pytest.raises(FleetFileError, match=r"devices\.some\.models must be some of m, other, got 'ghost'"):
        read_running_fleet(wrong)


def test_gateways_read_what_the_supervisor_writes(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sesame")
    file = served(tmp_path, url="http://h:1/v1", key_file="key", models=["m"], load_timeout_s=7200)
    (tmp_path / "fleet.json").write_text(file.model_dump_json())
    settings = read_settings(tmp_path, "mine", {})
    assert (settings.device.engine_url, settings.engine_key(), set(settings.servable_models)) == (
        "http://h:1",
        "sesame",
        {"m"},
    )
    assert settings.device.load_timeout_s == 7200


def test_the_docs_own_engines_make_a_fleet() -> None:
    page = Path(__file__).parents[3] / "docs" / "own-engine.md"
    example = page.read_text(encoding="utf-8").partition("```yaml\n")[2].partition("```")[0]
    fleet = parse_fleet_file(example).to_fleet()
    held = {place: [model for model in fleet.models if fleet.can_hold(place, model)] for place in fleet.places}
    assert held == {"ollama": ["llama3.2:1b"], "vllm": ["Qwen/Qwen3-8B"]}


def test_limits_reach_the_gateways_and_have_known_names(tmp_path: Path) -> None:
    limits = {"body_mb": 16, "upload_mb": 1, "uploads": 2, "queued": 3, "queued_of_one": 4}
    limits |= {"head_s": 5, "body_s": 6, "unread_s": 7}
    fleet_file = read_running_fleet(_write(tmp_path, GOOD | {"limits": limits}))
    (tmp_path / "fleet.json").write_text(fleet_file.model_dump_json())
    read = read_settings(tmp_path, "gpu-0").fleet.limits
    assert read.model_dump() == limits
    with pytest.raises(FleetFileError, match="limits"):
        read_running_fleet(_write(tmp_path, GOOD | {"limits": {"body": 16}}))
