"""What does a device's time cost in money? Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

HOUR_S = 3600.0
FORM = 'a number >= 0, or a JSON object of such numbers by GPU, such as {"NVIDIA-H100-80GB-HBM3": 4.1}'


@dataclass(frozen=True, slots=True)
class Prices:
    """Money per device-hour, in a currency that is the user's affair.

    :param each: of any GPU that ``by_gpu`` doesn't name; None where those have no price.
    """

    each: float | None = None
    by_gpu: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Prices:
        """Read ``[fate] price_per_gpu_hour``; empty is no price.

        :raises ValueError: with the expected form.
        """
        if not text.strip():
            return cls()
        try:
            value = json.loads(text)
        except ValueError:
            raise ValueError(f"must be {FORM}, got {text!r}") from None
        by_gpu = value if isinstance(value, dict) else {"": value}
        if not all(_is_price(price) for price in by_gpu.values()):
            raise ValueError(f"must be {FORM}, got {text!r}")
        return cls(by_gpu=by_gpu) if isinstance(value, dict) else cls(each=value)

    def money(self, gpu: str, gpu_s: float) -> float | None:
        """What so many seconds of such a device cost; None where it has no price."""
        price = self.by_gpu.get(gpu, self.each)
        return None if price is None else gpu_s / HOUR_S * price


def _is_price(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
