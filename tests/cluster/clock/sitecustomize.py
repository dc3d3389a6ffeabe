"""A clock that is wrong by ``CLOCK_OFF_S`` seconds, in each Python whose PYTHONPATH begins with this folder."""

from __future__ import annotations

import datetime
import os
import time

OFF_S = float(os.environ["CLOCK_OFF_S"])
right = time.time


class WrongDatetime(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> WrongDatetime:
        return super().now(tz) + datetime.timedelta(seconds=OFF_S)


time.time = lambda: right() + OFF_S
datetime.datetime = WrongDatetime  # type: ignore[misc]
