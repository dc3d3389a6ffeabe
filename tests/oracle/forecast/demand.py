"""What does a stage ask of a place? Everything about it that physics needs, gathered once."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_fate.workflow import Segment, StageRef, Workflow, conversation_key


@dataclass(frozen=True, slots=True)
class Demand:
    """An LLM stage as physics sees it.

    :param output_tokens: expected, per prompt.
    :param chain: its prompt's shared segments as cumulative chain keys, outermost first.
    :param inputs: (parent stage, bytes of its output), LLM and tool parents alike.
    """

    ref: StageRef
    model: str
    prompts: int
    prompt_tokens: int
    output_tokens: int
    chain: tuple[Segment, ...]
    inputs: tuple[tuple[str, int], ...]
    max_shards: int = 1

    @property
    def shared_tokens(self) -> int:
        """Leading tokens that all its prompts have in common."""
        return min(self.prompt_tokens, sum(segment.tokens for segment in self.chain))

    @property
    def conversation(self) -> Segment:
        """What the place's cache holds of it in the end: prompt and output, under the key that a child continues."""
        return Segment(conversation_key(self.model, self.ref), self.prompt_tokens + self.output_tokens)


def demand_of(workflow: Workflow, stage_id: str) -> Demand:
    stage = workflow.stages[stage_id]
    return Demand(
        ref=StageRef(workflow.id, stage_id),
        model=stage.model,
        prompts=stage.prompts,
        prompt_tokens=stage.prompt_tokens,
        output_tokens=stage.expected_output_tokens,
        chain=workflow.chain(stage_id),
        inputs=tuple((parent, workflow.stages[parent].output_bytes) for parent in workflow.parents(stage_id)),
        max_shards=stage.max_shards,
    )
