"""Which fleet do pods and nodes make?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_fate.cluster import without_speeds
from airflow_fate.executor.planning.snapshot import cluster_state
from airflow_fate.state.kubernetes.fleet import Assembly, assemble
from airflow_fate.state.kubernetes.nodes import read_node
from airflow_fate.state.kubernetes.pods import Ignored, read_pod
from airflow_fate.state.source import FleetView
from tests.unit.state.kubernetes.objects import GIB, MODEL, Object, node, pod

PREFIX = "fate.airflow"
LWS = "leaderworkerset.sigs.k8s.io"


def fleet_of(pods: list[Object], nodes: list[Object] | None = None) -> Assembly:
    read = [read_pod(item, PREFIX, 8475) for item in pods]
    known = {item["metadata"]["name"]: read_node(item, PREFIX) for item in (nodes if nodes is not None else [node()])}
    return assemble([item for item in read if item], known, {"m": MODEL})


def lws(name: str, index: int, size: int = 2, reported: bool = True) -> Object:
    engine_pod = pod(name)
    if not reported:
        engine_pod["metadata"].update(labels={}, annotations={})
    engine_pod["metadata"]["labels"] |= {
        f"{LWS}/name": "big",
        f"{LWS}/group-index": "0",
        f"{LWS}/worker-index": str(index),
    }
    engine_pod["metadata"]["annotations"][f"{LWS}/size"] = str(size)
    return engine_pod


def test_hardware_comes_from_the_node_and_the_address_from_the_pod() -> None:
    engine_pod = pod("a", address="fd00::7", gpus={"nvidia.com/gpu": "2", "cpu": "500m"})
    engine_pod["metadata"]["labels"]["address"] = "6.6.6.6"
    assembly = fleet_of([engine_pod], [node(gpu_product="NVIDIA-L40S", gpu_memory="46068", gpu_replicas="1")])
    device = assembly.fleet.devices["a"]
    assert (device.gpu, device.memory_bytes, device.max_seqs) == ("NVIDIA-L40S", 2 * 46068 * 2**20, 2)
    assert assembly.fleet.nodes["node-1"].zone == "zone-a"
    assert assembly.urls == {"a": "http://[fd00::7]:8475"}
    assert assembly.healthy == {"a": True}


def test_a_gateway_may_use_less_than_the_hardware_has() -> None:
    engine_pod = pod("a", gpus={"nvidia.com/gpu": "1"}, memory_bytes=20 * GIB)
    assembly = fleet_of([engine_pod], [node(gpu_product="NVIDIA-L40S", gpu_memory="46068")])
    assert assembly.fleet.devices["a"].memory_bytes == 20 * GIB


@pytest.mark.parametrize(
    ("labels", "resource", "gpu", "mib"),
    [
        ({"gpu_product": "A100-MIG-1g.10gb", "gpu_memory": "9728"}, "gpu", "A100-MIG-1g.10gb", 9728),
        (
            {"gpu_product": "A100", "gpu_memory": "81920", "mig-2g.20gb.product": "A100-MIG-2g.20gb"}
            | {"mig-2g.20gb.memory": "19968"},
            "mig-2g.20gb",
            "A100-MIG-2g.20gb",
            19968,
        ),
        ({"gpu_product": "T4-SHARED", "gpu_memory": "15360", "gpu_replicas": "4"}, "gpu", "T4-SHARED", 3840),
        ({"gpu_product": "T4", "gpu_memory": "15360", "gpu_replicas": "4"}, "gpu.shared", "T4", 3840),
        ({"gpu_product": "T4", "gpu_memory": "15360", "gpu_replicas": "0"}, "gpu", "T4", 15360),
    ],
    ids=["mig single", "mig mixed", "time slicing", "time slicing, renamed", "sharing off"],
)
def test_slices_and_shares_are_as_big_as_they_are(labels: dict[str, str], resource: str, gpu: str, mib: int) -> None:
    engine_pod = pod("a", gpus={f"nvidia.com/{resource}": "1"})
    machine = node()
    machine["metadata"]["labels"] |= {f"nvidia.com/{key.replace('gpu_', 'gpu.')}": text for key, text in labels.items()}
    device = fleet_of([engine_pod], [machine]).fleet.devices["a"]
    assert (device.gpu, device.memory_bytes) == (gpu, mib * 2**20)


@pytest.mark.parametrize(
    ("label", "said", "gpu"),
    [
        ("NVIDIA-L40S", "L40S", "NVIDIA-L40S"),
        ("NVIDIA-L40S-SHARED", "NVIDIA-L40S", "NVIDIA-L40S"),
        ("NVIDIA-H200", "any", "NVIDIA-H200"),
    ],
    ids=["the label's", "the gateway's", "nobody's"],
)
def test_a_gpu_has_the_name_by_which_models_list_speeds(label: str, said: str, gpu: str) -> None:
    engine_pod = pod("a", gpus={"nvidia.com/gpu": "1"}, gpu=said, serves=("m",))
    assembly = fleet_of([engine_pod], [node(gpu_product=label, gpu_memory="46068")]).fleet
    assert (assembly.devices["a"].gpu, assembly.devices["a"].memory_bytes) == (gpu, 46068 * 2**20)
    assert assembly.can_hold("a", "m") == (gpu == "NVIDIA-L40S")


def test_only_the_speeds_of_what_a_device_serves_choose_its_gpus_name() -> None:
    """Another model may have been measured elsewhere, under another spelling."""
    other = replace(MODEL, name="o", prefill_tps={"A100": 9.0}, decode_tps={"A100": 9.0})
    half = replace(MODEL, name="h", prefill_tps={"A100-PCIE": 9.0}, decode_tps={})
    engine_pod = pod("a", gpus={"nvidia.com/gpu": "1"}, gpu="A100", serves=("o", "h"))
    named = replace(MODEL, prefill_tps={"A100-PCIE": 9.0}, decode_tps={"A100-PCIE": 9.0})
    read = read_pod(engine_pod, PREFIX, 8475)
    assert read
    nodes = {"node-1": read_node(node(gpu_product="A100-PCIE"), PREFIX)}
    assembly = assemble([read], nodes, {"m": named, "o": other, "h": half})
    assert assembly.fleet.devices["a"].gpu == "A100"


def test_where_nobody_has_speeds_both_spellings_and_the_known_ones_are_told() -> None:
    engine_pod = pod("a", gpus={"nvidia.com/gpu": "1"}, gpu="A100", serves=("m",))
    assembly = fleet_of([engine_pod], [node(gpu_product="NVIDIA-A100-SXM4-80GB")]).fleet
    assert without_speeds(assembly, "m") == (
        "m has no speeds for NVIDIA-A100-SXM4-80GB (A100 to its gateway); those known are for NVIDIA-L40S"
    )
    assert without_speeds(fleet_of([pod("a", gpu="NVIDIA-L40S", serves=("m",))]).fleet, "m") is None
    assert without_speeds(fleet_of([pod("a", serves=())]).fleet, "m") is None, (
        "nobody serves it, which is another matter"
    )


def test_without_gpu_labels_the_gateway_is_believed() -> None:
    assembly = fleet_of([pod("a", gpus={"nvidia.com/gpu": "1"}), pod("b")])
    assert {device.gpu for device in assembly.fleet.devices.values()} == {"L40S"}


def _unready(pod: Object, node: Object) -> None:
    pod["status"]["conditions"][0]["status"] = "False"


def _deleted(pod: Object, node: Object) -> None:
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"


def _cordoned(pod: Object, node: Object) -> None:
    node["spec"]["unschedulable"] = True


def _silent_kubelet(pod: Object, node: Object) -> None:
    node["status"]["conditions"][0]["status"] = "Unknown"


def _evicting(pod: Object, node: Object) -> None:
    node["spec"]["taints"] = [{"key": "broken", "value": "gpu", "effect": "NoExecute"}]


def _tolerating_for_a_while(pod: Object, node: Object) -> None:
    _evicting(pod, node)
    pod["spec"]["tolerations"] = [{"key": "broken", "operator": "Exists", "tolerationSeconds": 300}]


@pytest.mark.parametrize("spoil", [_unready, _deleted, _cordoned, _silent_kubelet, _evicting, _tolerating_for_a_while])
def test_what_is_about_to_end_gets_nothing_new(spoil: Any) -> None:
    engine_pod, machine = pod("a"), node()
    spoil(engine_pod, machine)
    assembly = fleet_of([engine_pod], [machine])
    assert assembly.healthy == {"a": False}
    assert "a" in assembly.reports, "its state is still known"


@pytest.mark.parametrize(
    "toleration", [{"operator": "Exists"}, {"key": "gpu", "value": "yes"}, {"key": "gpu", "operator": "Exists"}]
)
def test_taints_that_a_pod_tolerates_or_that_bar_new_pods_only_are_nothing_to_it(toleration: Object) -> None:
    engine_pod, machine = pod("a"), node()
    engine_pod["spec"]["tolerations"] = [toleration]
    machine["spec"]["taints"] = [
        {"key": "gpu", "value": "yes", "effect": "NoExecute"},
        {"key": "nvidia.com/gpu", "effect": "NoSchedule"},
    ]
    assert fleet_of([engine_pod], [machine]).healthy == {"a": True}


def test_a_pod_whose_node_is_gone_gets_nothing_and_one_whose_nodes_are_unreadable_does() -> None:
    assert fleet_of([pod("a")], []).healthy == {"a": False}
    read = read_pod(pod("a"), PREFIX, 8475)
    assert read
    assert assemble([read], None, {}).healthy == {"a": True}


def test_draining_is_believed() -> None:
    assert fleet_of([pod("a", draining=True)]).healthy == {"a": False}


def test_a_pod_that_reports_nothing_is_no_device() -> None:
    engine_pod = pod("a")
    engine_pod["metadata"]["annotations"] = {}
    assert fleet_of([engine_pod]).fleet.devices == {}


def test_workers_of_a_leaderworkerset_are_as_their_leader_and_serve_in_the_group_alone() -> None:
    pods = [lws("big-0-1", 1, reported=False), lws("big-0", 0), pod("lone")]
    assembly = fleet_of(pods)
    assert {name: group.devices for name, group in assembly.fleet.groups.items()} == {
        "leaderworkerset/big/0": ("big-0", "big-0-1")
    }
    assert assembly.heartbeat_pods == {"big-0": "big-0", "big-0-1": "big-0", "lone": "lone"}
    view = FleetView(assembly.fleet, assembly.reports, assembly.urls, usable=assembly.healthy, grouped=assembly.grouped)
    usable = {place for place in view.fleet.places if cluster_state(view, [], {}, 0.0).place(place).usable}
    assert usable == {"lone", "leaderworkerset/big/0"}


def test_a_group_that_is_not_whole_is_none_and_its_members_serve_nobody() -> None:
    for pods in ([lws("big-0", 0, size=3), lws("big-0-1", 1, size=3)], [lws("a", 0), lws("b", 1), lws("c", 1)]):
        assembly = fleet_of(pods)
        assert assembly.fleet.groups == {}
        assert assembly.grouped == assembly.fleet.devices.keys()


def test_one_unready_member_makes_the_group_unusable() -> None:
    worker = lws("big-0-1", 1, reported=False)
    worker["status"]["conditions"][0]["status"] = "False"
    assembly = fleet_of([lws("big-0", 0), worker])
    view = FleetView(assembly.fleet, assembly.reports, assembly.urls, usable=assembly.healthy, grouped=assembly.grouped)
    assert not cluster_state(view, [], {}, 0.0).place("leaderworkerset/big/0").usable


def test_the_generic_group_label_makes_groups_as_well() -> None:
    pods = []
    for index, name in enumerate(("z", "a")):
        engine_pod = pod(name)
        engine_pod["metadata"]["labels"] |= {f"{PREFIX}/group": "pair", f"{PREFIX}/group-index": str(index)}
        engine_pod["metadata"]["labels"][f"{PREFIX}/group-size"] = "2"
        pods.append(engine_pod)
    assert fleet_of(pods).fleet.groups["group/pair"].devices == ("z", "a")


def test_foreign_pods_are_ignored_with_the_reason() -> None:
    with pytest.raises(Ignored, match="ServiceAccount 'default' is not one of engines"):
        read_pod(pod("a"), PREFIX, 8475, frozenset({"engines"}))
    stolen = pod("a")
    stolen["metadata"]["name"] = "b"
    with pytest.raises(Ignored, match="describes 'a'"):
        read_pod(stolen, PREFIX, 8475)


def test_a_pod_that_aibrix_gives_another_model_than_its_gateway_serves_is_ignored() -> None:
    labelled = pod("a", serves=("m", "n"))
    labelled["metadata"]["labels"]["model.aibrix.ai/name"] = "n"
    assert read_pod(labelled, PREFIX, 8475) is not None
    labelled["metadata"]["labels"]["model.aibrix.ai/name"] = "o"
    with pytest.raises(Ignored, match="says 'o', its gateway serves m, n"):
        read_pod(labelled, PREFIX, 8475)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda pod: pod["status"].update(podIP="not an address"),
        lambda pod: pod["status"].update(conditions=["?"]),
        lambda pod: pod.pop("metadata"),
        lambda pod: pod["metadata"]["labels"].update({f"{PREFIX}/group": "g", f"{PREFIX}/group-index": "one"}),
        lambda pod: pod["metadata"]["labels"].update({f"{LWS}/name": "big"}),
        lambda pod: pod["spec"]["containers"][0]["resources"].update(limits={"nvidia.com/gpu": "many"}),
    ],
)
def test_what_makes_no_sense_is_ignored(spoil: Any) -> None:
    engine_pod = pod("a")
    spoil(engine_pod)
    with pytest.raises(Ignored, match="makes no sense"):
        read_pod(engine_pod, PREFIX, 8475)


def test_pods_that_are_not_placed_or_have_ended_are_nothing() -> None:
    for change in ({"podIP": ""}, {"phase": "Failed"}):
        engine_pod = pod("a")
        engine_pod["status"] |= change
        assert read_pod(engine_pod, PREFIX, 8475) is None


def test_a_label_that_must_be_a_number_is_named() -> None:
    with pytest.raises(ValueError, match=r"nvidia.com/gpu.memory must be a number >= 0, got 'lots'"):
        read_node(node(gpu_product="T4", gpu_memory="lots"), PREFIX)
