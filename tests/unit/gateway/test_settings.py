"""What a gateway reads when it starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_fate.gateway.process import build_gateway
from airflow_fate.gateway.settings import SERVED, GatewaySettings, LimitSettings, SettingsError, read_settings

DEVICE = {
    "gpu": "any",
    "engine": "simulated",
    "memory_gb": 1,
    "kv_tokens": 1,
    "max_seqs": 1,
    "context_tokens": 4096,
    "cache_ram_mib": 0,
    "threads": 1,
}


def write(
    folder: Path, device: str, node: str, models: dict[str, object] | None = None, drain_s: float = 1, **more: object
) -> None:
    fleet = {
        "models": models or {},
        "nodes": {node: {"host_gb": 2}},
        "devices": {device: {**DEVICE, "node": node, **more}},
        "artifacts_gb": 1,
        "label_prefix": "fate.airflow",
        "drain_s": drain_s,
    }
    (folder / "fleet.json").write_text(json.dumps(fleet))


def test_one_file_is_good_for_all_pods_of_a_pool(tmp_path: Path) -> None:
    write(tmp_path, "$(POD_NAME)", "$(NODE_NAME)")
    settings = read_settings(tmp_path, "llama-x7", {"POD_NAME": "llama-x7", "NODE_NAME": 'gpu-"1"'})
    assert settings.device.node == 'gpu-"1"'
    assert settings.host_bytes == 2e9


@pytest.mark.parametrize(("engine", "served"), [("simulated", {"both"}), ("vllm", {"both", "half", "none"})])
def test_only_a_simulated_engine_needs_speeds_to_serve(tmp_path: Path, engine: str, served: set[str]) -> None:
    some, none = {"any": 1}, {"NVIDIA-L40S": 1}
    models: dict[str, object] = {
        name: {"weights_gb": 1, "load_gb_per_s": {"disk": 1, "host": 1}, "prefill_tps": prefill, "decode_tps": decode}
        for name, prefill, decode in (("both", some, some), ("half", some, none), ("none", none, none))
    }
    write(tmp_path, "gpu-0", "laptop", models)
    fleet = json.loads((tmp_path / "fleet.json").read_text())
    fleet["devices"]["gpu-0"] |= {"engine": engine, "engine_url": "http://127.0.0.1:1"}
    (tmp_path / "fleet.json").write_text(json.dumps(fleet))
    assert set(read_settings(tmp_path, "gpu-0").servable_models) == served


def test_what_the_environment_does_not_hold_is_named_in_the_error(tmp_path: Path) -> None:
    write(tmp_path, "$(POD_NAME)", "gpu-1")
    with pytest.raises(SettingsError, match=r"no device 'llama-x7'; it has \$\(POD_NAME\)"):
        read_settings(tmp_path, "llama-x7", {})


def served(folder: Path, **more: Any) -> GatewaySettings:
    write(folder, "d", "n", **{"engine": "vllm", "engine_url": "http://engine:8000", **more})
    return read_settings(folder, "d", {"ENGINE_KEY": "from the environment", "EMPTY": ""})


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
def test_an_engines_url_is_taken_as_people_write_it(tmp_path: Path, path: str) -> None:
    assert served(tmp_path, engine_url=f"http://engine:8000{path}").device.engine_url == "http://engine:8000"
    settings = served(tmp_path, engine_url=f"https://proxy/llm{path}")
    assert settings.device.engine_url == "https://proxy/llm"


def test_an_engines_key_is_read_when_it_is_needed(tmp_path: Path) -> None:
    assert served(tmp_path).engine_key() == ""
    assert served(tmp_path, engine_key_env="ENGINE_KEY").engine_key() == "from the environment"
    file = tmp_path / "key"
    file.write_text("first\n")
    settings = served(tmp_path, engine_key_file=str(file))
    assert settings.engine_key() == "first"
    file.write_text("second\n")
    assert settings.engine_key() == "second"
    file.unlink()
    assert settings.engine_key() == ""


@pytest.mark.parametrize(
    "more",
    [
        {"engine_key_file": "/nowhere/key"},
        {"engine_key_env": "EMPTY"},
        {"engine_key_env": "MISSING"},
        {"engine_key_env": "ENGINE_KEY", "engine_key_file": "/nowhere/key"},
        {"engine_key_env": "ENGINE_KEY", "engine": "simulated"},
    ],
)
def test_a_key_that_can_not_be_had_is_named_at_once(tmp_path: Path, more: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="engine_key"):
        served(tmp_path, **more)


@pytest.mark.parametrize(
    ("engine", "usual_s"), [("llamacpp", 300.0), ("vllm-managed", 1800.0), ("vllm", 1800.0), ("openai", 1800.0)]
)
def test_a_load_may_take_as_long_as_its_device_says(tmp_path: Path, engine: str, usual_s: float) -> None:
    url = "http://engine:8000" if engine in SERVED else ""
    engines = [
        build_gateway(served(tmp_path, engine=engine, engine_url=url, **more)).engine
        for more in ({}, {"load_timeout_s": 7200})
    ]
    assert [vars(driver)["_load_timeout_s"] for driver in engines] == [usual_s, 7200.0]
    with pytest.raises(SettingsError, match="load_timeout_s"):
        served(tmp_path, engine=engine, engine_url=url, load_timeout_s=0)


def test_limits_are_the_folders_or_usual_ones(tmp_path: Path) -> None:
    write(tmp_path, "gpu-0", "laptop")
    assert read_settings(tmp_path, "gpu-0").fleet.limits == LimitSettings()
    fleet = json.loads((tmp_path / "fleet.json").read_text())
    (tmp_path / "fleet.json").write_text(json.dumps(fleet | {"limits": {"body_mb": 20, "queued": 5}}))
    limits = read_settings(tmp_path, "gpu-0").fleet.limits
    assert (limits.body_bytes, limits.queued, limits.head_s) == (20_000_000, 5, LimitSettings().head_s)
    (tmp_path / "fleet.json").write_text(json.dumps(fleet | {"limits": {"body_mb": 0}}))
    with pytest.raises(SettingsError, match=r"limits\.body_mb"):
        read_settings(tmp_path, "gpu-0")
