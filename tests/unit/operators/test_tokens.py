"""A task renews its token in time, so that a long one goes on and a stolen one soon ends."""

from __future__ import annotations

import time

import pytest

from airflow_fate.messages import TOKEN_VALID_S, Claims, Share, sign
from airflow_fate.operators import LLMOperator
from airflow_fate.operators.runtime import RENEW_BELOW_S, fresh_token
from tests.unit.operators.helpers import SECRET, Gateway, bound, run


def token(ends_in_s: float) -> str:
    return sign(Claims(aud="gpu-0", sub="t", jti="r", exp=int(time.time() + ends_in_s)), SECRET)


def share(gateway: Gateway, ends_in_s: float) -> Share:
    return gateway.share().model_copy(update={"token": token(ends_in_s)})


@pytest.fixture(autouse=True)
def _connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_FATE_DEFAULT", '{"conn_type": "fate"}')


def test_a_token_that_lasts_is_used_as_it_is(gateway: Gateway) -> None:
    ours = share(gateway, TOKEN_VALID_S)
    assert fresh_token(ours) == ours.token
    assert gateway.renewals == 0


def test_a_token_that_ends_soon_is_renewed_once(gateway: Gateway) -> None:
    gateway.new_token = token(TOKEN_VALID_S)
    ours = share(gateway, RENEW_BELOW_S - 60)
    assert [fresh_token(ours) for _ in range(2)] == [gateway.new_token] * 2
    assert gateway.renewals == 1


def test_a_question_is_asked_with_the_renewed_token(gateway: Gateway) -> None:
    gateway.new_token = token(TOKEN_VALID_S)
    run(LLMOperator(task_id="t", model="m", prompt="hello"), bound(share(gateway, 60)))
    assert gateway.tokens == [f"Bearer {gateway.new_token}"]


def test_a_gateway_that_cannot_renew_leaves_the_old_token(gateway: Gateway) -> None:
    gateway.failing.add("token")
    ours = share(gateway, 61)
    assert fresh_token(ours) == ours.token
