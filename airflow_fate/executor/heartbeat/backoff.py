"""Which devices get nothing for now? Those that could not serve what they were bound for. Pure.

A gateway that says it could serve a model and then can't, or an engine that dies with every request, would otherwise
get one task after the other: it is always free. The time in which such a device gets nothing doubles with each fault in
a row. It ends at once when the device's gateway starts anew. (Envoy calls this outlier detection.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_fate.messages import Facts
    from airflow_fate.state.source import FleetView

FIRST_S = 30.0
LONGEST_S = 900.0


@dataclass(frozen=True, slots=True)
class Pause:
    """A device's time without work.

    :param faults: in a row.
    :param until_s: Unix seconds.
    :param gateway_started: of the gateway whose fault it was, Unix seconds.
    """

    faults: int
    until_s: float
    gateway_started: float


@dataclass(frozen=True)
class OutlierBackoff:
    """Pauses by device."""

    pauses: Mapping[str, Pause] = field(default_factory=dict)

    def after(self, facts: Iterable[Facts], view: FleetView, now: float) -> OutlierBackoff:
        """The pauses once a try has ended.

        :param facts: one for each device that served it.
        """
        pauses = dict(self.pauses)
        for fact in facts:
            report = view.reports.get(fact.device)
            if fact.fault and report:
                faults = pauses[fact.device].faults + 1 if fact.device in pauses else 1
                length_s = min(LONGEST_S, FIRST_S * 2.0 ** (faults - 1))
                pauses[fact.device] = Pause(faults, now + length_s, report.gateway_started)
            elif fact.requests:
                pauses.pop(fact.device, None)
        return OutlierBackoff(pauses)

    def applied_to(self, view: FleetView, now: float) -> FleetView:
        """The view, in which the devices that have a pause can't be used."""
        paused = {
            device: False
            for device, pause in self.pauses.items()
            if now < pause.until_s
            and device in view.reports
            and view.reports[device].gateway_started == pause.gateway_started
        }
        return replace(view, usable={**view.usable, **paused}) if paused else view
