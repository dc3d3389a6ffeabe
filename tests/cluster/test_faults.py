"""What a whole release survives: pods and members that go, gateways that lie, an API server that is away."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
import pytest_asyncio

from tests.cluster.api import MERGE, Api, Object
from tests.cluster.cluster import Cluster
from tests.cluster.conftest import helm_in, new_namespace, server_spec
from tests.cluster.kubelet.services import is_ready
from tests.cluster.release import ENGINES, Release, release, values
from tests.until import until

DAGS = Path(__file__).parents[1] / "integration" / "dags"
CLOCK = Path(__file__).parent / "clock"
REPORT = "fate.airflow/report"
AWAY_S = 120.0
GROUP, LEADER, WORKER = "fate.airflow/group=pair", "pair-0", "pair-1"
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def run(cluster: Cluster, postgres: str) -> AsyncIterator[Release]:
    """One release for all faults: two engines that have ``smol-a`` alone, one with ``smol-c`` whose clock is wrong.

    No pool serves the model ``wide``: a test makes the group that does.
    """
    chosen = values(served=["smol-a"])
    chosen["models"]["wide"] = chosen["models"]["smol-a"] | {"groupSize": 2}
    wrong = [{"name": "PYTHONPATH", "value": str(CLOCK)}, {"name": "CLOCK_OFF_S", "value": "300"}]
    laptop = chosen["pools"]["laptop"]
    chosen["pools"]["wrong"] = laptop | {"models": ["smol-c"], "replicas": 1, "engine": {"env": wrong}}
    async with Api.of(cluster.kubeconfig) as api, new_namespace(api) as namespace:
        helm = helm_in(cluster, namespace)
        async with release(helm, namespace, postgres, chosen, DAGS) as run:
            yield run


async def answering(run: Release, dag: str, run_id: str, selector: str = ENGINES) -> str:
    """The first pod that says it answers, and has a task of the run."""
    path = run.namespace.path("pods")
    async with asyncio.timeout(120), aclosing(run.namespace.api.follow(path, labelSelector=selector)) as events:
        async for event in events:
            for pod in event.items or (event.item,):
                report = json.loads(pod["metadata"].get("annotations", {}).get(REPORT, "{}"))
                name: str = pod["metadata"]["name"]
                if report.get("running") and name in {
                    reservation.shares[0].device for reservation in run.of(dag, run_id)
                }:
                    return name
    raise AssertionError("the watch never ends")


async def whole(run: Release) -> None:
    """Wait until there are two engines again, and both ready; after an outage the controllers take a while."""
    path = run.namespace.path("pods")
    pods: dict[str, Object] = {}
    async with asyncio.timeout(120), aclosing(run.namespace.api.follow(path, labelSelector=ENGINES)) as events:
        async for event in events:
            if event.kind == "SYNCED":
                pods = {pod["metadata"]["name"]: pod for pod in event.items}
            elif event.kind == "DELETED":
                pods.pop(event.item["metadata"]["name"], None)
            else:
                pods[event.item["metadata"]["name"]] = event.item
            if [is_ready(pod) and "deletionTimestamp" not in pod["metadata"] for pod in pods.values()] == [True, True]:
                return


async def test_a_pod_that_is_deleted_ends_what_it_answers(run: Release) -> None:
    run_id = await run.trigger("short_answers")
    pod = await answering(run, "short_answers", run_id)
    await run.namespace.delete(pod)
    state, reservations = await run.ended("short_answers", run_id)
    assert state == "success"
    assert {reservation.try_number for reservation in reservations} == {1}
    assert pod in {share.device for reservation in reservations for share in reservation.shares}
    await run.namespace.gone(pod)
    await whole(run)


async def test_a_pod_that_dies_costs_a_try_and_not_the_run(run: Release) -> None:
    run_id = await run.trigger("slow_answers")
    pod = await answering(run, "slow_answers", run_id)
    await run.namespace.api.delete(f"{run.namespace.path('pods')}/{pod}", {"gracePeriodSeconds": 0})
    state, reservations = await run.ended("slow_answers", run_id)
    assert state == "success"
    assert {reservation.outcome for reservation in reservations if reservation.shares[0].device == pod} & {
        "up_for_retry",
        "replaced",
    }
    assert run.ledger.audit() == {}
    await whole(run)


async def test_a_group_that_loses_a_member_costs_a_try_and_serves_again_when_it_is_whole(run: Release) -> None:
    await make_leader(run)
    await make_worker(run)
    run_id = await run.trigger("wide_model")
    assert await answering(run, "wide_model", run_id, GROUP) == LEADER
    await run.namespace.api.delete(f"{run.namespace.path('pods')}/{WORKER}", {"gracePeriodSeconds": 0})
    await asyncio.to_thread(until, lambda: run.of("wide_model", run_id)[0].ended_at is not None)
    assert "its group has lost a member" in run.api.task_log("wide_model", run_id, "ask")
    await make_worker(run)
    state, (lost, whole) = await run.ended("wide_model", run_id)
    assert (state, whole.outcome, lost.try_number, whole.try_number) == ("success", "success", 1, 2)
    assert [[share.device for share in reservation.shares] for reservation in (lost, whole)] == [[LEADER, WORKER]] * 2
    assert run.ledger.audit() == {}


async def make_leader(run: Release) -> None:
    """A gateway as the pool's, for a model that takes two pods."""
    maps = run.namespace.path("configmaps")
    fleet = json.loads((await run.namespace.api.get(f"{maps}/r-fate-pool-laptop"))["data"]["fleet.json"])
    fleet["models"] = {"wide": fleet["models"]["smol-a"] | {"group_size": 2}}
    await run.namespace.create("configmaps", {"metadata": {"name": LEADER}, "data": {"fleet.json": json.dumps(fleet)}})
    like = (await run.engines())[0]
    spec = {key: value for key, value in like["spec"].items() if key != "nodeName"}
    for volume in spec["volumes"]:
        if volume["name"] == "fleet":
            volume["configMap"]["name"] = LEADER
    await run.namespace.create("pods", {"metadata": member_of_group(like, LEADER, 0), "spec": spec})
    await run.namespace.ready(LEADER)


