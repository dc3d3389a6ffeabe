"""Which tokens of a prompt need not be computed again? Prefix chains and their least-recently-used cache."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from airflow_fate.cluster import CachedSegment
from airflow_fate.workflow import Segment


def cached_tokens(chain: Iterable[Segment], cache: Mapping[str, CachedSegment]) -> int:
    """Tokens of the longest chain of leading segments that lies in the cache."""
    tokens = 0
    for segment in chain:
        if segment.key not in cache:
            break
        tokens += segment.tokens
    return tokens


def remember(
    cache: Mapping[str, CachedSegment],
    segments: Collection[Segment],
    model: str,
    used_s: float,
    capacity_tokens: int,
) -> dict[str, CachedSegment]:
    """The cache after ``segments`` were used: they lie there, and what was used longest ago made room for them.

    Segments that were just used are never dropped, even where they alone exceed the capacity: they are in use.
    """
    after = dict(cache)
    for segment in segments:
        after[segment.key] = CachedSegment(segment.tokens, used_s, model)
    excess = sum(entry.tokens for entry in after.values()) - capacity_tokens
    if excess <= 0:
        return after
    in_use = {segment.key for segment in segments}
    for key in sorted(after, key=lambda key: (after[key].last_used_s, key)):
        if excess <= 0:
            break
        if key not in in_use:
            excess -= after.pop(key).tokens
    return after


def forget(cache: Mapping[str, CachedSegment], models: Collection[str]) -> dict[str, CachedSegment]:
    """The cache after ``models`` were evicted: their prefixes went with them."""
    return {key: entry for key, entry in cache.items() if entry.model not in models}
