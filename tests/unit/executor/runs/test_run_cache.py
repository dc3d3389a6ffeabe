"""Runs as workflows, read again only when they have changed, and what their ended tries leave to know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, insert
from sqlalchemy.pool import StaticPool

from airflow_fate.executor.runs.convert import RunShape, TaskShape, to_workflow
from airflow_fate.executor.runs.estimates import Estimator
from airflow_fate.executor.runs.reader import RunKey
from airflow_fate.executor.runs.run_cache import FailedTries, RunCache
from airflow_fate.executor.runs.specs import Specs
from airflow_fate.executor.settings import read_settings
from airflow_fate.messages import Facts, SegmentSpec, StageSpec
from airflow_fate.provider_info import get_provider_info
from airflow_fate.state.history import History, TaskHistory
from airflow_fate.state.ledger import Ledger, transaction
from airflow_fate.state.speeds import LearnedSpeeds
from airflow_fate.state.tables import history, metadata
from airflow_fate.workflow import Workflow
from tests.unit.executor.builders import FLEET, SECRET, connections, reservation

OPTIONS = get_provider_info()["config"]["fate"]["options"]
SPEC = StageSpec(model="m", prompt_tokens=100)
FACT = Facts(reservation="r1", device="d0", model="m", requests=1, prompt_tokens=300, completion_tokens=20)


class World:
    """A cache over a database of its own; ``runs`` stands for Airflow's."""

    def __init__(self) -> None:
        values = {name: option["default"] for name, option in OPTIONS.items()} | {"gateway_secret": SECRET}
        engine = create_engine("sqlite://", poolclass=StaticPool)
        metadata.create_all(engine)
        self.connect = partial(transaction, engine)
        self.settings = read_settings(values.__getitem__, 600.0)
        self.ledger = Ledger(self.connect)
        self.history = History(self.connect)
        self.runs: dict[RunKey, dict[str, TaskShape]] = {("dag", "run"): {}}
        self.read: list[RunKey] = []
        self.values: Mapping[str, Any] = {}
        self.lengths: dict[str, int | None] = {}
        self.connections = connections()
        self.cache = self.restarted()

    def restarted(self) -> RunCache:
        speeds = LearnedSpeeds(self.connect)
        return RunCache(self.settings, self.ledger, self.history, speeds, self.connections, Specs(), self._read)

    def task(self, name: str, spec: StageSpec | None = SPEC, upstream: tuple[str, ...] = ()) -> None:
        self.runs["dag", "run"][name] = TaskShape(name, spec, upstream)

    def claimed(self, task_id: str, outcome: str, try_number: int = 1, device: str = "d0") -> str:
        """A reservation that another scheduler has made and ended; its id."""
        wanted = reservation(
            device, id=str(uuid4()), ti_id=str(uuid4()), task_id=task_id, stage=task_id, try_number=try_number
        )
        self.ledger.register({device: 1})
        self.ledger.release(self.ledger.claim(wanted).id, outcome)
        return wanted.id

    def _read(self, wanted: Mapping[RunKey, str]) -> dict[RunKey, RunShape]:
        self.read += wanted
        return {key: self._shape(key) for key in wanted if key in self.runs}

    def _shape(self, key: RunKey) -> RunShape:
        return RunShape(*key, 0.0, dict(self.runs[key]), self.values, lengths=self.lengths)


@pytest.fixture
def world() -> World:
    return World()


def ti(task_id: str, spec: StageSpec = SPEC, **fields: Any) -> Any:
    values = {
        "id": f"try-{task_id}",
        "dag_id": "dag",
        "run_id": "run",
        "task_id": task_id,
        "map_index": -1,
        "try_number": 1,
        "dag_version_id": uuid4(),
        "executor_config": {"fate": spec.to_config()},
    }
    return SimpleNamespace(**(values | fields))


# Workflows


def test_a_run_is_read_once_until_one_of_its_tries_has_ended(world: World) -> None:
    world.task("a")
    world.task("b", upstream=("a",))
    first = world.cache.runs([ti("a")])
    assert world.cache.runs([ti("a")]) == first
    assert world.read == [("dag", "run")]
    world.cache.ended(reservation("d0", task_id="a"), "failed")
    world.cache.runs([ti("b")])
    assert world.read == [("dag", "run")] * 2


def test_a_task_that_the_run_has_not_shown_yet_makes_it_read_again(world: World) -> None:
    world.task("a")
    world.cache.runs([ti("a")])
    world.task("b")
    workflow = world.cache.runs([ti("a"), ti("b")]).workflows["dag/run"]
    assert set(workflow.stages) == {"a", "b"}
    assert len(world.read) == 2


