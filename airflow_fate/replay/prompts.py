"""Which texts have the lengths and shared beginnings that a workload says?

Texts consist of words that are one token each: of three letters, and with the space before them in the vocabularies of
most models. So their length in tokens is known before any engine has seen them; what engines counted says how well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from airflow_fate.workflow import Stage, StageRef, Workflow

_WORDS = (
    "the and for you not are but had has was all any can her him his how its let man may new now old one our out "
    "own put say see she too two use way who why yes yet day get got boy did end eye far few big air arm art ask "
    "bad bag bar bed bit box bus buy car cat cup cut dog dry ear eat egg fit fly fun gas god gun hat hit hot ice "
    "job key kid law lay led leg lie lip lot low map mix mom net oil pay pen pet pie pot red row run sad sea set "
    "sit six sky son sun tax tea ten tie top toy try war wet win"
)
WORDS = tuple(_WORDS.split())


@dataclass(frozen=True, slots=True)
class Conversation:
    """A prompt with its answer.

    :param tokens: as the engine counted them.
    """

    text: str
    tokens: int


def words(seed: str, tokens: int) -> str:
    """A text of so many tokens. Equal seeds give texts of which one begins with the other."""
    return "".join(f" {word}" for word in Random(seed).choices(WORDS, k=tokens))


class Prompts:
    """The prompts of a workload.

    :param salt: keeps the texts apart from those of another replay, of which an engine may still have some cached.
    """

    def __init__(self, workflows: Mapping[str, Workflow], salt: str) -> None:
        self._workflows = workflows
        self._salt = salt
        self._conversations: dict[StageRef, Conversation] = {}

    def of(self, ref: StageRef) -> list[str]:
        """The stage's prompts: what it continues, its shared segments, and for each prompt the rest to its length.

        Where the conversation is longer than its prompt may be, the prompt ends in the midst of it.
        """
        stage = self._workflows[ref.workflow].stages[ref.stage]
        begin, tokens = self._beginning(ref, stage)
        rest = max(stage.prompt_tokens, 1) - tokens
        return [
            begin + words(f"{self._salt}/{ref.workflow}/{ref.stage}/{number}", max(0, rest))
            for number in range(stage.prompts)
        ]

    def answered(self, ref: StageRef, prompt: str, answer: str, tokens: int) -> None:
        """Note how the stage's first prompt was answered, for those that continue it.

        :param tokens: of prompt and answer, as the engine counted them.
        """
        workflow = self._workflows[ref.workflow]
        if any(workflow.stages[child].continues == ref.stage for child in workflow.stages):
            self._conversations[ref] = Conversation(prompt + answer, tokens)

    def _beginning(self, ref: StageRef, stage: Stage) -> tuple[str, int]:
        """The text that the stage's prompts share, and its tokens."""
        pieces, tokens = [], 0
        if stage.continues is not None:
            said = self._conversations[StageRef(ref.workflow, stage.continues)]
            most = stage.prompt_tokens - sum(segment.tokens for segment in stage.prefix)
            pieces.append(said.text if said.tokens <= most else said.text[: len(said.text) * most // said.tokens])
            tokens = min(said.tokens, most)
        for segment in stage.prefix:
            pieces.append(words(f"{self._salt}/{segment.key}", segment.tokens))
            tokens += segment.tokens
        return "".join(pieces), tokens
