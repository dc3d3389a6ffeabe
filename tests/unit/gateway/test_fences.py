from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from airflow_fate.gateway.serving.fences import Fences
from airflow_fate.messages import UNFENCED, Claims


def _claims(fence: int, live: frozenset[int] = frozenset()) -> Claims:
    return Claims(aud="d", sub="t", jti=f"r{fence}", exp=0, fence=fence, live=tuple(sorted(live | {fence})))


def test_after_a_restart_the_first_token_is_believed() -> None:
    fences = Fences()
    fences.learn(_claims(7))
    assert fences.refusal(_claims(7)) is None
    assert fences.refusal(_claims(6)) is not None


def test_an_older_token_teaches_nothing() -> None:
    fences = Fences()
    fences.learn(_claims(7, frozenset({5})))
    fences.learn(_claims(6, frozenset({3, 4})))
    assert fences.refusal(_claims(5)) is None
    assert fences.refusal(_claims(4)) is not None
    assert fences.refusal(_claims(6)) is not None


def test_a_token_without_a_fence_is_served_beside_any_other_and_teaches_nothing() -> None:
    fences = Fences()
    fences.learn(_claims(7))
    unfenced = Claims(aud="d", sub="t", jti="r", exp=0, fence=UNFENCED)
    fences.learn(unfenced)
    assert fences.refusal(unfenced) is None
    assert fences.refusal(_claims(7)) is None
    fences.end("r", "so it is")
    assert fences.refusal(unfenced) == "reservation r has ended: so it is"


@st.composite
def _histories(draw: st.DrawFn) -> tuple[list[Claims], dict[int, set[int]]]:
    """Tokens of one device as a ledger issues them: fences grow, and each lists those that are live by then."""
    live: set[int] = set()
    tokens, ended_by = [], {}
    for fence in range(1, draw(st.integers(2, 12))):
        live -= draw(st.sets(st.sampled_from(sorted(live)))) if live else set()
        live.add(fence)
        tokens.append(_claims(fence, frozenset(live)))
        ended_by[fence] = set(range(1, fence)) - live
    return tokens, ended_by


@given(_histories(), st.randoms(use_true_random=False))
def test_no_reservation_is_served_after_a_newer_token_told_that_it_ended(
    history: tuple[list[Claims], dict[int, set[int]]], random: Random
) -> None:
    tokens, ended_by = history
    arrivals = random.choices(tokens, k=30)
    fences, known_ended = Fences(), set()
    newest = 0
    for claims in arrivals:
        fences.learn(claims)
        newest = max(newest, claims.fence)
        known_ended |= ended_by[claims.fence]
        if claims.fence in known_ended:
            assert fences.refusal(claims) is not None
        elif claims.fence == newest or claims.fence in tokens[newest - 1].live:
            assert fences.refusal(claims) is None


@given(st.lists(st.tuples(st.sampled_from(["end", "ask"]), st.integers(1, 5)), max_size=40))
def test_an_explicit_end_is_final(events: list[tuple[str, int]]) -> None:
    fences, ended = Fences(), set()
    everyone = frozenset(range(1, 6))
    for kind, fence in events:
        if kind == "end":
            fences.end(f"r{fence}")
            ended.add(fence)
        else:
            fences.learn(_claims(fence, everyone))
            assert (fences.refusal(_claims(fence, everyone)) is not None) == (fence in ended)
