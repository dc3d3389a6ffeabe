"""What happened? The recorded history of a simulation, in words that the checker reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Booked:
    """What the ledger's tables hold after a commit that changed them.

    :param used: device -> (sequences used, capacity).
    :param live: reservation -> (try, device -> sequences).
    """

    used: Mapping[str, tuple[int, int]]
    live: Mapping[str, tuple[str, Mapping[str, int]]]

    def __str__(self) -> str:
        devices = ", ".join(f"{name} {used}/{capacity}" for name, (used, capacity) in self.used.items())
        return f"the ledger: {devices}; live: {', '.join(f'{name} of {ti}' for name, (ti, _) in self.live.items())}"


@dataclass(frozen=True)
class Queued:
    """Airflow has queued a try, or what comes after its deferral."""

    ti_id: str
    scheduler: str

    def __str__(self) -> str:
        return f"{self.scheduler} queues {self.ti_id}"


@dataclass(frozen=True)
class Given:
    """A try went to the inner executor."""

    ti_id: str
    scheduler: str

    def __str__(self) -> str:
        return f"{self.scheduler} gives {self.ti_id} to its inner executor"


@dataclass(frozen=True)
class Served:
    """A gateway has served a request.

    :param is_valid: whether its token is for this device, and has not expired.
    """

    device: str
    reservation: str
    ti_id: str
    is_valid: bool = True

    def __str__(self) -> str:
        return f"{self.device} serves {self.ti_id} for {self.reservation}"


@dataclass(frozen=True)
class Asked:
    """A gateway saw a token of a reservation that was good for it, and learns from it."""

    device: str
    reservation: str

    def __str__(self) -> str:
        return f"{self.device} is asked for {self.reservation}"


@dataclass(frozen=True)
class Told:
    """A gateway was told that a reservation has ended."""

    device: str
    reservation: str

    def __str__(self) -> str:
        return f"{self.device} is told that {self.reservation} has ended"


@dataclass(frozen=True)
class Forgot:
    """A gateway was started anew, and has lost its memory."""

    device: str

    def __str__(self) -> str:
        return f"{self.device} is started anew and remembers nothing"


@dataclass(frozen=True)
class Noted:
    """Anything else, for whoever reads the story."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Finished:
    """The end of the simulation, long after the last fault.

    :param unfinished: tasks that have not ended -> their state.
    """

    unfinished: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"the end; not finished: {dict(self.unfinished)}"


Event = Booked | Queued | Given | Served | Asked | Told | Forgot | Noted | Finished


@dataclass
class History:
    """Events with their times, in seconds since the beginning."""

    events: list[tuple[float, Event]] = field(default_factory=list)
    now_s: float = 0.0

    def add(self, event: Event) -> None:
        self.events.append((self.now_s, event))

    def __str__(self) -> str:
        return "\n".join(f"{at_s:8.1f} s  {event}" for at_s, event in self.events)
