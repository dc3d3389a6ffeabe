"""How is a batch answered? Each prompt by the device of its share. What is answered outlives a failed try."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError

from airflow_fate.messages import digest

if TYPE_CHECKING:
    from airflow_fate.messages import Binding, Share

log = logging.getLogger(__name__)
ANSWERS_KEY = "fate.answers"
"""In the task state store, which all tries of a task share."""


class PromptsFailed(Exception):
    """Some prompts of a batch got no answer.

    :param is_final: whether none of them ever will.
    """

    def __init__(self, message: str, is_final: bool) -> None:
        super().__init__(message)
        self.is_final = is_final


class KeptAnswers(BaseModel):
    """Answers of earlier tries to the same prompts.

    :param digest: of the prompts.
    :param answers: index of the prompt -> its answer as JSON.
    """

    model_config = ConfigDict(frozen=True)

    digest: str
    answers: dict[int, str]


class Answers:
    """What is answered of a batch, over all of the task's tries.

    :param output_type: of one answer, as the operator has it.
    """

    def __init__(self, prompts: Sequence[Any], output_type: Any) -> None:
        self._digest = digest(repr(list(prompts)))
        self._count = len(prompts)
        self.known: dict[int, Any] = {}
        try:
            self._type: TypeAdapter[Any] | None = TypeAdapter(output_type)
        except (PydanticSchemaGenerationError, TypeError):
            # What pydantic can't write down is asked for again.
            self._type = None

    @property
    def missing(self) -> list[int]:
        return [index for index in range(self._count) if index not in self.known]

    def take_in(self, kept: str) -> None:
        """Take over what an earlier try has kept, if it was asked the same."""
        try:
            earlier = KeptAnswers.model_validate_json(kept)
            if self._type is None or earlier.digest != self._digest:
                return
            self.known |= {
                index: self._type.validate_json(answer)
                for index, answer in earlier.answers.items()
                if 0 <= index < self._count
            }
        except ValidationError as error:
            log.warning("Answers of an earlier try can't be read, all prompts are asked again: %s", error)

    def kept(self) -> str | None:
        """What the next try needs, as JSON; None when there is nothing."""
        if self._type is None or not self.known:
            return None
        answers = {index: self._type.dump_json(answer).decode() for index, answer in self.known.items()}
        return KeptAnswers(digest=self._digest, answers=answers).model_dump_json()

    def in_order(self) -> list[Any]:
        return [self.known[index] for index in range(self._count)]


async def ask_missing(
    answers: Answers, binding: Binding | None, ask: Callable[[int, Share | None], Awaitable[Any]]
) -> None:
    """Ask for each answer that is missing, as many at once as each device has sequences for.

    :param ask: answers the prompt of an index on the device of a share.
    :raises PromptsFailed: when some failed; the other answers are known then.
    """
    from airflow.sdk.exceptions import AirflowFailException

    missing = answers.missing
    shares = shares_of(binding, len(missing)) if binding else [None] * len(missing)
    slots: Mapping[str, AbstractAsyncContextManager[Any]] = {
        share.device: asyncio.Semaphore(share.sequences) for share in shares if share and share.sequences
    }

    async def answer_one(index: int, share: Share | None) -> None:
        async with slots.get(share.device, nullcontext()) if share else nullcontext():
            answers.known[index] = await ask(index, share)

    work = [answer_one(index, share) for index, share in zip(missing, shares, strict=True)]
    results = await asyncio.gather(*work, return_exceptions=True)
    failed = {index: error for index, error in zip(missing, results, strict=True) if isinstance(error, BaseException)}
    for error in failed.values():
        if not isinstance(error, Exception):
            raise error
    if failed:
        first = next(iter(failed))
        raise PromptsFailed(
            f"{len(failed)} of {len(missing)} prompts failed, the first of them prompts[{first}]: {failed[first]}",
            is_final=all(isinstance(error, AirflowFailException) for error in failed.values()),
        ) from failed[first]


def shares_of(binding: Binding, count: int) -> list[Share | None]:
    """For each prompt, in order, the share that it falls into."""
    shares: list[Share | None] = []
    for share in binding.shares:
        shares += [share] * share.prompts
    # A templated batch may be longer than was planned for: the last device takes the rest.
    return (shares + [binding.shares[-1]] * count)[:count]
