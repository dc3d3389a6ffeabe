"""Is this reservation still the one that holds the device? Fencing, as ``messages/binding.py`` describes it. Pure.

Whoever keeps what is learned here gives it back after a restart (``journal.py``); where it is lost, the first tokens
that come teach it again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping

from airflow_fate.messages import UNFENCED, Claims

# A token expires long before so many reservations have ended on one device.
REMEMBERED_ENDS = 65_536


class Fences:
    """What this gateway has learned of fences from tokens, and of reservations that were ended.

    :ivar on_learned: called with a newer fence and those that were live with it.
    :ivar on_ended: called with a reservation that was ended, and why.
    """

    def __init__(self) -> None:
        self.newest = -1
        self.live: frozenset[int] = frozenset()
        self._ended: OrderedDict[str, str] = OrderedDict()
        """Reservation -> why."""
        self.on_learned: Callable[[int, frozenset[int]], None] = lambda fence, live: None
        self.on_ended: Callable[[str, str], None] = lambda reservation, why: None

    @property
    def ended(self) -> Mapping[str, str]:
        """Reservation -> why it was ended."""
        return self._ended

    def learn(self, claims: Claims) -> None:
        """Take in what a verified token says of the fences that were live when it was issued."""
        if claims.fence > self.newest:
            self.restore(claims.fence, claims.live)
            self.on_learned(self.newest, self.live)

    def restore(self, fence: int, live: Iterable[int]) -> None:
        """Take in what was learned before."""
        self.newest, self.live = fence, frozenset(live)

    def end(self, reservation: str, why: str = "") -> None:
        """The executor says that this reservation is over."""
        self._ended[reservation] = why
        self._ended.move_to_end(reservation)
        if len(self._ended) > REMEMBERED_ENDS:
            self._ended.popitem(last=False)
        self.on_ended(reservation, why)

    def refusal(self, claims: Claims) -> str | None:
        """Why the reservation must not be served (any more); None when it may be."""
        if claims.jti in self._ended:
            return ": ".join(filter(None, (f"reservation {claims.jti} has ended", self._ended[claims.jti])))
        if claims.fence != UNFENCED and claims.fence < self.newest and claims.fence not in self.live:
            return f"fence {claims.fence} is stale: {self.newest} is newer and doesn't list it as live"
        return None
