"""Is the use of each place allowed: its memory, its network, its caches, its prefill lane, its seats?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from airflow_fate.cluster import Fleet
from airflow_fate.workflow import StageRef
from tests.unit.simulator.checked_log import SAME_S, Event, Log, Span, overlap, same


@dataclass
class _Stay:
    """A model on a place, from the start of its load to its eviction."""

    load: Event
    evict_s: float = float("inf")

    @property
    def loaded_s(self) -> float:
        return float(self.load["t"] + self.load["seconds"])


def _stays(log: Log) -> tuple[dict[tuple[str, str], list[_Stay]], list[str]]:
    stays: dict[tuple[str, str], list[_Stay]] = defaultdict(list)
    wrong = []
    for event in log.events:
        if event["event"] not in ("load", "evict"):
            continue
        here = stays[event["device"], event["model"]]
        is_there = bool(here) and here[-1].evict_s == float("inf")
        if event["event"] == "load" and not is_there:
            here.append(_Stay(event))
        elif event["event"] == "evict" and is_there and here[-1].loaded_s <= event["t"] + SAME_S:
            here[-1].evict_s = event["t"]
        else:
            wrong.append(f"loads what is there or evicts what isn't: {event}")
    return stays, wrong


def check_weights(log: Log) -> Iterator[str]:
    """Models are loaded before they are used, one after another, and all that is there fits."""
    stays, wrong = _stays(log)
    yield from wrong
    for span in log.spans:
        here = stays[span.place, span.bind["model"]]
        if not any(s.loaded_s <= span.prefill["t"] + SAME_S and s.evict_s >= span.end_s - SAME_S for s in here):
            yield f"its model is not there: {span.prefill}"
    for device in log.fleet.devices.values():
        loads = []
        room: list[tuple[float, int, float]] = []
        for (place, model), here in stays.items():
            if device.id not in log.members(place):
                continue
            share = log.fleet.models[model].weights_bytes / len(log.members(place))
            loads += [(stay.load["t"], stay.loaded_s) for stay in here]
            # What leaves at a time leaves before what comes at that time.
            room += [(stay.load["t"], 1, share) for stay in here] + [(stay.evict_s, 0, -share) for stay in here]
        if overlap(loads):
            yield f"two loads at once on {device.id}"
        used = 0.0
        for t, _, share in sorted(room):
            used += share
            if used > device.memory_bytes * (1 + 1e-9):
                yield f"{used} bytes on {device.id} at {t}"
    yield from _sources(log)


def _sources(log: Log) -> Iterator[str]:
    """Weights come from the node's memory where they lie there, least recently used out, and else from the disk."""
    used: dict[str, dict[str, float]] = {node: {} for node in log.fleet.nodes}
    unsure: set[str] = set()
    loads = [(e["t"], 1, e) for e in log.by_kind["load"]]
    loads += [(e["t"] + e["seconds"], 0, e) for e in log.by_kind["load"]]
    for t, begins, event in sorted(loads, key=lambda each: (each[0], each[1], each[2]["model"])):
        node, model = log.node(event["device"]), log.fleet.models[event["model"]]
        if not log.fleet.can_hold(event["device"], model.name):
            yield f"a place that can't hold it: {event}"
        if not begins:
            used[node][model.name] = t
            if not _drop(used[node], log.fleet, node, model.name):
                unsure.add(node)
            continue
        if node in unsure:
            continue
        expected = "host" if model.name in used[node] else "disk"
        rate = model.host_bytes_per_s if expected == "host" else model.disk_bytes_per_s
        if event["source"] != expected or event["why"] not in ("demand", "prefetch", "replicate"):
            yield f"comes from the {expected}: {event}"
        elif not same(event["seconds"], model.weights_bytes / len(log.members(event["device"])) / rate):
            yield f"a load that takes another time: {event}"


def _drop(used: dict[str, float], fleet: Fleet, node: str, newest: str) -> bool:
    """Let leave what must; False where two were used at the same time, so that either may have left."""
    is_sure = True
    while sum(fleet.models[name].weights_bytes for name in used) > fleet.nodes[node].host_bytes:
        gone_s = used.pop(min(used, key=lambda name: (name == newest, used[name])))
        is_sure = is_sure and not any(abs(t - gone_s) <= SAME_S for t in used.values())
    return is_sure


