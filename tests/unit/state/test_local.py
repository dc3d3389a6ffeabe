from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_fate.messages import DeviceReport
from airflow_fate.messages.labels import encode
from airflow_fate.state.fleetschema import FleetFile
from airflow_fate.state.local import LocalFleet


def _fleet_file(count: int) -> FleetFile:
    device = {"node": "n", "gpu": "cpu", "engine": "simulated", "memory_gb": 1, "kv_tokens": 100}
    model = {
        "weights_gb": 1,
        "load_gb_per_s": {"disk": 1, "host": 2},
        "prefill_tps": {"cpu": 100},
        "decode_tps": {"cpu": 10},
    }
    return FleetFile.model_validate(
        {"models": {"m": model}, "nodes": {"n": {}}, "devices": {f"gpu-{i}": device for i in range(count)}}
    )


def _pod(device: str, **report: Any) -> dict[str, Any]:
    fixed = {"gpu": "cpu", "memory_bytes": 1e9, "kv_tokens": 1, "max_seqs": 1, "engine": "e", "gateway_started": 1.0}
    labels, annotations = encode(DeviceReport.model_validate(fixed | {"device": device} | report))
    return {
        "metadata": {"name": device, "labels": labels, "annotations": annotations},
        "spec": {"containers": [{"ports": [{"containerPort": 8000}]}]},
        "status": {"podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    }


def _write(folder: Path, name: str, content: str) -> None:
    draft = folder / "pods" / f".{name}"
    draft.parent.mkdir(exist_ok=True)
    draft.write_text(content)
    os.replace(draft, folder / "pods" / f"{name}.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "fleet.json").write_text(_fleet_file(2).model_dump_json())
    return tmp_path


def test_before_a_fleet_exists_there_is_an_empty_one(tmp_path: Path) -> None:
    source = LocalFleet(tmp_path / "nowhere")
    source.start()
    assert source.snapshot().fleet.places == ()
    source.stop()


def test_a_device_that_reports_is_usable(folder: Path) -> None:
    _write(folder, "gpu-0", json.dumps(_pod("gpu-0", prefixes=[["a" * 16, 7, 1.0, "m"]])))
    view = LocalFleet(folder).snapshot()
    assert list(view.fleet.devices) == ["gpu-0", "gpu-1"]
    assert view.reports["gpu-0"].prefixes == (("a" * 16, 7, 1.0, "m"),)
    assert view.urls == {"gpu-0": "http://127.0.0.1:8000"}
    assert view.usable == {"gpu-0": True}


def test_silence_drain_and_removal_make_it_unusable(folder: Path) -> None:
    now_s = [time.time()]
    source = LocalFleet(folder, clock=lambda: now_s[0])
    _write(folder, "gpu-0", json.dumps(_pod("gpu-0")))
    assert source.snapshot().usable["gpu-0"]
    now_s[0] += 11
    view = source.snapshot()
    assert not view.usable["gpu-0"]
    assert view.seen_age_s["gpu-0"] > 10
    now_s[0] -= 11
    _write(folder, "gpu-0", json.dumps(_pod("gpu-0", draining=True)))
    assert not source.snapshot().usable["gpu-0"]
    (folder / "pods" / "gpu-0.json").unlink()
    assert source.snapshot().reports == {}


def test_the_version_only_grows_when_something_changed(folder: Path) -> None:
    source = LocalFleet(folder)
    content = json.dumps(_pod("gpu-0"))
    _write(folder, "gpu-0", content)
    first = source.snapshot().version
    _write(folder, "gpu-0", content)
    assert source.snapshot().version == first, "a heartbeat isn't a change"
    _write(folder, "gpu-0", json.dumps(_pod("gpu-0", queued=3)))
    assert source.snapshot().version > first


@pytest.mark.parametrize(
    "spoil",
    [
        lambda pod: pod["status"].update(podIP="10.0.0.7"),
        lambda pod: pod["status"].update(podIP="not an address"),
        lambda pod: pod["spec"]["containers"].clear(),
        lambda pod: pod["metadata"].update(name="gpu-1"),
        lambda pod: pod.pop("metadata"),
        lambda pod: pod["spec"]["containers"][0]["ports"][0].update(containerPort=99999),
    ],
)
def test_what_makes_no_sense_is_ignored_with_one_warning(
    folder: Path, spoil: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pod = _pod("gpu-0")
    spoil(pod)
    _write(folder, "gpu-0", json.dumps(pod))
    source = LocalFleet(folder)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert source.snapshot().reports == {}
    assert len(caplog.records) == 1


def test_strangers_and_drafts_are_ignored(folder: Path) -> None:
    _write(folder, "gpu-9", json.dumps(_pod("gpu-9")))
    (folder / "pods" / ".gpu-0.json").write_text("{")
    (folder / "pods" / "notes.txt").write_text("hello")
    assert LocalFleet(folder).snapshot().reports == {}


def test_a_broken_fleet_file_keeps_the_last_good_one(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = LocalFleet(folder)
    source.snapshot()
    (folder / "fleet.json").write_text('{"devices": 3}')
    assert list(source.snapshot().fleet.devices) == ["gpu-0", "gpu-1"]
    assert "devices" in caplog.text


def test_asking_again_is_cheap(tmp_path: Path) -> None:
    (tmp_path / "fleet.json").write_text(_fleet_file(200).model_dump_json())
    for number in range(200):
        prefixes = [[f"{link:016x}", 64, 1.0, "m"] for link in range(50)]
        _write(tmp_path, f"gpu-{number}", json.dumps(_pod(f"gpu-{number}", prefixes=prefixes)))
    source = LocalFleet(tmp_path)
    source.snapshot()
    durations_s = []
    for _ in range(10):
        started_s = time.perf_counter()
        assert len(source.snapshot().usable) == 200
        durations_s.append(time.perf_counter() - started_s)
    assert min(durations_s) < 0.010
