"""What ran beside an answer: mean company while it decoded, and others' prompts that were computed then."""

from __future__ import annotations

import pytest

from airflow_fate.gateway.engines import Usage
from airflow_fate.gateway.report import company as module
from airflow_fate.gateway.report.company import Beside, Company


def test_alone_there_is_only_the_own_context() -> None:
    company = Company()
    only = company.enter(0.0, 100.0, 0.0)
    assert company.leave(only, 3.0, Usage(100, 0, 20, 1.0, 2.0)) == Beside(0.0, 110.0, 0.0)


def test_company_counts_for_the_share_of_the_time_in_which_it_decoded() -> None:
    company = Company()
    first, second = company.enter(0.0, 100.0, 0.0), company.enter(0.0, 100.0, 0.0)
    # It decodes from 1 to 3.
    company.leave(first, 3.0, Usage(100, 0, 20, 1.0, 2.0))
    # It decodes from 2 to 6; for a quarter of that the first does, too.
    beside = company.leave(second, 6.0, Usage(200, 0, 40, 1.0, 4.0))
    assert beside.sequences == pytest.approx(0.25)
    assert beside.context_tokens == pytest.approx(220 + 0.25 * 110)


def test_prompts_of_others_count_as_far_as_they_were_computed_meanwhile() -> None:
    company = Company()
    mine, other = company.enter(0.0, 100.0, 0.0), company.enter(1.0, 400.0, 0.0)
    company.leave(other, 5.0, Usage(400, 100, 20, 2.0, 2.0))
    # The other's 300 tokens were computed from 1 to 3; this one decodes from 2 on.
    assert company.leave(mine, 6.0, Usage(100, 0, 20, 2.0, 4.0)).prompt_tokens == pytest.approx(150)


def test_who_is_still_there_counts_with_what_is_known_of_it() -> None:
    company = Company()
    mine, other = company.enter(0.0, 100.0, 0.0), company.enter(1.0, 400.0, 100.0)
    company.prefilled(other, 2.0)
    beside = company.leave(mine, 4.0, Usage(100, 0, 20))
    assert beside.prompt_tokens == pytest.approx(300)
    assert beside.sequences == pytest.approx(0.5)


def test_who_left_before_is_forgotten_when_nobody_has_met_it() -> None:
    company = Company()
    for k in range(3):
        company.leave(company.enter(float(k), 1.0, 0.0), k + 0.5, Usage(1, 0, 1))
    mine = company.enter(10.0, 100.0, 0.0)
    assert company.leave(mine, 11.0, Usage(100, 0, 20)) == Beside(0.0, 110.0, 0.0)


def test_a_crowd_is_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 4)
    company = Company()
    mine = company.enter(0.0, 1.0, 0.0)
    for _ in range(10):
        company.forget(company.enter(0.0, 1.0, 0.0), 1.0)
    assert company.leave(mine, 1.0, Usage(1, 0, 1)).sequences == 4


def test_leaving_twice_is_leaving_once() -> None:
    company = Company()
    mine = company.enter(0.0, 1.0, 0.0)
    company.leave(mine, 1.0, Usage(1, 0, 1))
    company.forget(mine, 2.0)
    assert mine.left_s == 1.0