def test_a_task_that_is_not_in_its_dag_any_more_is_planned_all_the_same(world: World) -> None:
    workflow = world.cache.runs([ti("gone")]).workflows["dag/run"]
    assert workflow.stages["gone"].model == "m"


def test_a_run_that_is_gone_is_planned_all_the_same(world: World) -> None:
    workflow = world.cache.runs([ti("a", run_id="deleted")]).workflows["dag/deleted"]
    assert set(workflow.stages) == {"a"}


def test_a_graph_that_can_not_be_used_leaves_its_tasks_to_be_planned_one_by_one(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    # `continues` names a task that isn't upstream: the cluster policy refuses it, an old DAG version may still say so.
    wrong = SPEC.model_copy(update={"continues": "a"})
    world.task("a")
    world.task("b", wrong)
    workflow = world.cache.runs([ti("a"), ti("b", wrong)]).workflows["dag/run"]
    assert set(workflow.stages) == {"a", "b"}
    assert "its graph can't be used" in caplog.text


def test_runs_without_held_tasks_are_forgotten(world: World) -> None:
    world.task("a")
    world.cache.runs([ti("a")])
    assert world.cache.runs([]).workflows == {}
    world.cache.runs([ti("a")])
    assert len(world.read) == 2


# Outputs and history


def test_outputs_lie_where_their_prompts_were_answered(world: World) -> None:
    world.task("b")
    world.cache.runs([ti("b")])
    world.cache.ended(reservation("d0", "d1", task_id="a"), "success")
    assert world.cache.outputs == {("dag/run", "a"): (("n", 0.5), ("n", 0.5))}


def test_a_failed_try_leaves_no_output(world: World) -> None:
    world.task("b")
    world.cache.runs([ti("b")])
    world.cache.ended(reservation("d0", task_id="a"), "failed")
    assert world.cache.outputs == {}


def test_outputs_of_a_run_without_held_tasks_are_forgotten_and_all_read_again(world: World) -> None:
    for name in "abc":
        world.task(name)
    world.cache.runs([ti("c")])
    world.claimed("a", "success")
    world.cache.runs([])
    world.claimed("b", "success")
    world.cache.ended(reservation("d0", task_id="b"), "success")
    assert world.cache.outputs == {}
    world.cache.runs([ti("c")])
    assert set(world.cache.outputs) == {("dag/run", "a"), ("dag/run", "b")}


def test_after_a_restart_outputs_and_history_are_known_again(world: World) -> None:
    world.task("a")
    world.task("b", upstream=("a",))
    world.claimed("a", "success")
    world.cache.learn(reservation("d0", task_id="a"), [FACT], FLEET, 110.0)
    again = world.restarted()
    workflow = again.runs([ti("b")]).workflows["dag/run"]
    assert ("dag/run", "a") in again.outputs
    assert again.learned.history["dag", "a"].prompt_tokens == 300
    assert workflow.stages["a"].expected_output_tokens == 20


def test_what_was_learned_here_is_not_overwritten_by_what_is_read(world: World) -> None:
    world.task("a")
    world.cache.learn(reservation("d0", task_id="a"), [FACT], FLEET, 110.0)
    world.history.record("dag", "a", TaskHistory(1, 5.0, 5.0, 5.0))
    world.cache.runs([ti("a")])
    assert world.cache.learned.history["dag", "a"].prompt_tokens == 300


def test_when_other_tables_are_used_history_is_read_from_them(world: World) -> None:
    world.task("a")
    world.cache.runs([ti("a")])
    world.history.record("dag", "a", TaskHistory(1, 5.0, 5.0, 5.0))
    world.cache.read_again()
    world.cache.runs([ti("a")])
    assert world.cache.learned.history["dag", "a"].runs == 1


# Failed tries


@pytest.mark.parametrize(
    ("outcome", "avoided"),
    [
        ("up_for_retry", True),
        ("queued", True),
        ("success", False),
        ("deferred", False),
        ("revoked", False),
        ("handover failed", False),
    ],
)
def test_a_retry_knows_where_it_failed_whoever_had_placed_it(world: World, outcome: str, avoided: bool) -> None:
    world.claimed("a", outcome)
    world.claimed("b", "failed", device="d1")
    tries = world.cache.failed_tries([ti("a", try_number=2)])
    assert tries["try-a"].places == ({"d0"} if avoided else frozenset())


def test_a_first_try_has_failed_nowhere(world: World) -> None:
    world.claimed("a", "failed")
    assert world.cache.failed_tries([ti("a")]) == {}


def test_another_instance_of_a_mapped_task_has_failures_of_its_own(world: World) -> None:
    world.claimed("a", "failed")
    tries = world.cache.failed_tries([ti("a", map_index=1, try_number=2)])
    assert tries == {"try-a": FailedTries()}


@pytest.mark.parametrize(
    ("devices", "fault", "refused"),
    [
        (("d0",), "fate_engine_died", False),
        (("d0", "d0"), "fate_engine_died", False),
        (("d0", "d1"), "fate_engine_died", True),
        (("d0", "d1"), "fate_load_failed", False),
    ],
)
def test_a_task_that_two_engines_died_of_gets_no_third(
    world: World, devices: tuple[str, ...], fault: str, refused: bool
) -> None:
    for number, device in enumerate(devices, 1):
        reservation_id = world.claimed("a", "up_for_retry", try_number=number, device=device)
        world.ledger.record_facts(
            reservation_id, [FACT.model_copy(update={"device": device, "fault": fault}).model_dump()]
        )
    tries = world.cache.failed_tries([ti("a", try_number=len(devices) + 1)])["try-a"]
    assert bool(tries.refusal) is refused
    if refused:
        assert "engines of d0, d1 died" in tries.refusal


# What comes in may be anything


def test_a_history_that_makes_no_sense_begins_anew(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.task("a", StageSpec(model="m"))
    with world.connect() as connection:
        connection.execute(
            insert(history).values(
                dag_id="dag", task_id="a", runs=3, prompt_tokens=100.0, output_tokens=-99_980.0, duration_s=1.0
            )
        )
    workflow = world.cache.runs([ti("a", StageSpec(model="m"))]).workflows["dag/run"]
    assert workflow.stages["a"].expected_output_tokens == world.settings.default_output_tokens
    assert "dag.a makes no sense" in caplog.text


def test_a_text_that_is_no_unicode_is_a_prefix_as_any_other(world: World) -> None:
    spec = StageSpec(model="m", prefix=(SegmentSpec(key="k", path=("params", "document"), scoped=True),))
    world.task("a", spec)
    world.values = {"params": {"document": "\ud800" * 400}}
    stage = world.cache.runs([ti("a", spec)]).workflows["dag/run"].stages["a"]
    assert stage.prefix[0].tokens == 100


class Hostile(Mapping[str, Any]):
    """Values of a run that fail whoever looks."""

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("not today")

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("not today")

    def __len__(self) -> int:
        return 1


def test_a_run_whose_values_fail_is_planned_by_its_specs(world: World) -> None:
    spec = StageSpec(model="m", prefix=(SegmentSpec(key="k", path=("params", "document"), scoped=True),))
    world.task("a", spec)
    world.values = Hostile()
    runs = world.cache.runs([ti("a", spec)])
    assert (set(runs.workflows), runs.unusable) == ({"dag/run"}, {})


def test_a_run_that_nothing_can_be_planned_for_is_named_and_costs_no_other_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(run: RunShape, estimator: Estimator) -> Workflow:
        if run.run_id == "bad":
            raise OverflowError("too much")
        return to_workflow(run, estimator)

    monkeypatch.setattr("airflow_fate.executor.runs.run_cache.to_workflow", convert)
    world.task("a")
    runs = world.cache.runs([ti("a"), ti("a", run_id="bad")])
    assert set(runs.workflows) == {"dag/run"}
    assert list(runs.unusable) == ["dag/bad"]
    assert "too much" in runs.unusable["dag/bad"]


# Batches that another task gives

BATCH = StageSpec(model="m", prompts=None, prompts_from="make")


def test_a_batch_is_as_long_as_the_list_that_it_comes_from(world: World) -> None:
    world.task("batch", BATCH)
    world.lengths = {"make": 7}
    assert world.cache.runs([ti("batch", BATCH)]).workflows["dag/run"].stages["batch"].prompts == 7


def test_an_empty_batch_is_refused_before_anything_is_bound(world: World) -> None:
    world.task("batch", BATCH)
    world.lengths = {"make": 0}
    runs = world.cache.runs([ti("batch", BATCH)])
    assert runs.refused == {"try-batch": "prompts must have at least one prompt, task 'make' gave an empty list"}


def test_a_list_that_has_come_since_makes_the_run_read_again_and_one_that_is_nowhere_does_not(world: World) -> None:
    world.task("batch", BATCH)
    lengths: list[dict[str, int | None]] = [{}, {"make": None}, {"make": None}]
    for known in lengths:
        world.lengths = known
        world.cache.runs([ti("batch", BATCH)])
    assert len(world.read) == 2
