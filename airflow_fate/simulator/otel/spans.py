"""Which spans does a trace file have? OTLP's JSON, and the flat form in which collectors keep traces as documents.

An error names the span's place in the file, and the field.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from airflow_fate.simulator.checks import FileError

_OTLP, _FLAT = "resourceSpans", "spans"
_OTLP_NAMES = {
    "span_id": "spanId",
    "parent_span_id": "parentSpanId",
    "start_time": "startTimeUnixNano",
    "end_time": "endTimeUnixNano",
}
_MOST_S = 1e11


@dataclass(frozen=True)
class Span:
    """A span of a trace.

    :param where: its place in the file.
    :param parent: id of its parent; empty for a root.
    :param start_s: Unix seconds.
    :param links: (trace id, span id) of what it is linked to.
    """

    where: str
    trace: str
    id: str
    parent: str
    start_s: float
    end_s: float
    attributes: Mapping[str, Any]
    links: tuple[tuple[str, str], ...]

    def error(self, field: str, form: str) -> FileError:
        """What is wrong with a field of it.

        :param field: as the flat form has it.
        """
        name = _OTLP_NAMES.get(field, field) if self.where.startswith(_OTLP) else field
        return FileError(f"{self.where}.{name}: {form} (span {self.id})")


def is_trace(document: object) -> bool:
    """Whether a document has spans in one of the two forms."""
    return isinstance(document, dict) and (_OTLP in document or _FLAT in document)


def spans_of(document: Mapping[str, Any]) -> list[Span]:
    """All spans, in the order of the file.

    :raises FileError: naming the place and the expected form.
    """
    if _OTLP in document:
        return [_otlp(where, raw) for where, raw in _otlp_spans(document)]
    trace = document.get("trace_id")
    return [_flat(where, raw, trace) for where, raw in _listed(document, _FLAT, _FLAT)]


def _otlp_spans(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for resource, of_resource in _listed(document, _OTLP, _OTLP):
        for scope, of_scope in _listed(of_resource, "scopeSpans", f"{resource}.scopeSpans"):
            yield from _listed(of_scope, "spans", f"{scope}.spans")


def _listed(holder: Mapping[str, Any], key: str, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(place, item) of a list of objects."""
    items = holder.get(key, [])
    if not isinstance(items, list):
        raise FileError(f"{where}: must be a list, got {type(items).__name__}")
    for number, item in enumerate(items):
        if not isinstance(item, dict):
            raise FileError(f"{where}[{number}]: must be an object, got {type(item).__name__}")
        yield f"{where}[{number}]", item


def _flat(where: str, raw: Mapping[str, Any], trace: object) -> Span:
    attributes = raw.get("attributes") or {}
    if not isinstance(attributes, dict):
        raise FileError(f"{where}.attributes: must be an object, got {type(attributes).__name__}")
    links = _listed({"links": raw.get("links") or []}, "links", f"{where}.links")
    span = Span(
        where,
        _name(where, "trace_id", raw.get("trace_id", trace)),
        _name(where, "span_id", raw.get("span_id")),
        _name(where, "parent_span_id", raw.get("parent_span_id") or "", may_be_empty=True),
        _moment(where, "start_time", raw.get("start_time")),
        _moment(where, "end_time", raw.get("end_time")),
        attributes,
        tuple(
            (_name(at, "trace_id", link.get("trace_id", trace)), _name(at, "span_id", link.get("span_id")))
            for at, link in links
        ),
    )
    return _checked(span)


def _otlp(where: str, raw: Mapping[str, Any]) -> Span:
    links = _listed({"links": raw.get("links") or []}, "links", f"{where}.links")
    span = Span(
        where,
        _name(where, "traceId", raw.get("traceId")),
        _name(where, "spanId", raw.get("spanId")),
        _name(where, "parentSpanId", raw.get("parentSpanId") or "", may_be_empty=True),
        _nanoseconds(where, "startTimeUnixNano", raw.get("startTimeUnixNano")),
        _nanoseconds(where, "endTimeUnixNano", raw.get("endTimeUnixNano")),
        {
            str(item.get("key")): _value(item.get("value"))
            for _, item in _listed({"attributes": raw.get("attributes") or []}, "attributes", f"{where}.attributes")
        },
        tuple(
            (_name(at, "traceId", link.get("traceId")), _name(at, "spanId", link.get("spanId"))) for at, link in links
        ),
    )
    return _checked(span)


def _checked(span: Span) -> Span:
    if span.end_s < span.start_s:
        raise span.error("end_time", f"clocks run back: it ends {span.start_s - span.end_s:.6f} s before it begins")
    return span


def _name(where: str, field: str, value: object, may_be_empty: bool = False) -> str:
    if not isinstance(value, str) or not (value or may_be_empty):
        raise FileError(f"{where}.{field}: must be a text, got {value!r}")
    return value


def _moment(where: str, field: str, value: object) -> float:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise FileError(
            f"{where}.{field}: must be a time as 2026-01-31T09:30:00.5+00:00, got {str(value)[:80]!r}"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _nanoseconds(where: str, field: str, value: object) -> float:
    try:
        seconds = int(str(value)) / 1e9
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < _MOST_S:
        raise FileError(f"{where}.{field}: must be nanoseconds since 1970, got {str(value)[:80]!r}")
    return seconds


def _value(value: object) -> Any:
    """An OTLP value, ``{"stringValue": ...}`` and the like, as a plain one."""
    if not isinstance(value, dict) or len(value) != 1:
        return None
    ((kind, inner),) = value.items()
    match kind:
        case "intValue":
            return int(inner) if str(inner).lstrip("-").isdecimal() else None
        case "arrayValue":
            return [_value(item) for item in (inner or {}).get("values", [])]
        case "kvlistValue":
            return {str(item.get("key")): _value(item.get("value")) for item in (inner or {}).get("values", [])}
        case _:
            return inner
