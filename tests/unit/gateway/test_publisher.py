from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from airflow_fate.gateway.report.publisher import PodFile, Publisher, Schedule
from airflow_fate.messages import DeviceReport
from airflow_fate.messages.labels import decode
from tests.unit.gateway.helpers import Bench


class _Pod:
    def __init__(self) -> None:
        self.written = 0
        self.removed = False

    async def write(self, report: DeviceReport) -> None:
        self.written += 1

    async def remove(self) -> None:
        self.removed = True


def test_at_once_but_not_twice_within_the_interval() -> None:
    schedule = Schedule(interval_s=2.0, heartbeat_s=10.0)
    assert schedule.due_in_s(100.0) == 0
    schedule.written(100.0)
    assert schedule.due_in_s(100.5) == 9.5
    schedule.changed()
    assert schedule.due_in_s(100.5) == 1.5
    schedule.written(102.0)
    schedule.changed()
    assert schedule.due_in_s(110.0) == 0


async def test_a_burst_of_changes_is_one_write(bench: Bench) -> None:
    pod, now_s = _Pod(), [0.0]
    publisher = Publisher(pod, bench.gateway.report, interval_s=1.0, heartbeat_s=10.0, clock=lambda: now_s[0])
    assert await publisher.tick() == 10.0
    for _ in range(50):
        now_s[0] += 0.01
        publisher.changed()
        await publisher.tick()
    assert pod.written == 1
    now_s[0] = 1.0
    await publisher.tick()
    assert pod.written == 2


async def test_what_changes_during_a_write_is_written_too(bench: Bench) -> None:
    now_s = [0.0]

    class SlowPod(_Pod):
        async def write(self, report: DeviceReport) -> None:
            await super().write(report)
            publisher.changed()

    pod = SlowPod()
    publisher = Publisher(pod, bench.gateway.report, interval_s=2.0, heartbeat_s=100.0, clock=lambda: now_s[0])
    assert await publisher.tick() == 2.0
    now_s[0] = 2.0
    await publisher.tick()
    assert pod.written == 2


async def test_a_write_that_failed_is_tried_again_soon_and_said_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    now_s = [0.0]

    class FullDisk(_Pod):
        async def write(self, report: DeviceReport) -> None:
            await super().write(report)
            raise OSError("no space left")

    pod = FullDisk()
    publisher = Publisher(pod, bench.gateway.report, interval_s=2.0, heartbeat_s=100.0, clock=lambda: now_s[0])
    for now_s[0] in (0.0, 2.0, 4.0):
        assert await publisher.tick() == 2.0
    assert pod.written == 3
    assert caplog.text.count("no space left") == 1


async def test_the_pod_is_withdrawn_in_the_end(bench: Bench) -> None:
    pod = _Pod()
    publisher = Publisher(pod, bench.gateway.report)
    task = asyncio.create_task(publisher.run())
    while not pod.written:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert pod.removed


async def test_the_file_looks_like_a_pod(bench: Bench, tmp_path: Path) -> None:
    file = PodFile(tmp_path / "pods", "gpu-0", "laptop", 1234)
    await file.write(bench.gateway.report())
    pod = json.loads(file.path.read_text())
    assert decode(pod["metadata"]["labels"], pod["metadata"]["annotations"]) == bench.gateway.report()
    assert (pod["spec"]["nodeName"], pod["status"]["podIP"]) == ("laptop", "127.0.0.1")
    assert [path.name for path in (tmp_path / "pods").iterdir()] == ["gpu-0.json"], "no drafts are left"
    await file.remove()
    assert not file.path.exists()