async def make_worker(run: Release) -> None:
    """It has no gateway; as far as anybody sees, its part of the model runs."""
    like = (await run.engines())[0]
    spec = server_spec(serviceAccountName=like["spec"]["serviceAccountName"])
    await run.namespace.create("pods", {"metadata": member_of_group(like, WORKER, 1), "spec": spec})
    await run.namespace.ready(WORKER)


def member_of_group(like: Object, name: str, index: int) -> Object:
    """Metadata of a pod that the scheduler looks at, and no pool."""
    instance = "app.kubernetes.io/instance"
    key, _, group = GROUP.partition("=")
    labels = {instance: like["metadata"]["labels"][instance], "fate-pool": group}
    labels |= {key: group, f"{key}-index": str(index), f"{key}-size": "2"}
    return {"name": name, "labels": labels}


async def test_a_clock_that_is_wrong_by_minutes_does_no_harm(run: Release) -> None:
    run_id = await run.trigger("third_model")
    state, reservations = await run.ended("third_model", run_id)
    assert state == "success"
    # What it remembers is not too old, nor from the future, to be found again.
    assert sum(fact["cached_tokens"] for reservation in reservations for fact in reservation.facts) > 20


async def test_a_report_edited_by_hand_costs_a_device_its_tasks_and_no_run(run: Release) -> None:
    edited = (await run.engines())[0]["metadata"]["name"]
    nonsense = {"annotations": {REPORT: "nonsense"}, "labels": {"fate.airflow/model.smol-a": "gone"}}
    await run.namespace.api.patch(f"{run.namespace.path('pods')}/{edited}", {"metadata": nonsense}, MERGE)
    run_id = await run.trigger("shared_document", document="The plane leaves at dawn. " * 30)
    state, reservations = await run.ended("shared_document", run_id)
    assert state == "success"
    assert edited not in {share.device for reservation in reservations for share in reservation.shares}
    # Its gateway says again what is so with its next sign of life, in two minutes at most; another pod is sooner.
    await run.namespace.delete(edited)
    await run.namespace.gone(edited)
    await whole(run)


async def test_a_device_that_lies_gets_one_task_and_then_none(run: Release) -> None:
    # Whoever may patch pods can make one say what isn't so, until its gateway says something again.
    liar = (await run.engines())[0]["metadata"]["name"]
    await patch_report(run, liar, serves=["smol-a", "smol-b"])
    run_id = await run.trigger("other_model")
    state, (failed,) = await run.ended("other_model", run_id)
    assert (state, failed.shares[0].device) == ("failed", liar)
    said = run.api.task_log("other_model", run_id, "ask")
    assert "model 'smol-b' is unknown here; known models: smol-a" in said
    run_id = await run.trigger("shared_document", document="The boat leaves at dusk. " * 30)
    state, reservations = await run.ended("shared_document", run_id)
    assert state == "success"
    assert liar not in {share.device for reservation in reservations for share in reservation.shares}


# The last one: the cluster's own parts take a minute to recover from it.
async def test_without_the_api_server_tasks_are_placed_by_what_was_known(run: Release, cluster: Cluster) -> None:
    cluster.stop_part("kube-apiserver")
    back_s = time.monotonic() + AWAY_S
    try:
        while True:
            run_id = await run.trigger("shared_document", document=f"The train leaves at {back_s:.0f}. " * 30)
            state, reservations = await run.ended("shared_document", run_id)
            assert (state, len(reservations)) == ("success", 4)
            assert run.ledger.audit() == {}
            if time.monotonic() > back_s:
                break
    finally:
        cluster.start_part("kube-apiserver")
        cluster.wait_for_api()
    await whole(run)


async def patch_report(run: Release, name: str, **fields: object) -> None:
    path = f"{run.namespace.path('pods')}/{name}"
    pod: Object = await run.namespace.api.get(path)
    report = json.loads(pod["metadata"]["annotations"][REPORT]) | fields
    await run.namespace.api.patch(path, {"metadata": {"annotations": {REPORT: json.dumps(report)}}}, MERGE)
