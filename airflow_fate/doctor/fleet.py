"""Is there a fleet, is it alive, and does it serve anything? From what the scheduler would see. Pure."""

from __future__ import annotations

from airflow_fate.doctor.finding import Finding, failure, not_checked, ok, warning
from airflow_fate.messages.report import REPORT_VERSION
from airflow_fate.planner.reasons import why_nowhere
from airflow_fate.state.source import FleetView

NAMED = 5


def check_fleet(view: FleetView, stale_after_s: float, how_to_start: str) -> list[Finding]:
    """Devices, their signs of life, and their models.

    :param how_to_start: what makes a device appear.
    """
    devices = view.fleet.devices
    if not devices:
        none = "no device is known"
        return [failure("devices", none, how_to_start), *(not_checked(name, none) for name in ("signals", "models"))]
    return [_check_devices(view), _check_signals(view, stale_after_s), _check_models(view)]


def _check_devices(view: FleetView) -> Finding:
    unusable = sorted(device for device in view.fleet.devices if not view.usable.get(device))
    seen = f"{len(view.fleet.devices) - len(unusable)} of {len(view.fleet.devices)} may get tasks"
    if not unusable:
        return ok("devices", seen)
    text = f"{seen}; not {_some(unusable)}"
    remedy = "see whether their gateways and nodes are ready: `fate state`"
    return (
        warning("devices", text, remedy)
        if len(unusable) < len(view.fleet.devices)
        else failure("devices", text, remedy)
    )


def _check_signals(view: FleetView, stale_after_s: float) -> Finding:
    silent = sorted(device for device in view.fleet.devices if device not in view.reports)
    if silent:
        return warning("signals", f"nothing is known of {_some(silent)}", "see the logs of their gateways")
    other = sorted(device for device, report in view.reports.items() if report.version != REPORT_VERSION)
    if other:
        return warning("signals", f"other version of the report: {_some(other)}", "upgrade gateways and scheduler")
    oldest = max(view.reports, key=lambda device: view.seen_age_s.get(device, 0.0))
    age_s = view.seen_age_s.get(oldest, 0.0)
    seen = f"the oldest sign of life is {age_s:.0f} s old ({oldest}); the limit is {stale_after_s:.0f} s"
    if age_s > stale_after_s:
        return warning("signals", seen, "see that gateway's log, and its way to the API server")
    return ok("signals", seen)


def _check_models(view: FleetView) -> Finding:
    if not view.fleet.models:
        return failure("models", "no model is known", "name models in the fleet file or in [fate] models_file")
    known = view.fleet.models.keys()
    served: set[str] = set()
    for report in view.reports.values():
        served |= known if report.serves is None else known & set(report.serves)
    nowhere = sorted(known - served)
    seen = f"{len(served)} of {len(view.fleet.models)} have a device"
    if nowhere:
        return warning("models", f"{seen}; none serves {_some(nowhere)}", "add a pool for them, or take them out")
    unplaced = [reason for model in sorted(served) if (reason := why_nowhere(view.fleet, model))]
    if unplaced:
        remedy = "list speeds by the GPU's name, and say what memory there is, in [fate] models_file and pools"
        text = f"{len(unplaced)} of {len(view.fleet.models)} can be placed nowhere: {_some(unplaced, '; ')}"
        return (warning if len(unplaced) < len(view.fleet.models) else failure)("models", text, remedy)
    return ok("models", seen)


def _some(names: list[str], between: str = ", ") -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return between.join(names[:NAMED]) + more
