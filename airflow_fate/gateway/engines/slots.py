"""Whose prompt lies in which slot of an engine that keeps one prompt a slot, and knows no tenants? Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SlotGrant:
    """A slot for a request.

    :param is_own: whether what lies in the slot may be reused: it is of the same salt.
    :param forgotten: the salt that has nothing in any slot any more; None if there is no such.
    """

    slot: int
    is_own: bool
    forgotten: str | None = None


class Slots:
    """The slots of one engine, least recently taken first.

    :param owner: of all that lies in them now; None if nothing does.
    """

    def __init__(self, count: int, owner: str | None = None) -> None:
        self._owners: dict[int, str | None] = dict.fromkeys(range(count), owner)
        self._busy: set[int] = set()

    def take(self, salt: str) -> SlotGrant:
        """A slot that is free and of the same salt, or free and empty, or whichever was taken longest ago."""

        def cost(slot: int) -> tuple[bool, bool, bool]:
            owner = self._owners[slot]
            return slot in self._busy, owner != salt, owner is not None

        slot = min(self._owners, key=cost)
        before = self._owners.pop(slot)
        self._owners[slot] = salt
        self._busy.add(slot)
        is_gone = before is not None and before not in self._owners.values()
        return SlotGrant(slot, before == salt, before if is_gone else None)

    def give_back(self, slot: int) -> None:
        self._busy.discard(slot)
