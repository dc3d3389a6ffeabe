"""Which fleet do these pods and nodes make? Devices, groups and who may get new tasks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from airflow_fate.cluster import Device, DeviceGroup, Fleet, ModelSpec, Node, best_name
from airflow_fate.messages import DeviceReport
from airflow_fate.state.kubernetes.nodes import NodeFacts
from airflow_fate.state.kubernetes.pods import PodFacts


@dataclass(frozen=True, slots=True)
class Assembly:
    """The fleet, and what is true of its devices; each by pod name.

    :param healthy: whether it may get new tasks, its age left aside.
    :param heartbeat_pods: device -> the pod whose signs of life are its own: a worker's are its leader's.
    """

    fleet: Fleet = field(default_factory=lambda: Fleet({}, {}, {}))
    reports: Mapping[str, DeviceReport] = field(default_factory=dict)
    urls: Mapping[str, str] = field(default_factory=dict)
    healthy: Mapping[str, bool] = field(default_factory=dict)
    heartbeat_pods: Mapping[str, str] = field(default_factory=dict)
    grouped: frozenset[str] = frozenset()


def assemble(
    pods: Iterable[PodFacts], nodes: Mapping[str, NodeFacts] | None, models: Mapping[str, ModelSpec]
) -> Assembly:
    """The fleet of all pods that have reported, or whose group's leader has.

    :param nodes: by name; None while they are unknown, when a pod's own readiness must do.
    """
    by_name = {pod.name: pod for pod in sorted(pods, key=lambda pod: pod.name)}
    groups = _groups(by_name.values())
    leaders = {member: members[0] for members in groups.values() for member in members}
    reports, heartbeat_pods = {}, {}
    for name, pod in by_name.items():
        leader = by_name[leaders.get(name, name)]
        if report := pod.report or _of_worker(name, leader.report):
            reports[name] = report
            heartbeat_pods[name] = name if pod.report else leader.name
    used = [by_name[name] for name in reports]
    fleet = Fleet(
        nodes={pod.node: nodes[pod.node].node if nodes and pod.node in nodes else Node(pod.node) for pod in used},
        devices={pod.name: _device(pod, reports[pod.name], nodes, models) for pod in used},
        models=models,
        groups={
            group: DeviceGroup(group, members)
            for group, members in groups.items()
            if all(member in reports for member in members)
        },
        # Pods come and go: what none of them can serve, the next one may.
        complete=False,
    )
    return Assembly(
        fleet=fleet,
        reports=reports,
        urls={pod.name: pod.url for pod in used},
        healthy={pod.name: pod.ready and _may_stay(pod, nodes) for pod in used},
        heartbeat_pods=heartbeat_pods,
        grouped=frozenset(pod.name for pod in used if pod.membership),
    )


def _groups(pods: Iterable[PodFacts]) -> dict[str, tuple[str, ...]]:
    """Group -> its members, the leader first; only groups that are whole."""
    groups: dict[str, dict[int, str]] = {}
    sizes: dict[str, set[int]] = {}
    counts: dict[str, int] = {}
    for pod in pods:
        if membership := pod.membership:
            groups.setdefault(membership.group, {})[membership.index] = pod.name
            sizes.setdefault(membership.group, set()).add(membership.size)
            counts[membership.group] = counts.get(membership.group, 0) + 1
    return {
        group: tuple(members[index] for index in sorted(members))
        for group, members in groups.items()
        # Two pods with one index: one of them is on its way out, and nobody knows which one the others talk to.
        if sizes[group] == {len(members)} and counts[group] == len(members)
    }


def _of_worker(name: str, leader: DeviceReport | None) -> DeviceReport | None:
    """Workers have no gateway: they are as their leader is, but hold nothing that a request could find."""
    if leader is None or leader.device == name:
        return leader
    empty: dict[str, object] = {"models": {}, "engine_started": {}, "prefixes": (), "host_models": ()}
    empty |= {"artifact_count": 0, "artifact_bytes": 0}
    return leader.model_copy(update={"device": name, **empty})


def _device(
    pod: PodFacts, report: DeviceReport, nodes: Mapping[str, NodeFacts] | None, models: Mapping[str, ModelSpec]
) -> Device:
    """What the hardware is comes from the node; how much of it the engine uses, from the gateway, within that.

    The GPU's name is the node's, but the gateway's where only that one says anything to the models that it serves.
    """
    serves = frozenset(report.serves) if report.serves is not None else None
    device = Device(
        pod.name,
        pod.node,
        report.gpu,
        report.memory_bytes,
        report.kv_tokens,
        report.max_seqs,
        serves,
        batch_tokens=report.batch_tokens,
    )
    node = nodes.get(pod.node) if nodes else None
    granted = [(node.gpus[name], count) for name, count in pod.gpus.items() if node and name in node.gpus and count]
    if not granted:
        return device
    memory_bytes = sum(gpu.memory_bytes * count for gpu, count in granted)
    names = (granted[0][0].product, report.gpu)
    gpu = best_name(names, (model for name, model in models.items() if serves is None or name in serves))
    return replace(
        device,
        gpu=gpu,
        also=next((name for name in names if name != gpu), ""),
        memory_bytes=min(device.memory_bytes, memory_bytes) if memory_bytes else device.memory_bytes,
    )


def _may_stay(pod: PodFacts, nodes: Mapping[str, NodeFacts] | None) -> bool:
    """Whether the node is up and neither drained nor about to evict the pod."""
    if nodes is None:
        return True
    node = nodes.get(pod.node)
    return bool(node and node.ready and not node.cordoned and all(pod.tolerates(taint) for taint in node.evicting))
