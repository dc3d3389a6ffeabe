"""Does the kubelet say of pods what Kubernetes would?"""

from __future__ import annotations

import pytest

from tests.cluster.kubelet.status import ContainerState, Kind, conditions, phase, restarts

RUNNING: dict[str, object] = {"running": {"startedAt": "t"}}
WAITING: dict[str, object] = {"waiting": {"reason": "x"}}


def ended(code: int) -> dict[str, object]:
    return {"terminated": {"exitCode": code}}


def main(now: dict[str, object], **more: object) -> ContainerState:
    return ContainerState("main", "", "main", now, **more)  # type: ignore[arg-type]


def before(now: dict[str, object], kind: Kind = "init", **more: object) -> ContainerState:
    return ContainerState("before", "", kind, now, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("policy", "states", "expected"),
    [
        ("Always", [main(WAITING)], "Pending"),
        ("Always", [main(RUNNING)], "Running"),
        ("Always", [main(RUNNING), main(WAITING)], "Pending"),
        ("Always", [main(WAITING, last=ended(1), restarts=1)], "Running"),
        ("Always", [main(ended(0))], "Running"),
        ("OnFailure", [main(ended(1))], "Running"),
        ("OnFailure", [main(ended(0))], "Succeeded"),
        ("Never", [main(ended(0)), main(ended(1))], "Failed"),
        ("Never", [main(ended(0)), main(RUNNING)], "Running"),
        ("Never", [before(ended(1)), main(WAITING)], "Failed"),
        ("Always", [before(RUNNING), main(WAITING)], "Pending"),
        ("Always", [before(RUNNING, "sidecar", started=True), main(RUNNING)], "Running"),
    ],
)
def test_phase(policy: str, states: list[ContainerState], expected: str) -> None:
    assert phase(policy, states) == expected


def test_what_was_stopped_has_ended_whatever_its_policy() -> None:
    assert phase("Always", [main(ended(143))], stopping=True) == "Failed"
    assert phase("Always", [main(ended(0))], stopping=True) == "Succeeded"


@pytest.mark.parametrize(
    ("policy", "kind", "code", "expected"),
    [
        ("Always", "main", 0, True),
        ("OnFailure", "main", 0, False),
        ("OnFailure", "main", 1, True),
        ("Never", "main", 1, False),
        ("Always", "init", 0, False),
        ("Never", "init", 1, False),
        ("Never", "sidecar", 0, True),
    ],
)
def test_restarts(policy: str, kind: Kind, code: int, expected: bool) -> None:
    assert restarts(policy, kind, code) is expected


def _of(pod_conditions: list[dict[str, object]], kind: str) -> dict[str, object]:
    (condition,) = (condition for condition in pod_conditions if condition["type"] == kind)
    return condition


def test_a_pod_is_ready_when_all_its_containers_are() -> None:
    container, other = main(RUNNING, ready=True), main(RUNNING)
    assert _of(conditions([container, container], "", [], "t"), "Ready")["status"] == "True"
    assert _of(conditions([container, other], "", [], "t"), "Ready")["status"] == "False"


def test_a_sidecar_that_is_not_ready_keeps_its_pod_from_being_ready() -> None:
    beside = before(RUNNING, "sidecar", started=True)
    pod_conditions = conditions([beside, main(RUNNING, ready=True)], "", [], "t")
    assert _of(pod_conditions, "Initialized")["status"] == "True"
    assert _of(pod_conditions, "Ready")["status"] == "False"


def test_a_condition_keeps_its_time_until_it_changes() -> None:
    early = conditions([main(RUNNING)], "", [], "early")
    later = conditions([main(RUNNING, ready=True)], "", early, "later")
    assert _of(later, "Initialized")["lastTransitionTime"] == "early"
    assert _of(later, "Ready")["lastTransitionTime"] == "later"
