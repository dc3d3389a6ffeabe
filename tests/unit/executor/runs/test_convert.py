"""Dag runs become workflows: mapped tasks, joins, continued conversations, estimates from spec, history, defaults."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_fate.executor.runs.convert import RunShape, TaskShape, split_instance, to_workflow
from airflow_fate.executor.runs.estimates import Defaults, Estimator
from airflow_fate.messages import SegmentSpec, StageSpec
from airflow_fate.state.history import TaskHistory
from airflow_fate.workflow import Workflow

SECRET = "s" * 32
DOCUMENT = SegmentSpec(key="expr", path=("dag_run", "conf", "document"), scoped=True)


def spec(**fields: Any) -> StageSpec:
    return StageSpec(model=fields.pop("model", "m"), **fields)


def convert(
    tasks: dict[str, tuple[StageSpec | None, tuple[str, ...]]],
    history: dict[tuple[str, str], TaskHistory] | None = None,
    instances: dict[str, tuple[int, ...]] | None = None,
    run_id: str = "r",
    conf: dict[str, Any] | None = None,
    finished: frozenset[str] = frozenset(),
) -> Workflow:
    shapes = {name: TaskShape(name, stage_spec, upstream) for name, (stage_spec, upstream) in tasks.items()}
    values = {"dag_run": {"conf": conf or {}, "run_id": run_id}}
    run = RunShape("d", run_id, 5.0, shapes, values, instances or {}, finished)
    return to_workflow(run, Estimator(SECRET, Defaults(500, 100, 2.0), history or {}))


def test_a_task_without_a_spec_is_a_tool_of_its_usual_duration() -> None:
    workflow = convert({"t": (None, ())})
    assert workflow.stages["t"].duration_s == 2.0
    known = convert({"t": (None, ())}, history={("d", "t"): TaskHistory(3, 0, 0, 7.5)})
    assert known.stages["t"].duration_s == 7.5


def test_estimates_come_from_the_spec_then_history_then_defaults() -> None:
    history = {("d", "a"): TaskHistory(2, 900.0, 40.0, 1.0)}
    stated = convert({"a": (spec(prompt_tokens=10, expected_output_tokens=3), ())}, history)
    assert (stated.stages["a"].prompt_tokens, stated.stages["a"].expected_output_tokens) == (10, 3)
    past = convert({"a": (spec(), ())}, history)
    assert (past.stages["a"].prompt_tokens, past.stages["a"].expected_output_tokens) == (900, 40)
    unknown = convert({"a": (spec(), ())})
    assert (unknown.stages["a"].prompt_tokens, unknown.stages["a"].expected_output_tokens) == (500, 100)


def test_an_answer_is_never_expected_longer_than_it_may_be() -> None:
    assert convert({"a": (spec(max_tokens=7), ())}).stages["a"].expected_output_tokens == 7


def test_a_looked_up_document_is_measured_and_shared_between_runs_that_have_the_same() -> None:
    tasks: dict[str, tuple[StageSpec | None, tuple[str, ...]]] = {"a": (spec(prefix=(DOCUMENT,)), ())}
    first = convert(tasks, conf={"document": "word " * 400}, run_id="r1").stages["a"]
    same = convert(tasks, conf={"document": "word " * 400}, run_id="r2").stages["a"]
    other = convert(tasks, conf={"document": "else " * 400}, run_id="r3").stages["a"]
    assert first.prompt_tokens == 500
    assert first.prefix == same.prefix
    assert first.prefix != other.prefix


def test_an_unresolved_expression_is_shared_within_its_run_only() -> None:
    tasks: dict[str, tuple[StageSpec | None, tuple[str, ...]]] = {
        "a": (spec(prefix=(DOCUMENT,)), ()),
        "b": (spec(prefix=(DOCUMENT,)), ()),
    }
    first, second = convert(tasks, run_id="r1"), convert(tasks, run_id="r2")
    assert first.stages["a"].prefix[0].key == first.stages["b"].prefix[0].key
    assert first.stages["a"].prefix[0].key != second.stages["a"].prefix[0].key


def test_tenants_do_not_share_keys() -> None:
    literal = SegmentSpec(key="0011", tokens=9)
    workflow = convert(
        {"a": (spec(prefix=(literal,), tenant="one"), ()), "b": (spec(prefix=(literal,), tenant="two"), ())}
    )
    assert workflow.stages["a"].prefix[0].key != workflow.stages["b"].prefix[0].key


def test_mapped_tasks_meet_in_a_join() -> None:
    workflow = convert(
        {"a": (spec(), ()), "b": (spec(), ("a",)), "c": (spec(), ("b",))},
        instances={"a": (0, 1, 2), "b": (0, 1), "c": (-1,)},
    )
    assert workflow.parents("b[0]") == ("a>>b",)
    assert workflow.parents("a>>b") == ("a[0]", "a[1]", "a[2]")
    assert workflow.parents("c") == ("b[0]", "b[1]")


def test_a_mapped_task_group_is_a_chain_for_each_index_and_what_follows_it_waits_for_all() -> None:
    shapes = {
        "list": TaskShape("list"),
        "g.a": TaskShape("g.a", spec(), ("list",), "g"),
        "g.b": TaskShape("g.b", spec(), ("g.a",), "g"),
        "last": TaskShape("last", spec(), ("g.b",)),
    }
    run = RunShape("d", "r", 0.0, shapes, instances={"g.a": (0, 1), "g.b": (0, 1)})
    workflow = to_workflow(run, Estimator(SECRET))
    assert workflow.parents("g.b[0]") == ("g.a[0]",)
    assert workflow.parents("g.b[1]") == ("g.a[1]",)
    assert workflow.parents("g.a[1]") == ("list",)
    assert workflow.parents("last") == ("g.b[0]", "g.b[1]")


def test_two_mapped_task_groups_meet_in_a_join() -> None:
    shapes = {"g.a": TaskShape("g.a", spec(), (), "g"), "h.b": TaskShape("h.b", spec(), ("g.a",), "h")}
    run = RunShape("d", "r", 0.0, shapes, instances={"g.a": (0, 1), "h.b": (0, 1)})
    assert to_workflow(run, Estimator(SECRET)).parents("h.b[0]") == ("g.a>>h.b",)


def test_a_mapped_task_group_that_is_not_expanded_yet_is_one_chain() -> None:
    shapes = {"g.a": TaskShape("g.a", spec(), (), "g"), "g.b": TaskShape("g.b", spec(), ("g.a",), "g")}
    assert to_workflow(RunShape("d", "r", 0.0, shapes), Estimator(SECRET)).parents("g.b") == ("g.a",)


def test_another_tenant_continues_without_a_cache() -> None:
    workflow = convert({"a": (spec(tenant="one"), ()), "b": (spec(tenant="two", continues="a"), ("a",))})
    assert workflow.stages["b"].continues is None


def test_a_continued_conversation_is_part_of_the_prompt() -> None:
    workflow = convert(
        {
            "a": (spec(prompt_tokens=100, expected_output_tokens=20), ()),
            "b": (spec(prompt_tokens=5, continues="a"), ("a",)),
        }
    )
    assert workflow.stages["b"].continues == "a"
    assert workflow.stages["b"].prompt_tokens == 125
    assert workflow.chain("b")[0].tokens == 120


@pytest.mark.parametrize(
    ("named", "own", "parent"),
    [("a", (0, 1, 2), "a[2]"), ("a[1]", (-1,), "a[1]"), ("a", (-1,), "a[0]")],
    ids=["the same instance", "the named one", "the first"],
)
def test_which_instance_is_continued(named: str, own: tuple[int, ...], parent: str) -> None:
    workflow = convert({"a": (spec(), ()), "b": (spec(continues=named), ("a",))}, instances={"a": (0, 1, 2), "b": own})
    last = [name for name in workflow.stages if name.startswith("b")][-1]
    assert workflow.stages[last].continues == parent


def test_another_model_continues_without_a_cache() -> None:
    workflow = convert({"a": (spec(), ()), "b": (spec(model="n", continues="a"), ("a",))})
    assert workflow.stages["b"].continues is None


def test_finished_stages_are_marked() -> None:
    assert convert({"a": (spec(), ())}, finished=frozenset({"a", "gone"})).finished == {"a"}


def test_instances_are_named_and_split_alike() -> None:
    assert split_instance("work[12]") == ("work", 12)
    assert split_instance("work") == ("work", -1)
