"""Which nodes does the kubelet play, and what is in the images that it doesn't have?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml


@dataclass(frozen=True)
class NodeConfig:
    """One node: labels as given, ``capacity`` as Kubernetes writes it (``cpu``, ``memory``, ``nvidia.com/gpu``...)."""

    name: str
    labels: Mapping[str, str]
    capacity: Mapping[str, str]


@dataclass(frozen=True)
class KubeletConfig:
    """:param entrypoints: image without its tag -> what it runs when the pod names no command."""

    nodes: tuple[NodeConfig, ...]
    entrypoints: Mapping[str, tuple[str, ...]]

    @classmethod
    def read(cls, path: Path) -> KubeletConfig:
        """:raises KeyError: when the file lacks ``nodes`` or a node its ``capacity``."""
        content = yaml.safe_load(path.read_text())
        nodes = tuple(
            NodeConfig(name, node.get("labels", {}), {key: str(value) for key, value in node["capacity"].items()})
            for name, node in content["nodes"].items()
        )
        images = content.get("images", {})
        return cls(nodes, {image: tuple(command) for image, command in images.items()})

    def entrypoint(self, image: str) -> tuple[str, ...]:
        """What the image runs by itself; empty when nobody said."""
        repository = image.split("@")[0]
        # A colon before the last slash is a registry's port.
        name, colon, tag = repository.rpartition(":")
        return self.entrypoints.get(name if colon and "/" not in tag else repository, ())
