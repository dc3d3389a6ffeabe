"""Which devices are not to be believed for now? Those that could not serve what they were bound for. Pure.

A gateway that says it could serve a model and then can't, or an engine that dies with every request, would otherwise
get one task after the other: it is always free. The time in which a device gets nothing doubles with each fault in a
row, and ends at once when its gateway starts anew.
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
class Doubt:
    """What is held against a device.

    :param faults: in a row.
    :param until_s: Unix seconds.
    :param gateway_started: of the gateway whose fault it was.
    """

    faults: int
    until_s: float
    gateway_started: float


@dataclass(frozen=True)
class Trust:
    """Doubts by device."""

    doubts: Mapping[str, Doubt] = field(default_factory=dict)

    def after(self, facts: Iterable[Facts], view: FleetView, now: float) -> Trust:
        """What is believed once a try has ended.

        :param facts: one for each device that served it.
        """
        doubts = dict(self.doubts)
        for fact in facts:
            report = view.reports.get(fact.device)
            if fact.fault and report:
                faults = doubts[fact.device].faults + 1 if fact.device in doubts else 1
                pause_s = min(LONGEST_S, FIRST_S * 2.0 ** (faults - 1))
                doubts[fact.device] = Doubt(faults, now + pause_s, report.gateway_started)
            elif fact.requests:
                doubts.pop(fact.device, None)
        return Trust(doubts)

    def of(self, view: FleetView, now: float) -> FleetView:
        """The view, without the devices that are not believed."""
        doubted = {
            device: False
            for device, doubt in self.doubts.items()
            if now < doubt.until_s
            and device in view.reports
            and view.reports[device].gateway_started == doubt.gateway_started
        }
        return replace(view, usable={**view.usable, **doubted}) if doubted else view
