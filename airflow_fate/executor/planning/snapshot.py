"""What is true of the fleet now, reservations included? The view of the state source plus the ledger, as a
``ClusterState``. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from airflow_fate.cluster import CachedSegment, ClusterState, PlaceState, Residency, Running
from airflow_fate.executor.runs.convert import stage_id, workflow_id
from airflow_fate.physics.terms import overdue_s

if TYPE_CHECKING:
    from airflow_fate.messages import DeviceReport
    from airflow_fate.state.ledger import Reservation
    from airflow_fate.state.source import FleetView


def cluster_state(
    view: FleetView,
    live: Iterable[Reservation],
    outputs: Mapping[tuple[str, str], tuple[tuple[str, float], ...]],
    now: float,
) -> ClusterState:
    """The planner's snapshot.

    A running stage's prefix is counted as cached already: whoever is sent there next will find it.

    :param live: live reservations of all schedulers.
    :param outputs: (workflow, stage) -> where its output lies, as (node id, share).
    :param now: Unix seconds, the clock of reports and reservations.
    """
    held: dict[str, list[Reservation]] = {}
    for reservation in live:
        for place in dict.fromkeys(share.place for share in reservation.shares):
            held.setdefault(place, []).append(reservation)
    places = {place: _place(place, view, held.get(place, ()), now) for place in view.fleet.places}
    return ClusterState(view.fleet, places, host_models(view), outputs)


def host_models(view: FleetView) -> dict[str, frozenset[str]]:
    """Node id -> models whose weights lie in its host memory."""
    hosts: dict[str, set[str]] = {}
    for device, report in view.reports.items():
        if device in view.fleet.devices:
            hosts.setdefault(view.fleet.devices[device].node, set()).update(report.host_models)
    return {node: frozenset(models) for node, models in hosts.items()}


def broken(view: FleetView, live: Iterable[Reservation]) -> list[Reservation]:
    """Reservations of groups that have lost a member, while another is still there."""
    devices, groups = view.fleet.devices, view.fleet.groups
    return [
        reservation
        for reservation in live
        if any(
            share.place != share.device and share.place not in groups and share.device in devices
            for share in reservation.shares
        )
    ]


def _place(place: str, view: FleetView, reservations: Iterable[Reservation], now: float) -> PlaceState:
    members = [member.id for member in view.fleet.members(place)]
    reports = [view.reports[member] for member in members if member in view.reports]
    usable = (
        place not in view.grouped
        and len(reports) == len(members)
        and all(view.usable.get(member, False) for member in members)
    )
    leader = reports[0] if reports else None
    resident = _resident(leader)
    cached = _cached(leader)
    running = []
    prefill_free_s = now
    for reservation in reservations:
        for at, model in reservation.evict:
            if at == place:
                resident.pop(model, None)
                cached = {key: segment for key, segment in cached.items() if segment.model != model}
        ready_s = reservation.claimed_at + reservation.cost.get("load", 0.0)
        resident.setdefault(reservation.model, Residency(reservation.model, ready_s, now))
        for key, tokens in reservation.chain:
            cached[key] = CachedSegment(tokens, now, reservation.model)
        expected_s = max(0.0, reservation.finish_at - reservation.claimed_at)
        prefill_end_s = reservation.prefill_end_at
        finish_s = now + overdue_s(expected_s, now - reservation.claimed_at)
        prefill_free_s = max(prefill_free_s, prefill_end_s)
        sequences = sum(
            share.sequences for share in reservation.shares if share.place == place and share.device == members[0]
        )
        running.append(
            Running(
                workflow_id(reservation.dag_id, reservation.run_id),
                stage_id(reservation.task_id, reservation.map_index),
                reservation.model,
                sequences,
                prefill_end_s,
                finish_s,
            )
        )
    return PlaceState(resident, cached, tuple(running), prefill_free_s, usable)


def _resident(report: DeviceReport | None) -> dict[str, Residency]:
    if report is None:
        return {}
    return {
        name: Residency(name, 0.0 if model.state == "ready" else model.since, model.last_used)
        for name, model in report.models.items()
    }


def _cached(report: DeviceReport | None) -> dict[str, CachedSegment]:
    if report is None:
        return {}
    return {key: CachedSegment(tokens, used, model) for key, tokens, used, model in report.prefixes}
