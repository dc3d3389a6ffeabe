"""What is wrong with Airflow's own settings is a finding, with what to do."""

from __future__ import annotations

import pytest

from airflow_fate.doctor.configuration import check_executor, check_inner_executor, check_keys, given_keys
from airflow_fate.doctor.connection import check_connection, of_type_fate
from airflow_fate.doctor.finding import Grade
from airflow_fate.executor.runs.connections import Known
from airflow_fate.provider_info import OPTIONS

FATE = "airflow_fate.executor.FateExecutor"


@pytest.mark.parametrize(
    ("configured", "grade"),
    [
        (FATE, "ok"),
        (f"LocalExecutor,{FATE}", "ok"),
        (f"LocalExecutor, fate:{FATE}", "ok"),
        ("LocalExecutor", "failure"),
        ("airflow_fate.FateExecutor", "failure"),
    ],
)
def test_another_executor_is_told(configured: str, grade: str) -> None:
    finding = check_executor(configured)
    assert finding.grade == grade
    if grade == "failure":
        assert configured in finding.seen
        assert finding.remedy == f"set [core] executor = {FATE}, and start the scheduler anew"


def test_beside_another_executor_tasks_must_name_it() -> None:
    assert f"LLM tasks need executor='{FATE}'" in check_executor(f"LocalExecutor,{FATE}").seen


@pytest.mark.parametrize("known", ["fleet_dir", "gateway_secret_cmd", "gateway_secret_secret"])
def test_a_key_that_there_is_is_no_trouble(known: str) -> None:
    assert check_keys([known], OPTIONS).grade is Grade.OK


def test_an_unknown_key_is_told_with_the_nearest_that_there_is() -> None:
    finding = check_keys(["fleet_dri", "qqq", "policy"], OPTIONS)
    assert finding.grade is Grade.WARNING
    assert finding.seen == "[fate] has no key 'fleet_dri' (did you mean 'fleet_dir'?), 'qqq': nobody reads it"
    assert "docs/configuration.md" in finding.remedy


def test_keys_are_those_that_somebody_has_set(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.configuration import conf

    monkeypatch.setenv("AIRFLOW__FATE__FLEET_DRI", "x")
    assert given_keys(conf.as_dict(display_source=True)) == ["fleet_dri"]


def test_an_inner_executor_that_there_is() -> None:
    assert check_inner_executor("LocalExecutor").grade is Grade.OK


@pytest.mark.parametrize("name", ["SpeedyExecutor", "nothing.of.ThatName"])
def test_an_inner_executor_that_there_is_not_is_told(name: str) -> None:
    finding = check_inner_executor(name)
    assert finding.grade is Grade.FAILURE
    assert f"[fate] inner_executor '{name}' can't be loaded" in finding.seen
    assert "inner_executor" in finding.remedy


@pytest.mark.parametrize(
    ("known", "others", "grade", "says"),
    [
        (Known("fate"), [], "ok", "is of type fate"),
        (Known("openai"), [], "failure", "is of type 'openai': no task on it runs on the fleet"),
        (Known(), [], "failure", "no connection 'fate_default' in environment, secrets backends and database"),
        (Known(), ["mine"], "warning", "mine are there"),
    ],
)
def test_connections(known: Known, others: list[str], grade: str, says: str) -> None:
    finding = check_connection(lambda: others, lambda name: known)
    assert (finding.grade, says in finding.seen) == (grade, True)
    if not known.conn_type:
        assert finding.remedy.startswith("airflow connections add fate_default --conn-type fate")


def test_a_backend_that_fails_is_told() -> None:
    def fails(name: str) -> Known:
        raise ConnectionError("vault is sealed\nat line 1")

    finding = check_connection(list, fails)
    assert (finding.grade, "ConnectionError: vault is sealed" in finding.seen) == (Grade.FAILURE, True)


def test_connections_of_the_environment_are_known_by_their_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MINE", '{"conn_type": "fate"}')
    monkeypatch.setenv("AIRFLOW_CONN_THEIRS", '{"conn_type": "openai"}')
    named = of_type_fate()
    assert "mine" in named
    assert "theirs" not in named
