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
    initial = [state for state in states if state.kind != "main"]
    main = [state for state in states if state.kind == "main"]
    codes = [state.exit_code for state in main]
    if all(code is not None for code in codes) and (stopping or policy != "Always"):
        if not any(codes):
            return "Succeeded"
        if stopping or policy == "Never":
            return "Failed"
    failed = any(state.kind == "init" and (state.exit_code or 0) > 0 for state in initial)
    if failed and (stopping or policy == "Never"):
        return "Failed"
    if not all(state.is_done for state in initial) and not any(state.is_running or state.restarts for state in main):
        return "Pending"
    never_ran = any("waiting" in state.now and not state.last for state in main)
    return "Pending" if never_ran else "Running"


def conditions(states: Sequence[ContainerState], ended: str, previous: Iterable[Object], now: str) -> list[Object]:
    """The pod's conditions; the time of a change is ``now``, of what stays that of ``previous``.

    :param ended: the pod's phase, when it is a last one.
    """
    initialized = all(state.is_done or (state.kind == "sidecar" and ended) for state in states if state.kind != "main")
    ready = not ended and initialized and all(state.ready for state in states if state.kind != "init")
    before = {condition["type"]: condition for condition in previous}
    all_conditions = []
    for kind, holds in (
        ("PodReadyToStartContainers", not ended),
        ("Initialized", initialized),
        ("ContainersReady", ready),
        ("Ready", ready),
    ):
        value = str(holds)
        same = before.get(kind, {}).get("status") == value
        condition: Object = {"type": kind, "status": value}
        condition["lastTransitionTime"] = before[kind]["lastTransitionTime"] if same else now
        # None takes an earlier reason away: the API server merges conditions.
        why_not = "PodCompleted" if ended == "Succeeded" else "ContainersNotReady"
        condition["reason"] = None if holds else why_not
        all_conditions.append(condition)
    return all_conditions


def container_statuses(states: Iterable[ContainerState], pod_uid: str) -> list[Object]:
    statuses: list[Object] = []
    for state in states:
        item: Object = {
            "started": state.started,
            "name": state.name,
            "image": state.image,
            "imageID": f"process:{state.image}",
            "containerID": f"process://{pod_uid}/{state.name}/{state.restarts}",
            "state": state.now,
            "lastState": state.last,
            "restartCount": state.restarts,
            "ready": state.exit_code == 0 if state.kind == "init" else state.ready,
        }
        statuses.append(item)
    return statuses
