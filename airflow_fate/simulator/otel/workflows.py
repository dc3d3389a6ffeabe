"""Which workflow was a trace? Its calls of models and tools are stages, ordered by time.

A call depends on all calls of its trace that had ended when it began. So what ran side by side may do so again, and
what came after something comes after it again, whether or not the trace says why. What passed between is a tool of its
own. Causes that the trace tells, parents and links, are held against that order. (inference-perf takes the calls whose
output a prompt contains, and of the others the closest one that had ended.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from airflow_fate.simulator.checks import FileError
from airflow_fate.simulator.otel.calls import CHARS_PER_TOKEN, MODEL, Call, Message, call_of
from airflow_fate.simulator.otel.spans import Span, spans_of
from airflow_fate.simulator.workload import Workload
from airflow_fate.workflow import Segment, Stage, StageKind, StageRef, Workflow, extend_chain

CLOCK_S = 0.001
"""Clocks of two services may differ by so much; a shorter pause between two calls is none."""


def workload_of(name: str, document: Mapping[str, Any]) -> Workload:
    """Each trace of a document as a workflow, under the models' own names.

    A policy is told the real length of each output, for a trace doesn't say what was expected of it.

    :raises FileError: naming the span and the field, or the trace.
    """
    traces: dict[str, list[Span]] = {}
    for span in spans_of(document):
        traces.setdefault(span.trace, []).append(span)
    calls = {trace: _calls(spans) for trace, spans in traces.items()}
    calls = {trace: of_trace for trace, of_trace in calls.items() if any(call.is_llm for call in of_trace)}
    if not calls:
        raise FileError(f"spans: none of them calls a model, which {MODEL} would say")
    began_s = min(of_trace[0].span.start_s for of_trace in calls.values())
    continued = {trace: _continued(of_trace) for trace, of_trace in calls.items()}
    shared = Counter(
        chain
        for trace, of_trace in calls.items()
        for call in of_trace
        if call.span.id not in continued[trace]
        for chain in _chains(call)
    )
    return Workload(
        name,
        tuple(_workflow(trace, of_trace, continued[trace], shared, began_s) for trace, of_trace in calls.items()),
        {
            StageRef(trace, call.span.id): call.output_tokens
            for trace, of_trace in calls.items()
            for call in of_trace
            if call.is_llm
        },
    )


def _calls(spans: Sequence[Span]) -> list[Call]:
    """The calls of a trace, by their beginning. Of those that contain others, only the inner ones do the work."""
    known: dict[str, Span] = {}
    for span in spans:
        if span.id in known:
            raise span.error("span_id", f"must be unique in its trace, as in {known[span.id].where}")
        known[span.id] = span
    for span in spans:
        _check_causes(span, known)
    calls = {span.id: call for span in spans if (call := call_of(span)) is not None}
    wrappers = {
        above.id
        for name in calls
        for above in _ancestors(known[name], known)
        if above.id in calls and known[name].end_s <= above.end_s + CLOCK_S
    }
    for name, call in calls.items():
        for trace, linked in call.span.links:
            cause = calls.get(linked) if trace == call.span.trace else None
            if cause and name not in wrappers and cause.span.end_s > call.span.start_s + CLOCK_S:
                late_s = cause.span.end_s - call.span.start_s
                raise call.span.error("links", f"clocks run back: it begins {late_s:.6f} s before {linked} ended")
    inner = (call for name, call in calls.items() if name not in wrappers)
    return sorted(inner, key=lambda call: (call.span.start_s, call.span.end_s, call.span.id))


def _check_causes(span: Span, known: Mapping[str, Span]) -> None:
    """:raises FileError: where parents or links lead nowhere, in a circle, or back in time."""
    seen = [span.id]
    for above in _ancestors(span, known):
        if above.id in seen:
            circle = " -> ".join([*seen[seen.index(above.id) :], above.id])
            raise span.error("parent_span_id", f"parents form a cycle: {circle}")
        seen.append(above.id)
    parent = known.get(span.parent)
    if span.parent and parent is None:
        raise span.error("parent_span_id", f"must be a span of its trace, of which {span.parent!r} is missing")
    if parent and span.start_s < parent.start_s - CLOCK_S:
        early_s = parent.start_s - span.start_s
        raise span.error("start_time", f"clocks run back: it begins {early_s:.6f} s before its parent {parent.id}")
    for trace, linked in span.links:
        if trace == span.trace and linked not in known:
            raise span.error("links", f"must be spans that are there, of which {linked!r} is missing")


def _ancestors(span: Span, known: Mapping[str, Span]) -> Iterator[Span]:
    while span.parent in known:
        span = known[span.parent]
        yield span


def _continued(calls: Sequence[Call]) -> dict[str, str]:
    """Call -> the call whose prompt and answer its own prompt begins with: the longest such one."""
    found = {}
    for number, call in enumerate(calls):
        best = 0
        for earlier in calls[:number]:
            said = (*earlier.messages, Message("assistant", earlier.answer))
            is_before = earlier.span.end_s <= call.span.start_s + CLOCK_S
            begins = earlier.answer and call.messages[: len(said)] == said and earlier.model == call.model
            if is_before and begins and len(said) > best:
                best, found[call.span.id] = len(said), earlier.span.id
    return found


def _chains(call: Call) -> list[str]:
    """The beginnings of a prompt, message by message."""
    chains: list[str] = []
    for message in call.messages:
        chains.append(extend_chain(chains[-1] if chains else call.model, message.key))
    return chains


def _workflow(
    trace: str, calls: Sequence[Call], continued: Mapping[str, str], shared: Mapping[str, int], began_s: float
) -> Workflow:
    first_s = calls[0].span.start_s
    stages: dict[str, Stage] = {}
    edges: list[tuple[str, str]] = []
    for number, call in enumerate(calls):
        name = call.span.id
        before = _before(calls[:number], call)
        pause_s = call.span.start_s - max((cause.span.end_s for cause in before), default=first_s)
        after = name
        if pause_s > CLOCK_S:
            after = f"{name}.pause"
            stages[after] = Stage(after, StageKind.TOOL, duration_s=pause_s)
            edges.append((after, name))
        edges += [(cause.span.id, after) for cause in before]
        parent = continued.get(name)
        if parent and (parent, name) not in edges:
            edges.append((parent, name))
        stages[name] = _stage(call, parent, shared)
    return Workflow(trace, stages, tuple(edges), first_s - began_s)


def _before(earlier: Sequence[Call], call: Call) -> list[Call]:
    """Those that had ended when the call began, without those that others of them came after."""
    ended = [other for other in earlier if other.span.end_s <= call.span.start_s + CLOCK_S]
    if not ended:
        return []
    last = ended[-1]
    return [other for other in ended if other is last or other.span.end_s > last.span.start_s + CLOCK_S]


def _stage(call: Call, parent: str | None, shared: Mapping[str, int]) -> Stage:
    if not call.is_llm:
        return Stage(call.span.id, StageKind.TOOL, duration_s=call.span.end_s - call.span.start_s)
    return Stage(
        call.span.id,
        model=call.model,
        prompt_tokens=call.prompt_tokens,
        expected_output_tokens=call.output_tokens,
        prefix=() if parent else tuple(_prefix(call, shared)),
        continues=parent,
        output_bytes=len(call.answer.encode()) or call.output_tokens * CHARS_PER_TOKEN,
    )


def _prefix(call: Call, shared: Mapping[str, int]) -> Iterable[Segment]:
    """The messages with which other prompts begin, too; each has its part of the tokens by its part of the text."""
    chars = sum(len(message.text) for message in call.messages)
    seen = tokens = 0
    for message, chain in zip(call.messages, _chains(call), strict=True):
        if shared[chain] < 2:
            return
        seen += len(message.text)
        until = call.prompt_tokens * seen // chars if chars else 0
        yield Segment(message.key, until - tokens)
        tokens = until