def check_inputs(log: Log) -> Iterator[str]:
    """The outputs of the parents come from other nodes, one after another, before the prefill."""
    moves: dict[tuple[str, str, int], list[Event]] = defaultdict(list)
    for event in log.by_kind["transfer"]:
        moves[event["workflow"], event["stage"], event["shard"]].append(event)
    for span in log.spans:
        here = log.node(span.place)
        want: Counter[str] = Counter()
        for parent in log.workflows[span.ref.workflow].parents(span.ref.stage):
            of = log.stages[StageRef(span.ref.workflow, parent)]
            for source in log.spans_of(StageRef(span.ref.workflow, parent)):
                if log.node(source.place) != here:
                    want[parent] += of.output_bytes * source.bind["prompts"] / of.prompts
        at_s, came = span.bind["t"], Counter[str]()
        for move in sorted(moves.pop((*span.ref, span.bind["shard"]), []), key=lambda move: move["t"]):
            seconds = log.fleet.latency_s + move["bytes"] * 8 / (log.fleet.nodes[here].gbps * 1e9)
            if not same(move["t"], at_s) or not same(move["seconds"], seconds) or move["device"] != span.place:
                yield f"moves at another time or speed: {move}"
            at_s = move["t"] + move["seconds"]
            came[move["parent"]] += move["bytes"]
        if want.keys() != came.keys() or not all(same(want[parent], came[parent]) for parent in want):
            yield f"{dict(came)} came for {span.ref}, not {dict(want)}"
        if span.prefill["t"] < at_s - SAME_S:
            yield f"starts before its inputs are there: {span.prefill}"
    yield from (f"moves for nobody: {move}" for rest in moves.values() for move in rest)


_Path = tuple[Any, ...]


def _chain(log: Log, span: Span) -> list[tuple[_Path, int]]:
    """The segments of a shard's prompt: what they are, on this place, and how long."""
    stage = log.stages[span.ref]
    path: _Path = (span.place, stage.model)
    links: list[tuple[_Path, int]] = []
    if stage.continues is not None:
        talk = StageRef(span.ref.workflow, stage.continues)
        path = (*path, talk)
        links.append((path, log.stages[talk].prompt_tokens + log.workload.output_tokens[talk]))
    for segment in stage.prefix:
        path = (*path, segment.key)
        links.append((path, segment.tokens))
    return links


def check_prefills(log: Log) -> Iterator[str]:
    """One prefill at a time; what is not computed was computed there before and fits into the cache."""
    evicted: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in log.by_kind["evict"]:
        evicted[event["device"], event["model"]].append(event["t"])
    computed: dict[_Path, list[float]] = defaultdict(list)
    for span in log.spans:
        for path, _ in _chain(log, span):
            if not isinstance(path[-1], StageRef):
                computed[path].append(span.prefilled_s)
        computed[span.place, span.bind["model"], span.ref].append(span.end_s)
    for place in log.fleet.places:
        if overlap([(s.prefill["t"], s.prefilled_s) for s in log.spans if s.place == place]):
            yield f"two prefills at once on {place}"
    for span in log.spans:
        stage, links, event = log.stages[span.ref], _chain(log, span), span.prefill
        most = max(0, stage.prompt_tokens - 1)
        lengths = [min(most, sum(tokens for _, tokens in links[:n])) for n in range(len(links) + 1)]
        if event["cached"] not in lengths:
            yield f"no such leading segments: {event}"
            continue
        cached_links = links[: lengths.index(event["cached"])]
        for path, _ in cached_links:
            gone_s = [t for t in evicted[path[0], path[1]] if t <= event["t"] + SAME_S]
            since_s = max(gone_s, default=0.0)
            if not any(since_s - SAME_S <= t <= event["t"] + SAME_S for t in computed[path]):
                yield f"was never computed there: {path[2:]} of {event}"
        if sum(tokens for _, tokens in cached_links) > log.fleet.members(span.place)[0].kv_tokens:
            yield f"more cached than there is room for: {event}"
        shared = max(event["cached"], lengths[-1])
        tokens = max(1, stage.prompt_tokens - event["cached"])
        tokens += (span.bind["prompts"] - 1) * max(1, stage.prompt_tokens - shared)
        if event["tokens"] != tokens:
            yield f"{tokens} tokens must be computed: {event}"
        if _batch_tokens(log, span.place):
            continue
        if not same(event["seconds"], tokens / log.fleet.models[stage.model].prefill_tps[log.gpu(span.place)]):
            yield f"a prefill that takes another time: {event}"


