"""What do real LLM workflows look like? The graphs of public Dify, Flowise and Langflow workflows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Node:
    """A node of a workflow as its author drew it.

    :param model: the author's model; empty where the user chooses it, and for tools.
    :param system: stands for the fixed text at the start of its prompt; empty when it has none.
    :param system_tokens: length of that text.
    :param template_tokens: length of the fixed text elsewhere in the prompt.
    :param mapped: it runs once for each element of a list.
    """

    id: str
    is_llm: bool
    model: str = ""
    tool: str = ""
    system: str = ""
    system_tokens: int = 0
    template_tokens: int = 0
    mapped: bool = False


@dataclass(frozen=True)
class Template:
    """A workflow as its author drew it, nodes in an order in which parents come first."""

    id: str
    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]

    def parents(self, node: str) -> list[str]:
        return [parent for parent, child in self.edges if child == node]

    def children(self, node: str) -> list[str]:
        return [child for parent, child in self.edges if parent == node]

    def fan(self, node: Node) -> list[str]:
        """The nodes that do the same as this one beside it: same parents, same model."""
        parents = self.parents(node.id)
        return [
            other.id
            for other in self.nodes
            if other.is_llm and other.model == node.model and parents and self.parents(other.id) == parents
        ]

    def chat_parent(self, node: Node) -> str | None:
        """The node whose conversation this one goes on with: its one parent, of the same model, with no other child."""
        parents = self.parents(node.id)
        if len(parents) != 1 or len(self.children(parents[0])) != 1 or node.mapped or not node.is_llm:
            return None
        parent = next(other for other in self.nodes if other.id == parents[0])
        return parent.id if parent.is_llm and parent.model == node.model and not parent.mapped else None


@cache
def templates() -> tuple[Template, ...]:
    raw = json.loads(files("airflow_fate.simulator").joinpath("data", "workflows.json").read_text(encoding="utf-8"))
    return tuple(_template(entry) for entry in raw)


def _template(entry: Mapping[str, Any]) -> Template:
    edges = tuple((parent, child) for parent, child in entry["edges"])
    nodes = {stage["id"]: _node(stage) for stage in entry["stages"]}
    ordered: list[Node] = []
    while len(ordered) < len(nodes):
        done = {node.id for node in ordered}
        ordered += [
            node
            for node in nodes.values()
            if node.id not in done and done.issuperset(parent for parent, child in edges if child == node.id)
        ]
    return Template(entry["workflow"], tuple(ordered), edges)


def _node(stage: Mapping[str, Any]) -> Node:
    if stage["kind"] != "llm":
        return Node(stage["id"], False, tool=stage["tool"], mapped=stage["mapped"])
    return Node(
        stage["id"],
        True,
        model=stage["model"] or "",
        system=stage["prefix"] or "",
        system_tokens=stage["prefix_tokens"],
        template_tokens=stage["template_tokens"],
        mapped=stage["mapped"],
    )
