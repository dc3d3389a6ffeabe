from __future__ import annotations

from airflow_fate.gateway.engines.pulse import MISSES, Pulse


def test_several_silences_in_a_row_are_needed() -> None:
    pulse = Pulse()
    assert [pulse.missed() for _ in range(MISSES)] == [False] * (MISSES - 1) + [True]
    pulse.answered()
    assert not pulse.missed()


def test_a_silence_while_answers_flow_begins_the_count_anew() -> None:
    pulse = Pulse()
    for _ in range(MISSES - 1):
        pulse.missed()
    pulse.flows()
    assert [pulse.missed() for _ in range(MISSES)] == [False] * MISSES
    assert pulse.missed()
