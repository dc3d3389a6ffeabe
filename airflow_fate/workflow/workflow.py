"""What is there to run? A workflow: a DAG of stages, as an immutable value over networkx."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import networkx as nx

from airflow_fate.workflow.stage import Segment, Stage, StageRef, conversation_key, extend_chain


@dataclass(frozen=True)
class Workflow:
    """A DAG of stages with its arrival.

    :param arrival_s: when it became known, in seconds on the caller's clock.
    :param weight: importance of its tenant; 1 is normal.
    :raises ValueError: on a cycle, an unknown stage in an edge, or a ``continues`` that is not upstream.
    """

    id: str
    stages: Mapping[str, Stage]
    edges: tuple[tuple[str, str], ...] = ()
    arrival_s: float = 0.0
    tenant: str = ""
    weight: float = 1.0
    finished: frozenset[str] = field(default_factory=frozenset)
    """Stages that have ended; a policy plans for the others."""

    def __post_init__(self) -> None:
        for parent, child in self.edges:
            for name in (parent, child):
                if name not in self.stages:
                    raise ValueError(f"workflow {self.id!r}: edge {parent!r} -> {child!r} names unknown stage {name!r}")
        if self.edges and not nx.is_directed_acyclic_graph(self.graph):
            cycle = " -> ".join(str(edge[0]) for edge in nx.find_cycle(self.graph))
            raise ValueError(f"workflow {self.id!r}: its edges form a cycle: {cycle}")
        for stage in self.stages.values():
            if stage.continues is not None and stage.continues not in nx.ancestors(self.graph, stage.id):
                raise ValueError(
                    f"workflow {self.id!r}: stage {stage.id!r} continues {stage.continues!r}, which is not upstream"
                )

    @cached_property
    def graph(self) -> nx.DiGraph[str]:
        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_nodes_from(self.stages)
        graph.add_edges_from(self.edges)
        return graph

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Stage ids, parents before children, ties by id."""
        if not self.edges:
            return tuple(sorted(self.stages))
        return tuple(nx.lexicographical_topological_sort(self.graph))

    def parents(self, stage_id: str) -> tuple[str, ...]:
        return self._parents[stage_id]

    def children(self, stage_id: str) -> tuple[str, ...]:
        return self._children[stage_id]

    @cached_property
    def _parents(self) -> dict[str, tuple[str, ...]]:
        return _ends(self.stages, ((child, parent) for parent, child in self.edges))

    @cached_property
    def _children(self) -> dict[str, tuple[str, ...]]:
        return _ends(self.stages, self.edges)

    @cached_property
    def _chains(self) -> dict[str, tuple[Segment, ...]]:
        return {}

    def chain(self, stage_id: str) -> tuple[Segment, ...]:
        """The stage's prefix as cumulative chain keys, in the order in which a cache can hold them.

        With ``continues`` the chain begins with the parent's whole conversation. Equal chain keys mean
        equal model and equal text up to there.
        """
        known = self._chains.get(stage_id)
        if known is not None:
            return known
        stage = self.stages[stage_id]
        key, chain = stage.model, []
        if stage.continues is not None:
            parent = self.stages[stage.continues]
            key = conversation_key(stage.model, StageRef(self.id, parent.id))
            chain.append(Segment(key, parent.prompt_tokens + parent.expected_output_tokens))
        for segment in stage.prefix:
            key = extend_chain(key, segment.key)
            chain.append(Segment(key, segment.tokens))
        self._chains[stage_id] = tuple(chain)
        return self._chains[stage_id]


def _ends(stages: Iterable[str], edges: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Stage -> where its edges lead, by id."""
    kin: dict[str, set[str]] = {stage: set() for stage in stages}
    for begin, end in edges:
        kin[begin].add(end)
    return {stage: tuple(sorted(ends)) for stage, ends in kin.items()}
