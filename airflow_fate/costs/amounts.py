"""What do shares add up to? Device-seconds and money, by whatever they are asked for. Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from airflow_fate.costs.prices import Prices
from airflow_fate.costs.sharing import Owner, Share

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Amount:
    """What something costs.

    :param gpu_s: device-seconds, loads included.
    :param load_s: of these, loads.
    :param money: None where the price of a part is not known.
    """

    gpu_s: float = 0.0
    load_s: float = 0.0
    money: float | None = 0.0

    def __add__(self, other: Amount) -> Amount:
        money = None if self.money is None or other.money is None else self.money + other.money
        return Amount(self.gpu_s + other.gpu_s, self.load_s + other.load_s, money)


def sums(shares: Iterable[Share], prices: Prices, keys: Callable[[Owner], Iterable[Key]]) -> dict[Key, Amount]:
    """Shares added up, each under all of its owner's keys."""
    found: dict[Key, Amount] = {}
    for share in shares:
        amount = Amount(share.gpu_s, share.load_s, prices.money(share.hold.gpu, share.gpu_s))
        for key in keys(share.hold.owner):
            found[key] = found.get(key, Amount()) + amount
    return found
