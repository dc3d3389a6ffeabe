"""Each cost term by numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_fate.cluster import ModelSpec
from airflow_fate.physics import terms
from airflow_fate.physics.costs import CostModel, CostParts
from airflow_fate.physics.law import Speeds

MODEL = ModelSpec("m", 16e9, 2e9, 8e9, {"gpu": 1000.0}, {"gpu": 50.0}, group_size=2)


def test_total_is_the_sum_of_the_parts() -> None:
    parts = CostParts(1, 2, 3, 4, 5, 6)
    assert parts.total_s == 21
    assert parts.as_dict() == {"wait": 1, "load": 2, "transfer": 3, "prefill": 4, "decode": 5, "sync": 6}


def test_group_members_share_out_the_read() -> None:
    assert CostModel().read_s(MODEL, "gpu", in_host_memory=False) == 4.0
    assert CostModel().read_s(MODEL, "gpu", in_host_memory=True) == 1.0


def test_what_was_measured_multiplies_what_is_described() -> None:
    measured = CostModel(load_factor={("gpu", "m"): 4.0}, output_factor={"m": 1.5})
    assert measured.read_s(MODEL, "gpu", in_host_memory=False) == 1.0
    assert measured.output_tokens("m", 100) == 150


def test_speeds_are_as_described_until_something_is_learned() -> None:
    assert CostModel().speeds(MODEL, "gpu", 0.03) == Speeds(1000.0, 50.0, 0.03, 0.0)
    own = replace(MODEL, decode_slowdown={"gpu": 0.5}, context_slowdown={"gpu": 0.1})
    assert CostModel().speeds(own, "gpu", 0.03) == Speeds(1000.0, 50.0, 0.5, 0.1)


def test_transfer_counts_bits_and_latency() -> None:
    assert terms.transfer_s(1.25e9, gbps=10, latency_s=0.001) == pytest.approx(1.001)


def test_prefill_computes_the_shared_part_of_a_batch_once() -> None:
    assert terms.prefill_tokens(prompts=3, prompt_tokens=1000, cached_tokens=0, shared_tokens=800) == 1400
    assert terms.prefill_tokens(prompts=3, prompt_tokens=1000, cached_tokens=900, shared_tokens=800) == 300


def test_prefill_always_computes_one_token() -> None:
    assert terms.prefill_tokens(prompts=1, prompt_tokens=1000, cached_tokens=1000, shared_tokens=1000) == 1
    assert terms.prefill_tokens(prompts=2, prompt_tokens=1000, cached_tokens=1000, shared_tokens=1000) == 2


def test_of_a_prompt_all_but_the_last_token_can_be_reused() -> None:
    assert terms.reusable_tokens(tokens=400, prompt_tokens=1000) == 400
    assert terms.reusable_tokens(tokens=1000, prompt_tokens=1000) == 999
    assert terms.reusable_tokens(tokens=5, prompt_tokens=0) == 0


def test_decode_slows_down_with_every_further_sequence_and_with_the_context_of_all() -> None:
    assert terms.step(decode_slowdown=0.03, sequences=1, context_slowdown=0.0, context_tokens=5000) == 1
    assert terms.step(decode_slowdown=0.03, sequences=11, context_slowdown=0.0, context_tokens=0) == pytest.approx(1.3)
    assert terms.step(decode_slowdown=0.03, sequences=11, context_slowdown=1e-5, context_tokens=2e4) == pytest.approx(
        1.5
    )


def test_context_grows_while_a_sequence_decodes() -> None:
    assert terms.context_tokens(prompts=2, prompt_tokens=100, output_tokens=40) == 240


def test_a_step_has_room_for_so_much_of_a_prompt_as_the_sequences_leave() -> None:
    assert terms.chunk_tokens(batch_tokens=512, sequences=12, tokens=2000) == 500
    assert terms.chunk_tokens(batch_tokens=512, sequences=12, tokens=30) == 30
    assert terms.chunk_tokens(batch_tokens=8, sequences=12, tokens=30) == 1


def test_work_that_outlasts_its_estimate_is_expected_to_go_on_for_a_while() -> None:
    assert terms.overdue_s(expected_s=10, done_s=4) == 6
    assert terms.overdue_s(expected_s=10, done_s=10) == pytest.approx(1.5)
    assert terms.overdue_s(expected_s=10, done_s=30) == pytest.approx(4.5)


def test_memory_forgives_what_sums_of_shares_are_off() -> None:
    assert terms.fits(used_bytes=3e9, more_bytes=7e9 + 1e-3, memory_bytes=1e10)
    assert not terms.fits(used_bytes=3e9, more_bytes=7e9 + 1, memory_bytes=1e10)


def test_shards_wait_for_the_slowest() -> None:
    assert terms.sync_s(finish_s=3, last_finish_s=5) == 2
    assert terms.sync_s(finish_s=5, last_finish_s=5) == 0
