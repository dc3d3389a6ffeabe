"""What do real requests look like? The Azure and Mooncake traces: arrivals, lengths, and prompts that begin alike."""

from __future__ import annotations

import csv
import gzip
import io
import random
from collections import Counter
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from airflow_fate.workflow import Segment

BLOCK_TOKENS = 512
"""Length of the blocks under which Mooncake's trace names its prompts."""


class Request(NamedTuple):
    """A request of a trace.

    :param blocks: the prompt's blocks as (first id, count) runs. An id stands for a block and all before it.
    """

    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[tuple[int, int], ...] = ()


@cache
def azure() -> tuple[Request, ...]:
    """Conversations of Azure's LLM services: mostly one to four thousand tokens in, a hundred or more out."""
    return tuple(
        Request(float(row["arrival_s"]), int(row["prompt_tokens"]), int(row["output_tokens"]))
        for row in _rows("azure_llm_2023_conv.csv.gz")
    )


@cache
def mooncake() -> tuple[Request, ...]:
    """Conversations about long texts, many of which begin as an earlier one did."""
    return tuple(
        Request(float(row["arrival_s"]), int(row["prompt_tokens"]), int(row["output_tokens"]), _runs(row["blocks"]))
        for row in _rows("mooncake_conversation.csv.gz")
    )


def arrivals(rng: random.Random, count: int, span_s: float) -> list[float]:
    """The bursts and lulls of ``count`` consecutive requests of Azure's trace, over ``span_s`` seconds from 0."""
    requests = azure()
    first = rng.randrange(len(requests) - count)
    window = [request.arrival_s for request in requests[first : first + count]]
    length_s = (window[-1] - window[0]) or 1.0
    return [(arrival_s - window[0]) / length_s * span_s for arrival_s in window]


def sessions(rng: random.Random, count: int, most_tokens: int) -> list[list[tuple[Request, tuple[Segment, ...]]]]:
    """``count`` requests of Mooncake's trace in the sessions they belong to, each with its prompt as segments.

    A session is what begins with the same blocks after the first, which all prompts of the trace share. Blocks that
    always occur together make one segment.

    :param most_tokens: where a prompt is cut off.
    """
    by_start: dict[int, list[Request]] = {}
    for request in mooncake():
        ids = _ids(request, 2 * BLOCK_TOKENS)
        by_start.setdefault(ids[-1], []).append(request)
    chosen: list[list[Request]] = []
    missing = count
    for start in rng.sample(sorted(by_start), len(by_start)):
        if missing <= 0:
            break
        session = by_start[start][: min(missing, 8)]
        chosen.append(session)
        missing -= len(session)
    times = Counter(block for session in chosen for request in session for block in _ids(request, most_tokens))
    return [[(request, _segments(request, most_tokens, times)) for request in session] for session in chosen]


def _segments(request: Request, most_tokens: int, times: Counter[int]) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    ids = _ids(request, most_tokens)
    left = min(request.prompt_tokens, len(ids) * BLOCK_TOKENS)
    size = 0
    for block, following in zip(ids, [*ids[1:], None], strict=True):
        tokens = min(BLOCK_TOKENS, left)
        size, left = size + tokens, left - tokens
        if following is None or times[following] != times[block]:
            segments.append(Segment(f"text-{block}", size))
            size = 0
    return tuple(segments)


def _ids(request: Request, most_tokens: int) -> list[int]:
    every = [block for first, count in request.blocks for block in range(first, first + count)]
    return every[: max(1, most_tokens // BLOCK_TOKENS)]


def _runs(text: str) -> tuple[tuple[int, int], ...]:
    pairs = (run.split("+") for run in text.split())
    return tuple((int(first), int(count)) for first, count in pairs)


def _rows(name: str) -> csv.DictReader[str]:
    packed = files("airflow_fate.simulator").joinpath("data", name).read_bytes()
    return csv.DictReader(io.StringIO(gzip.decompress(packed).decode()))
