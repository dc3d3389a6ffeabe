"""Are variables, quantities and fields read as Kubernetes reads them?"""

from __future__ import annotations

import pytest

from tests.cluster.kubelet.config import KubeletConfig
from tests.cluster.kubelet.environment import ConfigError, at_pod, expand, field, resource

POD = {"metadata": {"name": "p", "namespace": "n", "labels": {"a/b": "1", "c": "2"}}, "spec": {"nodeName": "node"}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("$(A)-x", "1-x"), ("$(NONE)", "$(NONE)"), ("$$(A)", "$(A)"), ("$$$(A)", "$1"), ("$A ${A}", "$A ${A}")],
)
def test_expand(text: str, expected: str) -> None:
    assert expand(text, {"A": "1"}) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.0.0.0", "127.1.2.3"),
        ("http://0.0.0.0:80/x", "http://127.1.2.3:80/x"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("0.0.0.0.1", "0.0.0.0.1"),
    ],
)
def test_all_addresses_are_the_pods_own(text: str, expected: str) -> None:
    assert at_pod(text, "127.1.2.3") == expected


def test_fields() -> None:
    assert field(POD, "ip", "metadata.labels['a/b']") == "1"
    assert field(POD, "ip", "metadata.labels") == 'a/b="1"\nc="2"'
    assert field(POD, "ip", "spec.nodeName") == "node"
    assert field(POD, "ip", "status.podIP") == "ip"
    with pytest.raises(ConfigError, match=r"spec\.containers"):
        field(POD, "ip", "spec.containers")


@pytest.mark.parametrize(
    ("stated", "divisor", "expected"),
    [("500m", "1", "1"), ("500m", "1m", "500"), ("2Gi", "1Mi", "2048"), ("3", "0", "3"), ("1.5G", "1", "1500000000")],
)
def test_resources_are_in_units_of_the_divisor(stated: str, divisor: str, expected: str) -> None:
    container = {"name": "c", "resources": {"limits": {"cpu": stated}}}
    assert resource(container, {"resource": "limits.cpu", "divisor": divisor}) == expected


def test_a_limit_that_is_not_stated_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"limits\.cpu"):
        resource({"name": "c"}, {"resource": "limits.cpu"})


def test_an_image_is_known_without_its_tag() -> None:
    config = KubeletConfig((), {"host:5000/engine": ("serve",), "engine": ("other",)})
    assert config.entrypoint("host:5000/engine:v1") == ("serve",)
    assert config.entrypoint("host:5000/engine") == ("serve",)
    assert config.entrypoint("engine@sha256:0") == ("other",)
    assert config.entrypoint("unknown:v1") == ()
