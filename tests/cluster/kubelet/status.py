"""What does the kubelet say of a pod? Pure: containers' states in, the pod's status out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tests.cluster.api import Object

Kind = Literal["init", "sidecar", "main"]


@dataclass(frozen=True)
class ContainerState:
    """One container as it is now; ``now`` and ``last`` are Kubernetes' own ContainerState objects."""

    name: str
    image: str
    kind: Kind
    now: Object = field(default_factory=lambda: {"waiting": {"reason": "PodInitializing"}})
    last: Object = field(default_factory=dict)
    restarts: int = 0
    started: bool = False
    ready: bool = False

    @property
    def is_running(self) -> bool:
        return "running" in self.now

    @property
    def exit_code(self) -> int | None:
        """Of its end, if it has ended and is not about to start again."""
        ended = self.now.get("terminated")
        return None if ended is None else ended["exitCode"]

    @property
    def is_done(self) -> bool:
        """For an init container: the next may start."""
        return self.exit_code == 0 if self.kind == "init" else self.started


def policy_of(pod: Object) -> str:
    return str(pod["spec"].get("restartPolicy", "Always"))


def restarts(policy: str, kind: Kind, code: int) -> bool:
    """Whether a container that ended with ``code`` starts again; an init container that did well never does."""
    if kind == "sidecar":
        return True
    if policy == "Never" or (kind == "init" and code == 0):
        return False
    return policy == "Always" or code != 0


def phase(policy: str, states: Sequence[ContainerState], stopping: bool = False) -> str:
    """``Pending``, ``Running``, ``Succeeded`` or ``Failed``.

    :param stopping: what has ended will not start again, whatever the policy says.
    """
    initial = [one for one in states if one.kind != "main"]
    main = [one for one in states if one.kind == "main"]
    codes = [one.exit_code for one in main]
    if all(code is not None for code in codes) and (stopping or policy != "Always"):
        if not any(codes):
            return "Succeeded"
        if stopping or policy == "Never":
            return "Failed"
    failed = any(one.kind == "init" and (one.exit_code or 0) > 0 for one in initial)
    if failed and (stopping or policy == "Never"):
        return "Failed"
    if not all(one.is_done for one in initial) and not any(one.is_running or one.restarts for one in main):
        return "Pending"
    never_ran = any("waiting" in one.now and not one.last for one in main)
    return "Pending" if never_ran else "Running"


def conditions(states: Sequence[ContainerState], ended: str, previous: Iterable[Object], now: str) -> list[Object]:
    """The pod's conditions; the time of a change is ``now``, of what stays that of ``previous``.

    :param ended: the pod's phase, when it is a last one.
    """
    initialized = all(one.is_done or (one.kind == "sidecar" and ended) for one in states if one.kind != "main")
    ready = not ended and initialized and all(one.ready for one in states if one.kind != "init")
    before = {one["type"]: one for one in previous}
    found = []
    for kind, holds in (
        ("PodReadyToStartContainers", not ended),
        ("Initialized", initialized),
        ("ContainersReady", ready),
        ("Ready", ready),
    ):
        value = str(holds)
        same = before.get(kind, {}).get("status") == value
        one: Object = {"type": kind, "status": value}
        one["lastTransitionTime"] = before[kind]["lastTransitionTime"] if same else now
        # None takes an earlier reason away: the API server merges conditions.
        why_not = "PodCompleted" if ended == "Succeeded" else "ContainersNotReady"
        one["reason"] = None if holds else why_not
        found.append(one)
    return found


def container_statuses(states: Iterable[ContainerState], pod_uid: str) -> list[Object]:
    found: list[Object] = []
    for one in states:
        item: Object = {
            "started": one.started,
            "name": one.name,
            "image": one.image,
            "imageID": f"process:{one.image}",
            "containerID": f"process://{pod_uid}/{one.name}/{one.restarts}",
            "state": one.now,
            "lastState": one.last,
            "restartCount": one.restarts,
            "ready": one.exit_code == 0 if one.kind == "init" else one.ready,
        }
        found.append(item)
    return found
