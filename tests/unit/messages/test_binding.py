"""Tokens: who may read them, and which are refused."""

from __future__ import annotations

import time

import pytest

from airflow_fate.messages import Binding, Claims, SpecError, TokenError, read_spec, reader_token, sign, verify

SECRET, OTHER = "a" * 32, "b" * 32


def claims(**changed: object) -> Claims:
    values: dict[str, object] = {"aud": "gpu-0", "sub": "try", "jti": "r1", "exp": int(time.time()) + 60, "fence": 3}
    return Claims.model_validate(values | changed)


def test_a_token_says_what_was_signed() -> None:
    mine = claims(live=(1, 2), chain=(("00ff", 12),), evict=("old",))
    assert verify(sign(mine, SECRET), SECRET, ("gpu-0",)) == mine


@pytest.mark.parametrize(
    ("token", "secret", "audience"),
    [
        (sign(claims(), SECRET), OTHER, "gpu-0"),
        (sign(claims(), SECRET), SECRET, "gpu-1"),
        (sign(claims(exp=1), SECRET), SECRET, "gpu-0"),
        ("not a token", SECRET, "gpu-0"),
        ("", SECRET, "gpu-0"),
        (reader_token(SECRET, "x"), SECRET, "gpu-0"),
    ],
    ids=["another key", "another device", "expired", "garbage", "empty", "a reader's"],
)
def test_any_other_token_is_refused(token: str, secret: str, audience: str) -> None:
    with pytest.raises(TokenError):
        verify(token, secret, (audience,))


def test_a_short_key_signs_nothing() -> None:
    with pytest.raises(TokenError, match="at least 32 bytes"):
        sign(claims(), "short")


def test_a_binding_of_an_unknown_version_is_refused() -> None:
    with pytest.raises(TokenError, match="version 1"):
        Binding.parse({"version": 2})


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"fate": "yes"}, "must be a dict"),
        ({"fate": {"version": 9, "model": "m"}}, "version"),
        ({"fate": {"model": ["m"]}}, "model"),
        ({"fate": {"model": "m", "prompts": 0}}, "prompts"),
        ({"fate": {"model": "m", "colour": "red"}}, "colour"),
    ],
)
def test_a_bad_spec_names_its_key(config: object, names: str) -> None:
    with pytest.raises(SpecError, match=names):
        read_spec(config)


@pytest.mark.parametrize("config", [None, {}, {"KubernetesExecutor": {}}, "text"])
def test_a_task_without_a_spec_has_none(config: object) -> None:
    assert read_spec(config) is None
