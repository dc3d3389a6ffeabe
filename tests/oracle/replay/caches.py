"""What is remembered? Prompt segments on a device, and weights in a node's memory; both least recently used out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from airflow_fate.workflow import StageRef, Workflow


class Key(NamedTuple):
    """A segment on a place: the text from the start of the prompt up to its end, for one model.

    :param path: what the text consists of: a stage whose conversation it begins with, then the segments' keys.
    """

    place: str
    model: str
    path: tuple[StageRef | str, ...]


class Link(NamedTuple):
    """A segment of a chain and its length."""

    key: Key
    tokens: int


def conversation(workflow: Workflow, stage_id: str, place: str, output_tokens: Mapping[StageRef, int]) -> Link:
    """All that was said in a stage, its prompt and its output."""
    stage, ref = workflow.stages[stage_id], StageRef(workflow.id, stage_id)
    return Link(Key(place, stage.model, (ref,)), stage.prompt_tokens + output_tokens[ref])


def chain(workflow: Workflow, stage_id: str, place: str, output_tokens: Mapping[StageRef, int]) -> list[Link]:
    """The segments of a stage's prompt, outermost first; none where it goes on with another model's conversation."""
    stage = workflow.stages[stage_id]
    links: list[Link] = []
    path: tuple[StageRef | str, ...] = ()
    if stage.continues is not None:
        links.append(conversation(workflow, stage.continues, place, output_tokens))
        if links[0].key.model != stage.model:
            return []
        path = links[0].key.path
    for segment in stage.prefix:
        path = (*path, segment.key)
        links.append(Link(Key(place, stage.model, path), segment.tokens))
    return links


@dataclass
class _Kept:
    tokens: int
    users: int = 0


class PrefixCache:
    """The prefix cache of one device."""

    def __init__(self, room_tokens: int) -> None:
        self.room_tokens = room_tokens
        self._kept: dict[Key, _Kept] = {}  # from least to most recently used

    def leading(self, links: Sequence[Link]) -> list[Link]:
        """The longest chain of leading segments that lies there."""
        missing = next((n for n, link in enumerate(links) if link.key not in self._kept), len(links))
        return list(links[:missing])

    def hold(self, links: Iterable[Link]) -> None:
        for link in links:
            self._kept[link.key].users += 1

    def release(self, links: Iterable[Link]) -> None:
        for link in links:
            self._kept[link.key].users -= 1

    def keep(self, link: Link) -> bool:
        """Keep a segment, now the most recently used; False where those in use leave no room for it."""
        if link.key in self._kept:
            self._kept[link.key] = self._kept.pop(link.key)
            return True
        excess = sum(kept.tokens for kept in self._kept.values()) + link.tokens - self.room_tokens
        leaving = []
        for key, kept in self._kept.items():
            if excess <= 0:
                break
            if not kept.users:
                leaving.append(key)
                excess -= kept.tokens
        if excess > 0:
            return False
        for key in leaving:
            del self._kept[key]
        self._kept[link.key] = _Kept(link.tokens)
        return True

    def drop_model(self, place: str, model: str) -> None:
        self._kept = {key: kept for key, kept in self._kept.items() if (key.place, key.model) != (place, model)}


class HostMemory:
    """The weights in a node's memory."""

    def __init__(self, room_bytes: float) -> None:
        self.room_bytes = room_bytes
        self._kept: dict[str, tuple[float, float]] = {}  # model -> when it was used, its bytes

    def __contains__(self, model: str) -> bool:
        return model in self._kept

    def keep(self, model: str, weights_bytes: float, now_s: float) -> None:
        self._kept[model] = (now_s, weights_bytes)
        while sum(held for _, held in self._kept.values()) > self.room_bytes * (1 + 1e-12):
            others = [name for name in self._kept if name != model]
            del self._kept[min(others, key=lambda name: (self._kept[name][0], name)) if others else model]
