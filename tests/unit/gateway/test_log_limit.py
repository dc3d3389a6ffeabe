from __future__ import annotations

import logging

from airflow_fate.gateway.log_limit import A_MINUTE, PERIOD_S, RepeatFilter


def test_a_message_that_comes_too_often_is_counted() -> None:
    now_s = [0.0]
    limit = RepeatFilter(lambda: now_s[0])

    def say(message: str, *arguments: object) -> str | None:
        record = logging.LogRecord("a", logging.WARNING, "", 0, message, arguments, None)
        return record.getMessage() if limit.filter(record) else None

    written = [say("from %s", number) for number in range(1000)]
    assert [line for line in written if line] == [f"from {number}" for number in range(A_MINUTE)]
    assert say("another") == "another"
    now_s[0] += PERIOD_S
    assert say("from %s", 1) == f"from 1 ({1000 - A_MINUTE} more of these were not written)"
    assert say("from %s", 2) == "from 2"
