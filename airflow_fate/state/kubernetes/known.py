"""What did the watches tell so far? Pods and nodes as values, and when each pod last gave a sign of life.

A sign is a change that we saw, timed by our own clock: the clocks of pods and nodes have no say in it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_fate.kube.api import Object
from airflow_fate.state.kubernetes.nodes import NodeFacts, read_node
from airflow_fate.state.kubernetes.pods import Ignored, PodFacts

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Pods:
    """Sink of the watch of pods.

    :param read: a pod's facts, None while it has none.
    :param clock: monotonic seconds.
    :param changed: called after each change.
    """

    read: Callable[[Mapping[str, Any]], PodFacts | None]
    clock: Callable[[], float]
    changed: Callable[[], None]
    facts: dict[str, PodFacts] = field(default_factory=dict)
    seen_s: dict[str, float] = field(default_factory=dict)
    synced: bool = False
    _ignored: dict[str, str] = field(default_factory=dict)

    def replace(self, items: tuple[Object, ...]) -> None:
        names = {_name(item) for item in items}
        for name in (self.facts.keys() | self._ignored.keys()) - names:
            self._forget(name)
        for item in items:
            self._take(item)
        self.synced = True
        self.changed()

    def put(self, item: Object) -> None:
        self._take(item)
        self.changed()

    def drop(self, item: Object) -> None:
        self._forget(_name(item))
        self.changed()

    def _take(self, item: Object) -> None:
        name = _name(item)
        try:
            facts = self.read(item)
            self._ignored.pop(name, None)
        except Ignored as error:
            facts = None
            if self._ignored.get(name) != str(error):
                self._ignored[name] = str(error)
                _log.warning("pod %s ignored: %s", name, error)
        before = self.facts.get(name)
        if facts is None:
            self.facts.pop(name, None)
            self.seen_s.pop(name, None)
            return
        if before is None or (before.uid, before.sign) != (facts.uid, facts.sign):
            self.seen_s[name] = self.clock()
        else:
            # The same text is the same object: who compares need not look into it.
            facts = replace(facts, report=before.report)
        self.facts[name] = facts

    def _forget(self, name: str) -> None:
        for of_pod in (self.facts, self.seen_s, self._ignored):
            of_pod.pop(name, None)


@dataclass(slots=True)
class Nodes:
    """Sink of the watch of nodes."""

    label_prefix: str
    changed: Callable[[], None]
    facts: dict[str, NodeFacts] = field(default_factory=dict)
    synced: bool = False
    _ignored: dict[str, str] = field(default_factory=dict)

    def replace(self, items: tuple[Object, ...]) -> None:
        names = {_name(item) for item in items}
        for name in self.facts.keys() - names:
            del self.facts[name]
        for item in items:
            self._take(item)
        self.synced = True
        self.changed()

    def put(self, item: Object) -> None:
        self._take(item)
        self.changed()

    def drop(self, item: Object) -> None:
        self.facts.pop(_name(item), None)
        self.changed()

    def _take(self, item: Object) -> None:
        name = _name(item)
        try:
            self.facts[name] = read_node(item, self.label_prefix)
            self._ignored.pop(name, None)
        except ValueError as error:
            self.facts.pop(name, None)
            if self._ignored.get(name) != str(error):
                self._ignored[name] = str(error)
                _log.warning("node %s ignored, its pods get no new tasks: %s", name, error)


def _name(item: Object) -> str:
    meta = item.get("metadata")
    return str(meta.get("name", "")) if isinstance(meta, dict) else ""
