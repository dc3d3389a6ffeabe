"""What is the fleet doing? Devices by node, a page at a time, and sums over all of them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from airflow_fate.state.source import FleetView


class DeviceState(StrEnum):
    """Whether a device gets work, and if not, why."""

    READY = "ready"
    MEMBER = "member"
    DRAINING = "draining"
    STALE = "stale"
    NOT_READY = "not ready"
    UNSEEN = "unseen"


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One device.

    :param why: why it gets no work of its own; empty where it does.
    :param seen_age_s: since its last sign of life; None where there was none.
    :param resident: models that it serves now.
    :param asleep: models whose weights lie in its node's host memory only.
    :param sequences: how many decode at once.
    """

    device: str
    node: str
    zone: str
    gpu: str
    memory_bytes: float
    sequences: int
    state: DeviceState
    why: str
    seen_age_s: float | None
    resident: tuple[str, ...]
    loading: tuple[str, ...]
    asleep: tuple[str, ...]
    prefixes: int
    prefix_tokens: int
    running: int
    queued: int


@dataclass(frozen=True, slots=True)
class ModelRow:
    """On how many devices a model is."""

    model: str
    resident: int
    loading: int
    asleep: int


@dataclass(frozen=True, slots=True)
class FleetPage:
    """A page of devices, and sums over the whole fleet.

    :param states: state -> number of devices.
    :param matching: devices that the filter leaves; ``devices`` is a part of them.
    """

    nodes: int
    states: dict[str, int]
    models: tuple[ModelRow, ...]
    prefixes: int
    running: int
    queued: int
    matching: int
    devices: tuple[DeviceRow, ...]


def fleet_page(
    view: FleetView, stale_after_s: float, *, text: str = "", state: DeviceState | None = None, offset: int, limit: int
) -> FleetPage:
    """Devices in the order of their nodes.

    :param stale_after_s: a device that was silent for longer gets no work.
    :param text: only devices that have it in their name, or that of their node, GPU or one of their models.
    :param state: only devices in this state.
    """
    rows = [_row(view, name, stale_after_s) for name in view.fleet.devices]
    rows.sort(key=lambda row: (row.node, row.device))
    chosen = [row for row in rows if (state is None or row.state == state) and _has(row, text.casefold())]
    return FleetPage(
        nodes=len(view.fleet.nodes),
        states=dict(Counter(str(row.state) for row in rows)),
        models=_models(view, rows),
        prefixes=sum(row.prefixes for row in rows),
        running=sum(row.running for row in rows),
        queued=sum(row.queued for row in rows),
        matching=len(chosen),
        devices=tuple(chosen[offset : offset + limit]),
    )


def _row(view: FleetView, name: str, stale_after_s: float) -> DeviceRow:
    device, report = view.fleet.devices[name], view.reports.get(name)
    models = report.models if report else {}
    state, why = _state(view, name, stale_after_s)
    return DeviceRow(
        device=name,
        node=device.node,
        zone=view.fleet.nodes[device.node].zone,
        gpu=device.gpu,
        memory_bytes=device.memory_bytes,
        sequences=device.max_seqs,
        state=state,
        why=why,
        seen_age_s=view.seen_age_s.get(name),
        resident=tuple(sorted(model for model, known in models.items() if known.state == "ready")),
        loading=tuple(sorted(model for model, known in models.items() if known.state == "loading")),
        asleep=tuple(sorted(set(report.host_models) - models.keys())) if report else (),
        prefixes=len(report.prefixes) if report else 0,
        prefix_tokens=sum(tokens for _, tokens, *_ in report.prefixes) if report else 0,
        running=report.running if report else 0,
        queued=report.queued if report else 0,
    )


def _state(view: FleetView, name: str, stale_after_s: float) -> tuple[DeviceState, str]:
    report = view.reports.get(name)
    if report is None:
        return DeviceState.UNSEEN, "its gateway has published nothing yet"
    if report.draining:
        return DeviceState.DRAINING, "it serves what is bound to it and takes nothing new"
    if view.seen_age_s.get(name, 0.0) > stale_after_s:
        return DeviceState.STALE, f"its gateway has been silent for more than {stale_after_s:g} s"
    if not view.usable.get(name, False):
        return DeviceState.NOT_READY, "its pod is not ready, or its node takes no pods"
    if name in view.grouped:
        return DeviceState.MEMBER, "it serves as a member of its group only"
    return DeviceState.READY, ""


def _models(view: FleetView, rows: Iterable[DeviceRow]) -> tuple[ModelRow, ...]:
    resident, loading, asleep = Counter[str](), Counter[str](), Counter[str]()
    for row in rows:
        resident.update(row.resident)
        loading.update(row.loading)
        asleep.update(row.asleep)
    names = {*view.fleet.models, *resident, *loading, *asleep}
    return tuple(ModelRow(name, resident[name], loading[name], asleep[name]) for name in sorted(names))


def _has(row: DeviceRow, text: str) -> bool:
    words = (row.device, row.node, row.gpu, *row.resident, *row.loading, *row.asleep)
    return any(text in word.casefold() for word in words)
