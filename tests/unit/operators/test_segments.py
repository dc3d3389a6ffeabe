"""Templates are cut into known, looked-up and estimated pieces; never taken for their own text."""

from __future__ import annotations

import pytest

from airflow_fate.operators.segments import common, segments


def test_a_literal_is_one_piece_of_known_length() -> None:
    (piece,) = segments("x" * 40, "user")
    assert (piece.tokens, piece.scoped, piece.path) == (10, False, ())


def test_a_lookup_keeps_its_path() -> None:
    pieces = segments("Read: {{ dag_run.conf['document'] }}", "system")
    assert [piece.path for piece in pieces] == [(), ("dag_run", "conf", "document")]
    assert pieces[1].tokens is None


@pytest.mark.parametrize("expression", ["{{ params.a | upper }}", "{{ f(params.a) }}", "{% if params.a %}x{% endif %}"])
def test_any_other_expression_has_no_path_and_is_the_runs_own(expression: str) -> None:
    (piece,) = segments(expression, "user")
    assert (piece.path, piece.scoped, piece.tokens) == ((), True, None)


@pytest.mark.parametrize("own", ["{{ ti.map_index }}", "{{ task.task_id }}", "{{ ti.xcom_pull(key='x') }}"])
def test_what_depends_on_the_instance_ends_what_is_shared(own: str) -> None:
    assert len(segments(f"Shared {own} not shared", "user")) == 1


def test_a_named_pull_is_the_same_for_all_who_ask() -> None:
    assert len(segments("A {{ ti.xcom_pull(task_ids='plan') }} B", "user")) == 3


def test_roles_and_texts_make_different_pieces() -> None:
    assert segments("same", "user") != segments("same", "system")
    assert segments("one", "user")[0].key != segments("two", "user")[0].key


def test_a_broken_template_is_unknown() -> None:
    assert segments("{{ broken", "user") == []


def test_common_pieces_end_at_the_first_difference() -> None:
    lists = [segments(f"{{{{ params.a }}}} then {tail}", "user") for tail in ("one", "two")]
    assert common(lists) == lists[0][:1]
