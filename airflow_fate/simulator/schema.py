"""What may a workload file say? Its shape, as docs/physics.md gives it, "Files"."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

# Bounds far beyond any workload: sums of what is read stay finite, and whole numbers exact in 64 bits.
MAX_TOKENS = 10**9
MAX_PROMPTS = 10**6
MAX_BYTES = 10**18
MAX_SECONDS = 1e9


def _number(value: Any) -> Any:
    """A number of JSON; pydantic would also take "12" and true for one."""
    if isinstance(value, bool | str):
        raise ValueError("must be a number")
    return value


def _whole_bytes(value: Any) -> Any:
    return round(value) if isinstance(value, float) and abs(value) <= MAX_BYTES else value


_JsonNumber = BeforeValidator(_number)
Name = Annotated[str, Field(min_length=1)]
Tokens = Annotated[int, Field(ge=0, le=MAX_TOKENS), _JsonNumber]
Prompts = Annotated[int, Field(ge=1, le=MAX_PROMPTS), _JsonNumber]
# Bytes are often the result of a division; a fraction of a byte is no mistake of the author.
Bytes = Annotated[int, Field(ge=0, le=MAX_BYTES), BeforeValidator(_whole_bytes), _JsonNumber]
Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False), _JsonNumber]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PrefixPart(_Part):
    key: Name
    tokens: Tokens


class LLMPart(_Part):
    id: Name
    kind: Literal["llm"]
    model: Name
    prompts: Prompts = 1
    prompt_tokens: Tokens
    output_tokens: Tokens
    expected_output_tokens: Tokens
    prefix: list[PrefixPart] = []
    continues: Name | None = None
    output_bytes: Bytes = 0
    max_shards: Prompts = 1


class ToolPart(_Part):
    id: Name
    kind: Literal["tool"]
    duration_s: Seconds
    output_bytes: Bytes = 0


KINDS = ("llm", "tool")
StagePart = Annotated[LLMPart | ToolPart, Field(discriminator="kind")]


class WorkflowPart(_Part):
    id: Name
    arrival_s: Seconds = 0.0
    tenant: str = ""
    stages: Annotated[list[StagePart], Field(min_length=1)]
    edges: list[tuple[Name, Name]] = []


class WorkloadFile(_Part):
    name: str = ""
    workflows: Annotated[list[WorkflowPart], Field(min_length=1)]
