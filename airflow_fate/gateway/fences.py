"""Is this reservation still the one that holds the device? Fencing, as ``messages/binding.py`` describes it. Pure.

What is known here is forgotten with the gateway's restart; then the first tokens that come teach it again.
"""

from __future__ import annotations

from collections import OrderedDict

from airflow_fate.messages import UNFENCED, Claims

# A token expires long before so many reservations have ended on one device.
REMEMBERED_ENDS = 65_536


class Fences:
    """What this gateway has learned of fences from tokens, and of reservations that were ended."""

    def __init__(self) -> None:
        self._newest = -1
        self._live: frozenset[int] = frozenset()
        self._ended: OrderedDict[str, str] = OrderedDict()
        """Reservation -> why."""

    def learn(self, claims: Claims) -> None:
        """Take in what a verified token says of the fences that were live when it was issued."""
        if claims.fence > self._newest:
            self._newest, self._live = claims.fence, frozenset(claims.live)

    def end(self, reservation: str, why: str = "") -> None:
        """The executor says that this reservation is over."""
        self._ended[reservation] = why
        self._ended.move_to_end(reservation)
        if len(self._ended) > REMEMBERED_ENDS:
            self._ended.popitem(last=False)

    def refusal(self, claims: Claims) -> str | None:
        """Why the reservation must not be served (any more); None when it may be."""
        if claims.jti in self._ended:
            return ": ".join(filter(None, (f"reservation {claims.jti} has ended", self._ended[claims.jti])))
        if claims.fence != UNFENCED and claims.fence < self._newest and claims.fence not in self._live:
            return f"fence {claims.fence} is stale: {self._newest} is newer and doesn't list it as live"
        return None
