"""What does the heartbeat see of a cluster, and what while there is trouble?"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from airflow_fate.messages.labels import encode
from airflow_fate.state.kubernetes.cache import Timing
from airflow_fate.state.kubernetes.source import KubernetesFleet, Where
from airflow_fate.state.source import FleetView
from tests.unit.state.kubernetes.objects import node, pod, report
from tests.unit.state.kubernetes.server import Answer, FakeServer, listing, refused, serving, versioned, watched

PODS, NODES = "/api/v1/namespaces/here/pods", "/api/v1/nodes"
QUICK = Timing(watch_s=30, silence_s=10, relist_s=60, pause_s=0.01, longest_pause_s=0.05)
SECTION = {
    "models": {
        "m": {
            "weights_gb": 1,
            "load_gb_per_s": {"disk": 1, "host": 2},
            "prefill_tps": {"L40S": 100},
            "decode_tps": {"L40S": 10},
        }
    }
}


@asynccontextmanager
async def watching(
    folder: Path, fake: FakeServer, clock: Callable[[], float] = time.monotonic, timing: Timing = QUICK, pool: str = ""
) -> AsyncIterator[KubernetesFleet]:
    models = folder / "models.yaml"
    models.write_text(yaml.safe_dump(SECTION))
    async with serving(fake):
        kubeconfig = folder / "kubeconfig"
        content = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "here"}}],
            "clusters": [{"name": "k", "cluster": {"server": fake.url}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
        }
        kubeconfig.write_text(yaml.safe_dump(content))
        where = Where(models, "fate.airflow/device", 8475, kubeconfig=kubeconfig, inference_pool=pool)
        source = KubernetesFleet(where, 300.0, timing, clock)
        source.start()
        try:
            yield source
        finally:
            await asyncio.to_thread(source.stop)


async def seen(source: KubernetesFleet, holds: Callable[[FleetView], bool]) -> FleetView:
    """The first view of which ``holds`` is true; there is no event to wait for, as there is none for the heartbeat."""
    async with asyncio.timeout(10):
        while not holds(view := source.snapshot()):
            await asyncio.sleep(0.01)
        return view


def fake(pods: list[Answer], watches: list[Answer], nodes: Answer | None = None) -> FakeServer:
    return FakeServer({PODS: pods, NODES: [nodes or listing(node())]}, {PODS: watches, NODES: [watched(hang=True)]})


async def test_pods_and_nodes_become_the_fleet(tmp_path: Path) -> None:
    server = fake([listing(pod("a"), pod("b", address="10.0.0.2"))], [watched(hang=True)])
    async with watching(tmp_path, server) as source:
        assert source.snapshot().fleet.places == ()
        view = await seen(source, lambda view: len(view.fleet.places) == 2)
    assert view.usable == {"a": True, "b": True}
    assert view.urls["b"] == "http://10.0.0.2:8475"
    assert view.fleet.can_hold("a", "m")
    assert view.reports["a"] == report("a")


async def test_a_pod_that_dies_and_one_that_changes(tmp_path: Path) -> None:
    changed = versioned(pod("b", queued=7), "3")
    events = watched(("DELETED", versioned(pod("a"), "2")), ("MODIFIED", changed), hang=True)
    async with watching(tmp_path, fake([listing(pod("a"), pod("b"))], [events])) as source:
        view = await seen(source, lambda view: list(view.fleet.devices) == ["b"] and view.reports["b"].queued == 7)
    assert view.usable == {"b": True}


async def test_without_the_right_to_see_nodes_a_pods_own_readiness_must_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = fake([listing(pod("a"))], [watched(hang=True)], nodes=refused(403, "nodes is forbidden"))
    async with watching(tmp_path, server) as source:
        view = await seen(source, lambda view: bool(view.usable))
    assert view.usable == {"a": True}
    assert caplog.text.count("nodes is forbidden") == 1


async def test_while_the_server_is_away_the_last_state_ages_until_nobody_plans_on_it(tmp_path: Path) -> None:
    now_s = [1000.0]
    server = fake([listing(pod("a")), refused(503)], [watched()])
    async with watching(tmp_path, server, lambda: now_s[0]) as source:
        await seen(source, lambda view: bool(view.usable))
        await server.until(lambda: len(server.asked) > 6)
        now_s[0] += 120
        view = source.snapshot()
        assert (view.usable, view.seen_age_s) == ({"a": True}, {"a": 120.0})
        now_s[0] += 181
        later = source.snapshot()
        assert later.usable == {"a": False}
        assert later.version > view.version


async def test_a_heartbeat_is_a_sign_of_life_and_no_change(tmp_path: Path) -> None:
    now_s = [1000.0]
    alive = versioned(pod("a"), "2")
    alive["metadata"]["annotations"]["fate.airflow/heartbeat"] = "2"
    go = asyncio.Event()

    async def answer(writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await watched(("MODIFIED", alive), hang=True)(writer)

    async with watching(tmp_path, fake([listing(pod("a"))], [answer]), lambda: now_s[0]) as source:
        first = await seen(source, lambda view: bool(view.usable))
        now_s[0] += 100
        assert source.snapshot().seen_age_s == {"a": 100.0}
        go.set()
        view = await seen(source, lambda view: view.seen_age_s == {"a": 0.0})
    assert view.version == first.version
    assert view.fleet is first.fleet


async def test_a_foreign_pod_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    foreign = pod("a")
    foreign["metadata"]["labels"], foreign["metadata"]["annotations"] = encode(report("other"))
    again = [("MODIFIED", versioned(foreign, str(number))) for number in range(2, 6)]
    last = ("ADDED", versioned(pod("b"), "9"))
    async with watching(tmp_path, fake([listing(foreign)], [watched(*again, last, hang=True)])) as source:
        view = await seen(source, lambda view: bool(view.usable))
    assert view.usable == {"b": True}
    assert caplog.text.count("pod a ignored") == 1


async def test_models_come_from_a_file_that_may_change_and_a_broken_one_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with watching(tmp_path, fake([listing(pod("a"))], [watched(hang=True)])) as source:
        await seen(source, lambda view: "m" in view.fleet.models)
        models = tmp_path / "models.yaml"
        for content in ("models: 3", yaml.safe_dump({"models": SECTION["models"] | {"n": SECTION["models"]["m"]}})):
            draft = tmp_path / "draft"
            draft.write_text(content)
            os.replace(draft, models)
            if content == "models: 3":
                async with asyncio.timeout(10):
                    while "models_file" not in caplog.text:
                        await asyncio.sleep(0.01)
                assert "m" in source.snapshot().fleet.models
        await seen(source, lambda view: "n" in view.fleet.models)
    assert caplog.text.count("models_file") == 1


async def test_speeds_that_nobody_lists_are_said_once_in_both_spellings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = pod("a", gpus={"nvidia.com/gpu": "1"}, gpu="A100", serves=("m",))
    more = pod("b", gpus={"nvidia.com/gpu": "1"}, gpu="A100", serves=("m",))
    server = fake(
        [listing(first)],
        [watched(("ADDED", versioned(more, "2")), hang=True)],
        nodes=listing(node(gpu_product="NVIDIA-A100-SXM4-80GB")),
    )
    async with watching(tmp_path, server) as source:
        await seen(source, lambda view: len(view.fleet.devices) == 2)
    said = "m has no speeds for NVIDIA-A100-SXM4-80GB (A100 to its gateway); those known are for L40S"
    assert caplog.text.count(said) == 1


async def test_without_credentials_it_waits_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    source = KubernetesFleet(Where(tmp_path / "none.yaml", "", 1), 300.0)
    source.start()
    async with asyncio.timeout(10):
        while "KUBERNETES_SERVICE_HOST is not set" not in caplog.text:
            await asyncio.sleep(0.01)
    assert source.snapshot().fleet.places == ()
    await asyncio.to_thread(source.stop)
    assert not source._thread or not source._thread.is_alive()
