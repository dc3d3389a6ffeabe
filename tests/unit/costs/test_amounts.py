"""Money is a price by GPU times device-hours, and unknown where a price is."""

from __future__ import annotations

import pytest

from airflow_fate.costs import Amount, Prices, shares, sums
from tests.unit.costs.builders import hold

HOLDS = [
    hold("a", 0, 3600, (0, 600), gpu="h100", task_id="a"),
    hold("b", 0, 1800, gpu="l4", device="d1", task_id="b"),
    hold("c", 1800, 3600, gpu="l4", device="d1", task_id="b"),
]


def by_task(prices: Prices) -> dict[str, Amount]:
    return sums(shares(HOLDS, 0, 3600), prices, lambda owner: (owner.task_id,))


def test_shares_add_up_by_any_key() -> None:
    assert by_task(Prices.parse("2")) == {"a": Amount(3600, 600, 2.0), "b": Amount(3600, 0, 2.0)}


def test_each_gpu_has_its_own_price() -> None:
    found = by_task(Prices.parse('{"h100": 4, "l4": 0.5}'))
    assert (found["a"].money, found["b"].money) == (4.0, 0.5)


def test_where_one_price_is_missing_the_sum_in_money_is_unknown() -> None:
    shared = shares(HOLDS, 0, 3600)
    assert sums(shared, Prices.parse('{"h100": 4}'), lambda owner: ("all",))["all"] == Amount(7200, 600, None)
    assert sums(shared, Prices.parse(""), lambda owner: ("all",))["all"].money is None


@pytest.mark.parametrize("text", ["-1", "cheap", "[1]", '{"h100": "4"}', "true", "NaN", "Infinity", '{"h100": -1}'])
def test_what_is_no_price_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ValueError, match="must be a number >= 0, or a JSON object"):
        Prices.parse(text)
