"""What is one unit of work? A stage: an LLM call (one or more prompts) or a tool, as an immutable value."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

_INFINITE = float("inf")


class StageKind(StrEnum):
    """LLM stages run on the fleet; tool stages run outside of it."""

    LLM = "llm"
    TOOL = "tool"


class StageRef(NamedTuple):
    """Names one stage of one workflow."""

    workflow: str
    stage: str

    def __str__(self) -> str:
        return f"{self.workflow}/{self.stage}"


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a prompt that other prompts may share.

    :param key: equal keys mean equal text (a keyed hash in production).
    :param tokens: its length.
    """

    key: str
    tokens: int

    def __post_init__(self) -> None:
        if self.tokens < 0:
            raise ValueError(f"segment {self.key!r}: tokens must be >= 0, got {self.tokens}")


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a workflow, as a policy may know it before it ran.

    :param prompts: number of prompts in the batch (LLM).
    :param prompt_tokens: tokens per prompt, shared segments included.
    :param expected_output_tokens: estimate, per prompt.
    :param prefix: shared segments from the start of the prompt, outermost first.
    :param continues: id of the parent stage whose conversation begins this prompt.
    :param max_shards: devices over which the batch may be split.
    :param duration_s: for a tool, how long it runs.
    :raises ValueError: naming the field and the expected form.
    """

    id: str
    kind: StageKind = StageKind.LLM
    model: str = ""
    prompts: int = 1
    prompt_tokens: int = 0
    expected_output_tokens: int = 0
    prefix: tuple[Segment, ...] = ()
    continues: str | None = None
    output_bytes: int = 0
    max_shards: int = 1
    duration_s: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (
            ("prompt_tokens", self.prompt_tokens),
            ("expected_output_tokens", self.expected_output_tokens),
            ("output_bytes", self.output_bytes),
            ("duration_s", self.duration_s),
        ):
            if not 0 <= value < _INFINITE:
                raise ValueError(f"stage {self.id!r}: {name} must be a finite number >= 0, got {value}")
        if self.kind is StageKind.LLM:
            if not self.model:
                raise ValueError(f"stage {self.id!r}: model must name a model")
            for name, value in (("prompts", self.prompts), ("max_shards", self.max_shards)):
                if value < 1:
                    raise ValueError(f"stage {self.id!r}: {name} must be >= 1, got {value}")

    @property
    def is_llm(self) -> bool:
        return self.kind is StageKind.LLM


def extend_chain(parent: str, key: str) -> str:
    """Key of a prefix chain: the segment ``key`` after everything that ``parent`` stands for (16 hex digits)."""
    return hashlib.blake2b(f"{parent}\x1f{key}".encode(), digest_size=8).hexdigest()


def conversation_key(model: str, ref: StageRef) -> str:
    """Chain key of the whole conversation of a stage, its prompt and its output."""
    return extend_chain(model, f"conversation\x1f{ref.workflow}\x1f{ref.stage}")
