"""What an InferencePool chooses, and what the fleet is while it changes or can't be read."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_fate.state.kubernetes.pool import VERSIONS, Chosen, read_pool
from tests.unit.state.kubernetes.objects import node, pod
from tests.unit.state.kubernetes.server import FakeServer, listing, refused, single, watched
from tests.unit.state.kubernetes.test_source import NODES, PODS, QUICK, seen, watching

NEW, OLD = (f"/apis/{version}/namespaces/here/inferencepools/llama" for version in VERSIONS)


def pool(label: str = "llama", port: int = 9000) -> dict[str, Any]:
    return {"spec": {"selector": {"matchLabels": {"app": label}}, "targetPorts": [{"number": port}]}}


@pytest.mark.parametrize(
    ("spec", "chosen"),
    [
        (
            {"selector": {"matchLabels": {"b": "2", "a": "1"}}, "targetPorts": [{"number": 80}, {"number": 81}]},
            Chosen("a=1,b=2", 80),
        ),
        ({"selector": {"app": "x"}, "targetPortNumber": 8000}, Chosen("app=x", 8000)),
    ],
    ids=["v1", "v1alpha2"],
)
def test_both_versions_say_pods_and_port(spec: dict[str, Any], chosen: Chosen) -> None:
    assert read_pool({"spec": spec}) == chosen


@pytest.mark.parametrize("spec", [{}, {"selector": {"app": "x"}}, {"targetPortNumber": 8000}, {"selector": {}}])
def test_a_pool_that_chooses_nothing_is_an_error(spec: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="targetPorts"):
        read_pool({"spec": spec})


async def test_a_pools_pods_are_the_fleet_also_when_it_chooses_others(tmp_path: Path) -> None:
    lists = {
        NEW: [refused(403), single(pool())],
        PODS: [listing(pod("a"))],
        NODES: [listing(node())],
    }
    fake = FakeServer(lists, {PODS: [watched(hang=True)], NODES: [watched(hang=True)]})
    async with watching(tmp_path, fake, timing=replace(QUICK, relist_s=0.05), pool="llama") as source:
        view = await seen(source, lambda view: "a" in view.urls)
        assert view.urls["a"].endswith(":9000")
        await fake.until(lambda: {"labelSelector": "app=llama", "limit": "500"} in fake.queries(watch=False))
        fake.lists[NEW] = [single(pool(port=9001))]
        await seen(source, lambda view: view.urls["a"].endswith(":9001"))


async def test_an_older_cluster_has_it_under_the_older_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old = {"spec": {"selector": {"app": "llama"}, "targetPortNumber": 9000}}
    lists = {NEW: [refused(404)], OLD: [single(old)], PODS: [listing(pod("a"))], NODES: [listing(node())]}
    fake = FakeServer(lists, {PODS: [watched(hang=True)], NODES: [watched(hang=True)]})
    with caplog.at_level(logging.WARNING):
        async with watching(tmp_path, fake, pool="llama") as source:
            await seen(source, lambda view: "a" in view.urls)
    assert caplog.messages == []
