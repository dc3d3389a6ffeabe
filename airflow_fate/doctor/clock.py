"""Do the clocks agree? Tokens last a day, so minutes do no harm; more of them make logs hard to read."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from airflow_fate.doctor.finding import Finding, not_checked, ok, warning

FAR_S = 30.0


def ahead_s(date: str | None) -> float | None:
    """By how much a server's clock is ahead of ours, from the ``Date`` of an answer that just came."""
    try:
        return parsedate_to_datetime(date or "").timestamp() - time.time()
    except ValueError:
        return None


def check_clock(check: str, offsets_s: Mapping[str, float | None]) -> Finding:
    """:param found: whose clock -> seconds that it is ahead of ours; None where it didn't say."""
    known = {name: seconds for name, seconds in offsets_s.items() if seconds is not None}
    if not known:
        return not_checked(check, "no answer has a date")
    worst = max(known, key=lambda name: abs(known[name]))
    seen = f"{worst} is {abs(known[worst]):.0f} s {'ahead of' if known[worst] > 0 else 'behind'} this clock"
    if abs(known[worst]) > FAR_S:
        return warning(check, seen, "let both machines follow NTP")
    return ok(check, seen if abs(known[worst]) >= 1.5 else f"{len(known)} agree with this clock")
