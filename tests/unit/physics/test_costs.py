"""Each cost term by numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from airflow_fate.cluster import ModelSpec
from airflow_fate.physics import costs
from airflow_fate.physics.costs import CostModel, CostParts

MODEL = ModelSpec("m", 16e9, 2e9, 8e9, {"gpu": 1000.0}, {"gpu": 50.0}, group_size=2)


def test_total_is_the_sum_of_the_parts() -> None:
    parts = CostParts(1, 2, 3, 4, 5, 6)
    assert parts.total_s == 21
    assert parts.as_dict() == {"wait": 1, "load": 2, "transfer": 3, "prefill": 4, "decode": 5, "sync": 6}


def test_group_members_share_out_the_read() -> None:
    assert CostModel().read_s(MODEL, "gpu", in_host_memory=False) == 4.0
    assert CostModel().read_s(MODEL, "gpu", in_host_memory=True) == 1.0


def test_calibration_multiplies_speeds() -> None:
    key = ("gpu", "m")
    measured = CostModel({key: 0.5}, {key: 2.0}, {key: 4.0}, {"m": 1.5})
    assert measured.prefill_tps(MODEL, "gpu") == 500
    assert measured.decode_tps(MODEL, "gpu") == 100
    assert measured.read_s(MODEL, "gpu", in_host_memory=False) == 1.0
    assert measured.output_tokens("m", 100) == 150


def test_load_waits_for_the_loads_before_it() -> None:
    assert costs.load_s(start_s=10, gate_s=13, read_s=4) == 7
    assert costs.load_s(start_s=10, gate_s=8, read_s=4) == 4


def test_loading_model_waits_only_until_it_is_ready() -> None:
    assert costs.load_s(start_s=10, gate_s=12.5, read_s=0) == 2.5


def test_ready_model_loads_at_no_cost() -> None:
    assert costs.load_s(start_s=10, gate_s=3, read_s=0) == 0


def test_transfer_counts_bits_and_latency() -> None:
    assert costs.transfer_s(output_bytes=1.25e9, gbps=10, latency_s=0.001) == pytest.approx(1.001)


def test_a_load_hides_a_transfer() -> None:
    assert costs.shown_s(transfer_s=3, load_s=2) == 1
    assert costs.shown_s(transfer_s=1, load_s=2) == 0


def test_wait_is_what_load_and_transfer_do_not_hide() -> None:
    assert costs.wait_s(now=0, start_s=1, lane_free_s=5, load_s=2, transfer_s=0.5) == 2.5
    assert costs.wait_s(now=0, start_s=1, lane_free_s=2, load_s=2, transfer_s=0.5) == 1


def test_prefill_computes_the_shared_part_of_a_batch_once() -> None:
    assert costs.prefill_tokens(prompts=3, prompt_tokens=1000, cached_tokens=0, shared_tokens=800) == 1400
    assert costs.prefill_tokens(prompts=3, prompt_tokens=1000, cached_tokens=900, shared_tokens=800) == 300


def test_prefill_always_computes_one_token() -> None:
    assert costs.prefill_tokens(prompts=1, prompt_tokens=1000, cached_tokens=1000, shared_tokens=1000) == 1
    assert costs.prefill_tokens(prompts=2, prompt_tokens=1000, cached_tokens=1000, shared_tokens=1000) == 2


def test_prefill_seconds_follow_speed() -> None:
    assert costs.prefill_s(tokens=500, prefill_tps=1000) == 0.5


def test_decode_slows_down_with_every_further_sequence() -> None:
    assert costs.decode_s(output_tokens=100, decode_tps=50, slowdown=0.03, sequences=1) == 2
    assert costs.decode_s(output_tokens=100, decode_tps=50, slowdown=0.03, sequences=11) == pytest.approx(2.6)


def test_shards_wait_for_the_slowest() -> None:
    assert costs.sync_s(finish_s=3, last_finish_s=5) == 2
    assert costs.sync_s(finish_s=5, last_finish_s=5) == 0


def test_terms_take_one_number_per_place() -> None:
    loads = costs.load_s(np.array([0.0, 10.0]), np.array([5.0, 5.0]), np.array([1.0, 2.0]))
    assert np.asarray(loads).tolist() == [6.0, 2.0]
