"""What will a task need? From its spec, then its history, then defaults, to a ``Stage`` that the planner can weigh.

Pure: what was read from Airflow comes in as values.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_fate.messages import SegmentSpec, StageSpec, digest
from airflow_fate.messages.spec import MAX_TOKENS
from airflow_fate.state.history import TaskHistory
from airflow_fate.workflow import Segment, Stage, StageKind

CHARS_PER_TOKEN = 4.0
"""English text in the vocabularies of today's open models; history replaces it after the first run."""
BYTES_PER_TOKEN = 4
_NO_HISTORY = TaskHistory()


@dataclass(frozen=True)
class Defaults:
    """Estimates for what nothing is known about."""

    prompt_tokens: int = 512
    output_tokens: int = 128
    tool_s: float = 1.0


@dataclass(frozen=True)
class Basis:
    """What a task's estimates rest on: ``spec``, ``history``, the prompt's ``text``, or a ``default``.

    :param runs: how many earlier runs the history is of.
    """

    prompt: str
    output: str
    runs: int


@dataclass(frozen=True)
class Estimator:
    """Turns specs into stages.

    :param secret: key of the prefix hashes, so that neither labels nor caches tell one tenant about another's prompts.
    :param history: (dag id, task id) -> what earlier tries needed.
    """

    secret: str
    defaults: Defaults = field(default_factory=Defaults)
    history: Mapping[tuple[str, str], TaskHistory] = field(default_factory=dict)

    def tool(self, stage_id: str, dag_id: str, task_id: str) -> Stage:
        """A task that runs outside of the fleet."""
        past = self.history.get((dag_id, task_id), _NO_HISTORY)
        return Stage(stage_id, StageKind.TOOL, duration_s=past.duration_s if past.runs else self.defaults.tool_s)

    def llm(
        self,
        stage_id: str,
        dag_id: str,
        task_id: str,
        run_id: str,
        spec: StageSpec,
        values: Mapping[str, Any],
        parent: Stage | None = None,
    ) -> Stage:
        """A task that runs on the fleet.

        :param values: what templates may look up by path: ``dag_run``, ``params``, ``run_id``.
        :param parent: the stage whose conversation it continues.
        """
        past = self.history.get((dag_id, task_id), _NO_HISTORY)
        conversation = parent.prompt_tokens + parent.expected_output_tokens if parent else 0
        resolved = [_resolve(segment, values) for segment in spec.prefix]
        known = sum(tokens for _, tokens in resolved if tokens is not None)
        unknown = sum(tokens is None for _, tokens in resolved)
        if spec.prompt_tokens is not None:
            total = spec.prompt_tokens + conversation
        elif past.runs and (unknown or not resolved):
            total = round(past.prompt_tokens)
        else:
            total = known + conversation + (self.defaults.prompt_tokens if unknown or not resolved else 0)
        total = max(total, known + conversation)
        each = (total - known - conversation) // unknown if unknown else 0
        prefix = tuple(
            Segment(
                self._key(spec.tenant, run_id if key.startswith("run:") else "", key),
                each if tokens is None else tokens,
            )
            for key, tokens in resolved
        )
        output = spec.expected_output_tokens
        if output is None and past.runs:
            output = round(past.output_tokens)
        if output is None:
            output = self.defaults.output_tokens
        output = min(output, spec.max_tokens or output)
        return Stage(
            stage_id,
            model=spec.model,
            prompts=spec.prompts or 1,
            prompt_tokens=total,
            expected_output_tokens=output,
            prefix=prefix,
            continues=parent.id if parent else None,
            output_bytes=output * BYTES_PER_TOKEN * (spec.prompts or 1),
            max_shards=spec.max_shards,
        )

    def basis(self, dag_id: str, task_id: str, spec: StageSpec, values: Mapping[str, Any]) -> Basis:
        """Where :meth:`llm` takes the lengths of such a task from."""
        past = self.history.get((dag_id, task_id), _NO_HISTORY)
        is_known = spec.prefix and all(_resolve(segment, values)[1] is not None for segment in spec.prefix)
        otherwise = "history" if past.runs else "default"
        return Basis(
            "spec" if spec.prompt_tokens is not None else "text" if is_known else otherwise,
            "spec" if spec.expected_output_tokens is not None else otherwise,
            past.runs,
        )

    def _key(self, tenant: str, scope: str, key: str) -> str:
        message = f"{tenant}\x1f{scope}\x1f{key}".encode(errors="surrogatepass")
        return hmac.new(self.secret.encode(), message, hashlib.sha256).hexdigest()[:16]


def _resolve(segment: SegmentSpec, values: Mapping[str, Any]) -> tuple[str, int | None]:
    """(key, tokens) of a segment. A path that leads to text is known by that text, whoever asks; others within their
    run.
    """
    if segment.path:
        value: Any = values
        for name in segment.path:
            value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, str | int | float):
            text = str(value)
            return f"text:{segment.role}:{digest(text)}", count_tokens(text)
    return f"{'run' if segment.scoped else 'text'}:{segment.role}:{segment.key}", segment.tokens


def count_tokens(text: str) -> int:
    """Estimated tokens of a text."""
    return min(MAX_TOKENS, max(1, round(len(text) / CHARS_PER_TOKEN)))
