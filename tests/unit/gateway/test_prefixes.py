from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_fate.gateway.cache.blocks import Prompt
from airflow_fate.gateway.cache.prefixes import Prefixes


def _keys(prefixes: Prefixes) -> list[str]:
    return [key for key, *_ in prefixes.entries()]


def test_the_least_recently_used_go_and_inner_links_before_outer_ones() -> None:
    prefixes = Prefixes(100)
    prefixes.record("m", [("system", 40), ("document", 40)], 1.0)
    prefixes.record("m", [("system", 40), ("question", 30)], 2.0)
    assert _keys(prefixes) == ["question", "system"]
    prefixes.record("m", [("other", 60)], 3.0)
    assert _keys(prefixes) == ["system", "other"]


def test_a_conversation_only_takes_what_its_chain_does_not() -> None:
    prefixes = Prefixes(100)
    prefixes.record("m", [("document", 60)], 1.0, conversation="talk", conversation_tokens=90)
    assert prefixes.entries() == (("talk", 90, 1.0, "m"), ("document", 60, 1.0, "m"))
    assert prefixes.held_tokens == 90


def test_a_models_prefixes_go_with_its_engine() -> None:
    prefixes = Prefixes(100)
    prefixes.record("m", [("a", 10)], 1.0)
    prefixes.record("n", [("b", 10)], 1.0)
    prefixes.forget("m")
    assert _keys(prefixes) == ["b"]
    assert prefixes.held_tokens == 10


_CHAINS = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 60)), max_size=4, unique_by=lambda link: link[0])


@given(st.lists(st.tuples(st.sampled_from("mn"), _CHAINS, st.integers(0, 120)), max_size=30))
def test_never_over_the_budget(answers: list[tuple[str, list[tuple[str, int]], int]]) -> None:
    prefixes = Prefixes(100)
    for number, (model, chain, tokens) in enumerate(answers):
        links = [(f"{model}{key}", size) for key, size in chain]
        prefixes.record(model, links, number, conversation=f"{model}{number}", conversation_tokens=tokens)
        assert 0 <= prefixes.held_tokens <= 100
    for model in "mn":
        prefixes.forget(model)
    assert prefixes.held_tokens == 0


def test_what_the_engine_was_seen_to_hold_stays_as_long_as_it_does_and_costs_no_budget() -> None:
    prefixes = Prefixes(100)
    blocks = tuple((n,) * 10 for n in range(9))
    prefixes.record("m", [("system", 40), ("document", 40)], 1.0)
    prefixes.place([("system", 40), ("document", 40)], "", Prompt(blocks))
    held = set(blocks)

    def holds(model: str, prompt: Prompt) -> bool:
        return set(prompt.blocks) <= held

    prefixes.check(holds)
    prefixes.record("m", [("other", 90)], 2.0)
    assert set(_keys(prefixes)) == {"system", "document", "other"}
    held.remove(blocks[6])
    prefixes.check(holds)
    assert set(_keys(prefixes)) == {"system", "other"}


def test_what_was_never_seen_is_kept_by_the_budget_alone() -> None:
    prefixes = Prefixes(100)
    prefixes.record("m", [("system", 40)], 1.0)
    prefixes.place([("system", 40)], "", Prompt(((1,) * 10,) * 4))
    prefixes.check(lambda model, prompt: False)
    assert _keys(prefixes) == ["system"]
    prefixes.record("m", [("other", 90)], 2.0)
    assert _keys(prefixes) == ["other"]
