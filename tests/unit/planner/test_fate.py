"""What FATE decides, and the words that it gives for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_fate.cluster import CachedSegment, ClusterState, Device, DeviceGroup, Fleet, Node, PlaceState, Residency
from airflow_fate.physics.costs import CostModel
from airflow_fate.planner import Plan, PlanConfig, policy
from airflow_fate.planner.baselines import BASELINES
from airflow_fate.planner.fate import plan
from airflow_fate.planner.plan import Placed, Problem
from airflow_fate.simulator.instances import ready_stages
from airflow_fate.workflow import Segment, Stage, StageRef, Workflow
from tests.unit.planner.helpers import busy, by_id, fleet, model, one_stage, play, shared_documents, warm

READY = Residency("small")


def planned(state: ClusterState, *workflows: Workflow, config: PlanConfig = PlanConfig()) -> Plan:  # noqa: B008
    return plan(Problem(ready_stages(*workflows), by_id(*workflows), state, CostModel(), 0.0), config)


def with_chain(state: ClusterState, place: str, workflow: Workflow, stage: str) -> ClusterState:
    cached = {link.key: CachedSegment(link.tokens, 0.0, "small") for link in workflow.chain(stage)}
    return replace(state, places={**state.places, place: replace(state.place(place), cached=cached)})


def with_running(state: ClusterState, place: str, until_s: float) -> ClusterState:
    changed = replace(state.place(place), running=(busy(until_s),), prefill_free_s=0.0)
    return replace(state, places={**state.places, place: changed})


def test_stage_goes_where_its_prefix_is() -> None:
    (run,) = shared_documents(1, 1)
    (assignment,) = planned(with_chain(warm(fleet(3)), "gpu-1", run, "worker-0"), run).assignments
    assert assignment.shares[0].place == "gpu-1"
    assert assignment.reason == (
        "gpu-1: model is resident, 2,000 of its 2,100 prompt tokens cached; next best gpu-0 would end 2.5 s later"
    )


def test_stage_is_held_for_the_busy_place_that_has_its_prefix() -> None:
    (run,) = shared_documents(1, 1)
    state = with_running(with_chain(warm(fleet(2)), "gpu-1", run, "worker-0"), "gpu-1", until_s=1.0)
    (hold,) = planned(state, run).holds
    assert (hold.place, hold.until_s) == ("gpu-1", 1.0)
    assert hold.reason == (
        "waits for gpu-1, which has 2,000 of its 2,100 prompt tokens cached and is free in 1.0 s: "
        "saves 1.5 s against gpu-0"
    )


def test_a_prefix_that_is_nominated_for_a_place_does_not_lie_there_yet() -> None:
    document = {"prompt_tokens": 2100, "expected_output_tokens": 20, "prefix": (Segment("document", 2000),)}
    batch = one_stage("batch", prompts=2, **document)
    single = Workflow("single", one_stage("single", **document).stages, arrival_s=0.1)
    state = with_chain(warm(fleet(2, gpus="fast slow", max_seqs=2)), "gpu-1", batch, "only")
    decoding = {
        place: replace(was, running=(replace(busy(until_s), prefill_end_s=0.0),))
        for (place, was), until_s in zip(state.places.items(), (10.0, 100.0), strict=True)
    }
    answer = planned(replace(state, places=decoding), batch, single)
    assert [(hold.ref.workflow, hold.place) for hold in answer.holds] == [("batch", "gpu-0")]
    assert [(bound.ref.workflow, bound.shares[0].place) for bound in answer.assignments] == [("single", "gpu-1")]


def test_stage_is_not_held_when_computing_again_is_faster() -> None:
    (run,) = shared_documents(1, 1)
    state = with_running(with_chain(warm(fleet(2)), "gpu-1", run, "worker-0"), "gpu-1", until_s=4.0)
    (assignment,) = planned(state, run).assignments
    assert assignment.shares[0].place == "gpu-0"


@pytest.mark.parametrize(("busy_until_s", "where"), [(7.0, "held for gpu-0"), (9.0, "loaded on gpu-1")])
def test_however_short_a_stage_is_it_waits_for_less_long_than_a_load_takes(busy_until_s: float, where: str) -> None:
    state = with_running(
        ClusterState(fleet(2), {"gpu-0": PlaceState(resident={"small": READY})}), "gpu-0", busy_until_s
    )
    answer = planned(state, one_stage(prompt_tokens=80, expected_output_tokens=4))
    held = [f"held for {hold.place}" for hold in answer.holds]
    assert [*held, *(f"loaded on {bound.shares[0].place}" for bound in answer.assignments)] == [where]


def test_first_stages_are_spread_and_the_others_follow_them() -> None:
    runs = shared_documents(6, 4)
    answer = planned(warm(fleet(3)), *runs)
    first = {a.ref.workflow: a.shares[0].place for a in answer.assignments}
    assert set(first.values()) == {"gpu-0", "gpu-1", "gpu-2"}
    assert len(first) == 3
    followers = [hold for hold in answer.holds if hold.place and hold.ref.workflow in first]
    assert followers
    assert all(hold.place == first[hold.ref.workflow] for hold in followers)


def test_following_prefixes_computes_each_document_once() -> None:
    runs = shared_documents(6, 4)
    ours = play(policy("fate"), runs, warm(fleet(3)), PlanConfig())
    theirs = play(policy("round_robin"), runs, warm(fleet(3)), PlanConfig())
    assert max(ours.values()) <= 0.55 * max(theirs.values())
    assert sum(ours.values()) <= 0.7 * sum(theirs.values())


def test_prefix_is_copied_when_nobody_else_wants_the_place() -> None:
    answer = planned(warm(fleet(3)), *shared_documents(1, 3))
    assert {a.shares[0].place for a in answer.assignments} == {"gpu-0", "gpu-1", "gpu-2"}


def test_chain_of_running_work_attracts_its_siblings() -> None:
    runs = shared_documents(3, 3)
    state = with_running(with_chain(warm(fleet(2)), "gpu-0", runs[0], "worker-0"), "gpu-0", until_s=1.5)
    started = replace(runs[0], stages={k: v for k, v in runs[0].stages.items() if k != "worker-0"})
    answer = planned(state, started, *runs[1:])
    assert [a.ref.workflow for a in answer.assignments] != ["run-0"]
    assert {hold.place for hold in answer.holds if hold.ref.workflow == "run-0"} == {"gpu-0"}


def test_conversation_goes_on_where_it_began() -> None:
    ask = Stage("ask", model="small", prompt_tokens=2000, expected_output_tokens=100)
    reply = Stage("reply", model="small", prompt_tokens=2200, expected_output_tokens=20, continues="ask")
    chat = Workflow("chat", {"ask": ask, "reply": reply}, (("ask", "reply"),), finished=frozenset({"ask"}))
    (assignment,) = planned(with_chain(warm(fleet(3)), "gpu-2", chat, "reply"), chat).assignments
    assert assignment.shares[0].place == "gpu-2"


def test_older_workflow_goes_first() -> None:
    new, old = one_stage("a-new"), replace(one_stage("b-old"), arrival_s=-30.0)
    assert [a.ref.workflow for a in planned(warm(fleet(1)), new, old).assignments] == ["b-old"]


def test_weight_lifts_a_tenant() -> None:
    normal, important = replace(one_stage("a"), arrival_s=-1.0), replace(one_stage("b"), arrival_s=-1.0, weight=3.0)
    assert [a.ref.workflow for a in planned(warm(fleet(1)), normal, important).assignments] == ["b"]


def test_what_has_least_slack_goes_first() -> None:
    stages = {name: Stage(name, model="small", prompt_tokens=1000, expected_output_tokens=40) for name in "axyz"}
    run = Workflow("run", stages, (("x", "y"), ("y", "z")))
    assert [a.ref.stage for a in planned(warm(fleet(1)), run).assignments] == ["x"]


def test_unusable_place_is_left_out() -> None:
    state = warm(fleet(2))
    down = replace(state, places={**state.places, "gpu-0": PlaceState({"small": READY}, usable=False)})
    (assignment,) = planned(down, one_stage()).assignments
    assert assignment.shares[0].place == "gpu-1"
    gone = replace(state, places={name: PlaceState(usable=False) for name in state.places})
    assert [hold.reason for hold in planned(gone, one_stage()).holds] == ["no usable place can serve small now"]


@pytest.mark.parametrize("chosen", ["fate", "round_robin"])
def test_what_no_place_of_an_open_fleet_can_hold_is_told_with_the_cause(chosen: str) -> None:
    """A pod may come that can, so the stage waits; whoever looks must not have to guess for what."""
    where = fleet(1)
    renamed = {name: replace(device, gpu="NVIDIA-X", also="X") for name, device in where.devices.items()}
    small = {name: replace(device, memory_bytes=1.0) for name, device in where.devices.items()}
    run = one_stage()
    for devices, cause in (
        (renamed, "small has no speeds for NVIDIA-X (X to its gateway); those"),
        (small, "small needs"),
    ):
        state = ClusterState(replace(where, devices=devices, complete=False), {})
        answer = policy(chosen)(Problem(ready_stages(run), by_id(run), state, CostModel(), 0.0), PlanConfig())
        assert [hold.reason[: len(cause)] for hold in answer.holds] == [cause]


def test_place_where_a_try_failed_is_the_last_resort() -> None:
    run = one_stage()
    failed = [replace(ready_stages(run)[0], avoid=frozenset({"gpu-0"}))]
    of_two, of_one = warm(fleet(2)), warm(fleet(1))
    busy_two = with_running(of_two, "gpu-1", until_s=5.0)
    assert plan(Problem(failed, by_id(run), busy_two, CostModel(), 0.0), PlanConfig()).holds[0].place == "gpu-1"
    assert plan(Problem(failed, by_id(run), of_one, CostModel(), 0.0), PlanConfig()).assignments
    down = replace(of_two, places={**of_two.places, "gpu-1": PlaceState({"small": READY}, usable=False)})
    assert plan(Problem(failed, by_id(run), down, CostModel(), 0.0), PlanConfig()).assignments


def test_unknown_model_is_impossible_and_names_the_known() -> None:
    (refusal,) = planned(warm(fleet(1)), one_stage(model="other")).impossible
    assert refusal.reason == "unknown model 'other'; known models: small"


def test_model_too_large_is_impossible_and_gives_sizes() -> None:
    state = ClusterState(fleet(2, model("small"), model("huge", weights_gb=80)))
    (refusal,) = planned(state, one_stage(model="huge")).impossible
    assert refusal.reason == "huge needs 80.0 GB; the largest device has 24.0 GB"


def test_group_model_without_a_group_is_impossible() -> None:
    state = ClusterState(fleet(2, model("wide", group_size=4)))
    (refusal,) = planned(state, one_stage(model="wide")).impossible
    assert refusal.reason == "wide spans 4 devices, and the fleet has no group of 4"


def test_a_stage_goes_only_where_its_model_is_served() -> None:
    both = fleet(2, model("a"), model("b"))
    devices = {"gpu-0": replace(both.devices["gpu-0"], serves=frozenset({"b"})), "gpu-1": both.devices["gpu-1"]}
    answer = planned(
        ClusterState(replace(both, devices=devices)), *(one_stage(f"run-{n}", model="a") for n in range(4))
    )
    assert {a.shares[0].place for a in answer.assignments} == {"gpu-1"}
    (refusal,) = planned(
        ClusterState(replace(both, devices={"gpu-0": devices["gpu-0"]})), one_stage(model="a")
    ).impossible
    assert refusal.reason == "no device serves a"


@pytest.mark.parametrize("name", ["fate", "round_robin"])
def test_where_devices_may_still_come_a_stage_waits_for_one(name: str) -> None:
    state = ClusterState(replace(fleet(2, model("small"), model("huge", weights_gb=80)), complete=False))
    works = one_stage("a", model="huge"), one_stage("b", model="small")
    answer = policy(name)(Problem(ready_stages(*works), by_id(*works), state, CostModel(), 0.0), PlanConfig())
    assert [a.ref.workflow for a in answer.assignments] == ["b"]
    assert [hold.ref.workflow for hold in answer.holds] == ["a"]
    assert answer.impossible == ()


def grouped() -> Fleet:
    wide = model("wide", weights_gb=40, group_size=2)
    return replace(fleet(3, model(), wide), groups={"pair": DeviceGroup("pair", ("gpu-0", "gpu-1"))})


def test_group_is_taken_whole() -> None:
    wide, small = one_stage("a", model="wide", prompt_tokens=4000), [one_stage(f"b{n}") for n in range(3)]
    answer = planned(ClusterState(grouped()), wide, *small)
    places = {a.ref.workflow: a.shares[0].place for a in answer.assignments}
    assert places["a"] == "pair"
    assert set(places.values()) == {"pair", "gpu-2"}


@pytest.mark.parametrize("name", ["fate", "round_robin"])
def test_group_serves_whose_members_serve_nobody_alone(name: str) -> None:
    members = {device: PlaceState(usable=False) for device in ("gpu-0", "gpu-1")}
    run = one_stage(model="wide")
    answer = policy(name)(
        Problem(ready_stages(run), by_id(run), ClusterState(grouped(), members), CostModel(), 0.0), PlanConfig()
    )
    assert [share.place for assignment in answer.assignments for share in assignment.shares] == ["pair"]


def test_group_waits_for_its_last_device() -> None:
    state = with_running(ClusterState(grouped()), "gpu-1", until_s=3.0)
    (hold,) = planned(state, one_stage("a", model="wide")).holds
    assert hold.until_s == pytest.approx(3.0)
    assert hold.reason == "behind 0 stages in the queue; the first place for wide is free in 3.0 s"


def test_batch_is_split_while_was_no_backlog() -> None:
    batch = one_stage(prompts=4, prompt_tokens=1000, max_shards=2)
    (assignment,) = planned(warm(fleet(4, max_seqs=4)), batch).assignments
    assert sorted(share.prompts for share in assignment.shares) == [2, 2]
    assert len({share.place for share in assignment.shares}) == 2


def test_batch_is_not_split_under_backlog() -> None:
    batches = [one_stage(f"run-{n}", prompts=4, prompt_tokens=1000, max_shards=2) for n in range(3)]
    state = warm(fleet(4, max_seqs=4))
    assert {len(a.shares) for a in planned(state, *batches).assignments} == {1}


def test_model_that_is_needed_soon_is_not_evicted() -> None:
    models = [model(name, weights_gb=16) for name in ("wanted", "forgotten", "new")]
    where = Fleet(
        {"n": Node("n")},
        {name: Device(name, "n", "slow", 24e9, 20_000, 1) for name in ("gpu-0", "gpu-1")},
        {spec.name: spec for spec in models},
    )
    places = {
        "gpu-0": PlaceState({"wanted": Residency("wanted", last_used_s=-9)}),
        "gpu-1": PlaceState({"forgotten": Residency("forgotten", last_used_s=-1)}),
    }
    first = Stage("first", model="new", prompt_tokens=100, expected_output_tokens=10)
    later = Stage("later", model="wanted", prompt_tokens=4000, expected_output_tokens=100)
    run = Workflow("run", {"first": first, "later": later}, (("first", "later"),))
    (assignment,) = planned(ClusterState(where, places), run).assignments
    assert assignment.evict == (("gpu-1", "forgotten"),)


def test_prefix_that_only_one_place_has_is_not_evicted_while_somebody_will_begin_with_it() -> None:
    models = [model("old", weights_gb=16), model("new", weights_gb=16)]
    where = fleet(2, *models)
    document = Segment("document", 2000)
    first = Stage("first", model="new", prompt_tokens=100, expected_output_tokens=10)
    later = Stage("later", model="old", prompt_tokens=2100, expected_output_tokens=10, prefix=(document,))
    run = Workflow("run", {"first": first, "later": later}, (("first", "later"),))
    (link,) = run.chain("later")
    has = {link.key: CachedSegment(2000, model="old")}
    for holder in where.devices:
        state = ClusterState(
            where,
            {name: PlaceState({"old": Residency("old")}, has if name == holder else {}) for name in where.devices},
        )
        (assignment,) = planned(state, run).assignments
        assert assignment.shares[0].place != holder


def test_output_of_the_parent_draws_the_child() -> None:
    parent = Stage("parent", model="small", prompt_tokens=10, output_bytes=20_000_000_000)
    child = Stage("child", model="small", prompt_tokens=1000, expected_output_tokens=40)
    run = Workflow("run", {"parent": parent, "child": child}, (("parent", "child"),), finished=frozenset({"parent"}))
    state = replace(warm(fleet(4)), outputs={StageRef("run", "parent"): (("node-1", 1.0),)})
    assert planned(state, run).assignments[0].shares[0].place in {"gpu-2", "gpu-3"}


def test_shared_system_prompt_counts_only_as_a_leading_chain() -> None:
    segments = (Segment("system", 500), Segment("document", 1000))
    run = one_stage(prompt_tokens=1600, prefix=segments)
    outer, inner = run.chain("only")
    state = warm(fleet(2))
    places = {
        "gpu-0": replace(state.place("gpu-0"), cached={inner.key: CachedSegment(1000)}),
        "gpu-1": replace(state.place("gpu-1"), cached={outer.key: CachedSegment(500)}),
    }
    assert planned(replace(state, places=places), run).assignments[0].shares[0].place == "gpu-1"


def test_a_joint_assignment_decides_where_its_stages_begin() -> None:
    where, run = warm(fleet(2)), one_stage()
    by_rule = planned(where, run).assignments[0].shares[0].place
    other = next(place for place in where.fleet.places if place != by_rule)
    answer = planned(where, run, config=PlanConfig(joint=(Placed(StageRef("run", "only"), other, 1),)))
    (bound,) = answer.assignments
    assert [share.place for share in bound.shares] == [other]
    assert not answer.holds
    assert bound.reason


def test_of_a_joint_assignment_what_has_gone_or_cannot_begin_is_left_to_the_rule() -> None:
    state = with_running(warm(fleet(2)), "gpu-1", until_s=50.0)
    gone = Placed(StageRef("elsewhere", "only"), "gpu-0", 1)
    unknown = Placed(StageRef("run", "only"), "gpu-9", 1)
    wanted = Placed(StageRef("run", "only"), "gpu-1", 1)
    for joint in ((gone, unknown), (gone, wanted)):
        (bound,) = planned(state, one_stage(), config=PlanConfig(joint=joint)).assignments
        assert [share.place for share in bound.shares] == ["gpu-0"]


def test_empty_frontier_and_empty_fleet_have_plans() -> None:
    assert planned(warm(fleet(1))).assignments == ()
    empty = ClusterState(Fleet({}, {}, {"small": model()}))
    assert len(planned(empty, one_stage()).impossible) == 1


def test_a_policy_of_the_executor_loads_nothing_ahead_since_nobody_would_carry_it_out() -> None:
    first = Stage("first", model="small", prompt_tokens=1000, expected_output_tokens=400)
    then = Stage("then", model="next", prompt_tokens=1000, expected_output_tokens=400)
    run = Workflow("run", {"first": first, "then": then}, (("first", "then"),))
    state = warm(fleet(3, model(), model("next")))
    problem = Problem(ready_stages(run), by_id(run), state, CostModel(), 0.0)
    assert {action.model for action in plan(problem, PlanConfig(BASELINES["heft+"].rule)).actions} == {"next"}
    assert policy("heft+")(problem, PlanConfig()).actions == ()
