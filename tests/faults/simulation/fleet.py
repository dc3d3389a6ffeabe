"""What do gateways do? Each checks tokens and keeps fences as the real one does, and answers at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_fate.cluster import Device, DeviceGroup, Fleet, ModelSpec, Node
from airflow_fate.gateway.serving.fences import Fences
from airflow_fate.messages import TokenError, verify
from airflow_fate.state.source import FleetView
from tests.faults.simulation.history import Asked, Forgot, History, Noted, Served, Told
from tests.unit.executor.builders import SECRET, report

CAPACITIES = {"d0": 1, "d1": 2, "d2": 2}
MODEL = ModelSpec("m", 1e9, 1e9, 2e9, {"cpu": 100.0}, {"cpu": 10.0})
BIG = ModelSpec("big", 1e9, 1e9, 2e9, {"cpu": 100.0}, {"cpu": 10.0}, group_size=2)
"""It needs both devices of a group."""


@dataclass
class Gateway:
    """A device's gateway.

    :param max_seqs: that its engine takes at once.
    """

    device: str
    history: History
    max_seqs: int
    fences: Fences = field(default_factory=Fences)
    is_up: bool = True
    is_draining: bool = False

    def ask(self, token: str, now: float) -> str:
        """Serve a request.

        :param now: Unix seconds.
        :return: why it is not served; empty where it is.
        """
        if not self.is_up:
            return "nobody answers"
        try:
            claims = verify(token, SECRET, (self.device,))
        except TokenError as error:
            return str(error)
        if claims.exp < now:
            return "the token has expired"
        self.fences.learn(claims)
        self.history.add(Asked(self.device, claims.jti))
        if reason := self.fences.refusal(claims):
            self.history.add(Noted(f"{self.device} refuses {claims.jti}: {reason}"))
            return reason
        self.history.add(Served(self.device, claims.jti, claims.sub, claims.aud == self.device))
        return ""

    def end(self, reservation: str) -> None:
        if self.is_up:
            self.fences.end(reservation)
            self.history.add(Told(self.device, reservation))

    def restart(self) -> None:
        """It comes up again, without what it knew."""
        self.fences = Fences()
        self.history.add(Forgot(self.device))


class Gateways:
    """The fleet, as all schedulers see it."""

    def __init__(self, history: History) -> None:
        self.of = {device: Gateway(device, history, seqs) for device, seqs in CAPACITIES.items()}
        self.version = 0

    def changed(self) -> None:
        self.version += 1

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def snapshot(self) -> FleetView:
        there = {name: gateway for name, gateway in self.of.items() if gateway.is_up}
        devices = {name: Device(name, "n", "cpu", 2e9, 8192, gateway.max_seqs) for name, gateway in there.items()}
        groups = {"g": DeviceGroup("g", ("d1", "d2"))} if {"d1", "d2"} <= devices.keys() else {}
        return FleetView(
            Fleet({"n": Node("n")}, devices, {"m": MODEL, "big": BIG}, groups, complete=False),
            {name: report(name, max_seqs=gateway.max_seqs) for name, gateway in there.items()},
            {name: f"http://{name}" for name in there},
            dict.fromkeys(there, 0.0),
            {name: not gateway.is_draining for name, gateway in there.items()},
            self.version,
        )