def check_groups(log: Log) -> Iterator[str]:
    """While a group is busy, nothing else runs on its devices."""
    for group in log.fleet.groups:
        for other in log.fleet.places:
            if other == group or log.members(group).isdisjoint(log.members(other)):
                continue
            for mine in (span for span in log.spans if span.place == group):
                for theirs in (span for span in log.spans if span.place == other):
                    begin_s = max(mine.prefill["t"], theirs.prefill["t"])
                    if begin_s < min(mine.end_s, theirs.end_s) - SAME_S:
                        yield f"{group} and {other} at once: {mine.ref}, {theirs.ref}"


def _batch_tokens(log: Log, place: str) -> int:
    """Tokens of its steps; 0 where prompts take none of those that others decode in."""
    return log.fleet.members(place)[0].batch_tokens


def _decode_tps(log: Log, span: Span) -> float:
    return log.fleet.models[span.bind["model"]].decode_tps[log.gpu(span.place)]


def _prefill_tps(log: Log, span: Span) -> float:
    return log.fleet.models[span.bind["model"]].prefill_tps[log.gpu(span.place)]


def _step(log: Log, place: str, beside: list[Span]) -> float:
    """How many times longer than alone a step of those who decode takes; 0 where nobody does."""
    if not beside:
        return 0.0
    gpu, models = log.gpu(place), [log.fleet.models[span.bind["model"]] for span in beside]
    sequences = sum(span.bind["prompts"] for span in beside)
    context = sum(
        span.bind["prompts"] * (log.stages[span.ref].prompt_tokens + log.workload.output_tokens[span.ref] / 2)
        for span in beside
    )
    further = max(model.decode_slowdown.get(gpu, log.fleet.decode_slowdown) for model in models)
    context *= max(model.context_slowdown.get(gpu, 0.0) for model in models) / 1000
    return float(1 + further * (sequences - 1) + context)


def check_decodes(log: Log) -> Iterator[str]:
    """All on a place decode together, each slowed down by the others, never too many, first come first served."""
    for place in log.fleet.places:
        here = [span for span in log.spans if span.place == place]
        most = log.fleet.members(place)[0].max_seqs
        times = sorted({t for s in here for t in (s.prefill["t"], s.prefilled_s, s.decode["t"], s.end_s)})
        done = dict.fromkeys((id(span) for span in here), 0.0)
        read = dict.fromkeys((id(span) for span in here), 0.0)
        for begin_s, end_s in pairwise(times):
            if end_s <= begin_s + 1e-9:
                continue
            beside = [s for s in here if s.decode["t"] <= begin_s and s.end_s >= end_s]
            reading = [s for s in here if s.prefill["t"] <= begin_s and s.prefilled_s >= end_s]
            sequences = sum(span.bind["prompts"] for span in beside)
            if sequences > most and len(beside) > 1:
                yield f"{sequences} sequences on {place} at {begin_s}"
            step = _step(log, place, beside)
            chunk = 0.0
            if reading and _batch_tokens(log, place):
                (prompt,) = reading
                tokens = max(1, min(_batch_tokens(log, place) - sequences, prompt.prefill["tokens"]))
                chunk = tokens * _decode_tps(log, prompt) / _prefill_tps(log, prompt)
                read[id(prompt)] += (end_s - begin_s) * tokens * _decode_tps(log, prompt) / (step + chunk)
            for span in beside:
                done[id(span)] += (end_s - begin_s) / (step + chunk)
        for span in here:
            want = log.workload.output_tokens[span.ref]
            wrote = done[id(span)] * _decode_tps(log, span)
            if _batch_tokens(log, place) and not same(read[id(span)], span.prefill["tokens"]):
                yield f"time for {read[id(span)]} tokens: {span.prefill}"
            if abs(wrote - want) > 1e-3 + 1e-6 * want:
                yield f"time for {wrote} tokens, not {want}: {span.decode}"
        for earlier in here:
            for other in here:
                if (
                    earlier.prefilled_s < other.prefilled_s - SAME_S
                    and earlier.decode["t"] > other.decode["t"] + SAME_S
                ):
                    yield f"is overtaken: {earlier.decode}"
