"""When is there room on a place? Sequences in flight, the prefill slot, and groups that share devices."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_fate.cluster import ClusterState, PlaceState, Running

_OVERDUE_S = 0.1


def end_s(running: Running, now: float) -> float:
    """When it is expected to end: what outlasts its estimate may end any moment, but it has not ended."""
    return max(running.finish_s, now + _OVERDUE_S)


def slots_free_s(place: PlaceState, max_seqs: int, now: float) -> list[float]:
    """When each of the ``max_seqs`` sequence slots comes free, earliest first.

    A batch beyond ``max_seqs`` runs alone: it holds every slot to its end.
    """
    running = sorted((end_s(r, now), r.sequences) for r in place.running)
    ends = [finish_s for finish_s, sequences in running for _ in range(min(sequences, max_seqs))]
    free = max(0, max_seqs - len(ends))
    return [now] * free + ends[-max_seqs:]


def slot_of(prompts: int, max_seqs: int) -> int:
    """Index into `slots_free_s` of the slot that must be free before a batch can start."""
    return min(prompts, max_seqs) - 1


def prefill_slot_free_s(place: PlaceState, now: float) -> float:
    """When the prefill slot comes free; a place that runs nothing has an idle one whatever was estimated."""
    return max(now, place.prefill_free_s) if place.running else now


def closed_until_s(state: ClusterState, overlaps: Iterable[str], now: float) -> float:
    """When everything on the places that share a device with this one has ended."""
    return max((end_s(r, now) for other in overlaps for r in state.place(other).running), default=now)
