"""What does a task say about itself? The stage spec in ``executor_config["fate"]``."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from airflow_fate.messages.validation import explain

SPEC_KEY = "fate"
BY_CONNECTION_KEY = "fate_by_connection"
"""Under this key lies the spec of a task whose connection decides whether it is the fleet's. Releases that look no
connection up leave such tasks alone."""
DEFAULT_CONN_ID = "fate_default"
SPEC_VERSION = 1
MAX_PROMPTS = 100_000
MAX_TOKENS = 10_000_000
"""More than any engine's context holds."""
MAX_SHARDS = 1024
MAX_WEIGHT = 1e6
MAX_SEGMENTS = 256
MAX_PROBLEM_CHARS = 2000

# The bounds keep every sum that a planner makes of them finite and within a machine's whole numbers.
Tokens = Annotated[int, Field(ge=0, le=MAX_TOKENS)]
# As long as the columns that hold them.
Name = Annotated[str, Field(max_length=250)]


class SpecError(ValueError):
    """A stage spec that can't be used; names the key and the expected form."""


class SegmentSpec(BaseModel):
    """A piece of the prompt, from its start.

    :param key: digest of the text, or of the template expression that makes it.
    :param tokens: length; None when only rendering can tell.
    :param path: for an expression that only looks a value up, its path, such as ``("dag_run", "conf", "document")``:
        the executor resolves it against the run, so that equal documents are known to be equal.
    :param scoped: the key only means the same text within one run.
    :param role: who speaks; equal text in another role is not the same prefix.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Name
    tokens: Tokens | None = None
    path: tuple[str, ...] = ()
    scoped: bool = False
    role: Literal["system", "user"] = "user"


class StageSpec(BaseModel):
    """What the planner is told of a task before it runs.

    :param model: model name as the fleet knows it; empty where the connection names it.
    :param conn_id: the task's connection.
    :param only_on_fate: of an operator that runs elsewhere when its connection is of another type.
    :param problem: why the task can't be placed, should its connection turn out to be of type ``fate``.
    :param prompts: prompts in the batch; None when a template decides.
    :param prompts_from: task id of the upstream task whose result is the batch.
    :param prompt_tokens: tokens per prompt; None is estimated from history.
    :param continues: task id of the upstream task whose conversation this one extends.
    :param weight: priority of the task against others, 1 is normal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = SPEC_VERSION
    model: Name = ""
    conn_id: Name = DEFAULT_CONN_ID
    only_on_fate: bool = False
    problem: str = Field(default="", max_length=MAX_PROBLEM_CHARS)
    prompts_from: Name = ""
    prompts: int | None = Field(default=1, ge=1, le=MAX_PROMPTS)
    prompt_tokens: Tokens | None = None
    expected_output_tokens: Tokens | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    prefix: tuple[SegmentSpec, ...] = Field(default=(), max_length=MAX_SEGMENTS)
    continues: Name | None = None
    max_shards: int = Field(default=1, ge=1, le=MAX_SHARDS)
    tenant: Name = ""
    weight: float = Field(default=1.0, gt=0, le=MAX_WEIGHT, allow_inf_nan=False)

    def to_config(self) -> dict[str, Any]:
        """The plain value that goes into ``executor_config["fate"]``."""
        return self.model_dump(mode="json", exclude_defaults=True) | {"version": self.version}


def read_spec(executor_config: Any) -> StageSpec | None:
    """The stage spec of a task, or None when it has none.

    :raises SpecError: when there is one that can't be read.
    """
    if not isinstance(executor_config, dict):
        return None
    key = SPEC_KEY if executor_config.get(SPEC_KEY) is not None else BY_CONNECTION_KEY
    raw = executor_config.get(key)
    if raw is None:
        return None
    if not isinstance(raw, dict):
        raise SpecError(f'executor_config["{key}"] must be a dict, got {type(raw).__name__}')
    if raw.get("version", SPEC_VERSION) != SPEC_VERSION:
        raise SpecError(f'executor_config["{key}"]["version"] must be {SPEC_VERSION}, got {raw["version"]!r}')
    try:
        return StageSpec.model_validate(raw)
    except ValidationError as error:
        raise SpecError(f'executor_config["{key}"]: {explain(error)}') from error


def digest(text: str) -> str:
    """16 hex digits that stand for a text, also for one that is no valid Unicode."""
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()
