"""A workload from its arrival to its end, with gateways that answer at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import time

import pytest

from airflow_fate.executor.planning.decider import Decider
from airflow_fate.gateway.engines.base import EngineDied, RequestRefused
from airflow_fate.replay import driver
from airflow_fate.replay.driver import Replay
from airflow_fate.replay.fleet import FleetError, check_free
from airflow_fate.replay.prepare import as_played
from airflow_fate.simulator.workload import Workload
from airflow_fate.workflow import StageRef
from tests.unit.replay.builders import FLEET, SECRET, FakeGateways, Source, chat, llm, view, workload
from tests.unit.simulator.checker import disorder


def replay_of(played: Workload, gateways: FakeGateways, source: Source | None = None) -> Replay:
    return Replay(played, source or Source(), gateways, SECRET, Decider("round_robin", None))


@pytest.fixture
def gateways() -> FakeGateways:
    return FakeGateways(time)


async def test_the_log_is_whole_and_in_order(gateways: FakeGateways) -> None:
    played = workload(chat("one"), chat("two"))
    replay = replay_of(played, gateways)
    await replay.play()
    assert disorder(_with_real_tools(played, replay), FLEET, replay.log.events) == []
    assert replay.counted_tokens == replay.asked_tokens == 2 * (2 * 100 + 200)
    assert len(replay.lessons) == 4
    assert not replay._ledger.live()
    assert replay._ledger.audit() == {}


async def test_a_device_that_fails_is_avoided(gateways: FakeGateways) -> None:
    gateways.fail["d0"] = EngineDied("it died")
    replay = replay_of(workload(), gateways)
    await replay.play()
    assert replay.failures == {}
    failed = [event for event in replay.log.events if event["event"] == "fail"]
    assert {event["device"] for event in failed} == {"d0"}
    assert len(gateways.ended) == len(failed) > 0


@pytest.mark.parametrize(("error", "tries"), [(RequestRefused(400, "too long"), 1), (EngineDied("it died"), 3)])
async def test_a_workflow_that_cannot_end_is_named_and_the_others_go_on(
    gateways: FakeGateways, error: Exception, tries: int
) -> None:
    class Picky(FakeGateways):
        async def ask(self, share, engine, model, prompt, output_tokens):  # type: ignore[no-untyped-def]
            if output_tokens == 99:
                raise error
            return await super().ask(share, engine, model, prompt, output_tokens)

    bad = replace(chat("bad"), stages={**chat("bad").stages, "question": llm("question", expected_output_tokens=99)})
    replay = replay_of(workload(bad, chat("good")), Picky(time))
    await replay.play()
    assert list(replay.failures) == ["bad"]
    assert str(error) in replay.failures["bad"]
    assert sum(event["event"] == "fail" for event in replay.log.events) == tries
    assert [event["workflow"] for event in replay.log.events if event["event"] == "done"] == ["good"]


async def test_a_model_that_fits_nowhere_fails_its_workflow(gateways: FakeGateways) -> None:
    odd = replace(chat("odd"), stages={"a": llm("a", model="unknown")}, edges=())
    replay = replay_of(workload(odd), gateways)
    await replay.play()
    assert list(replay.failures) == ["odd"]


async def test_when_it_is_cancelled_reservations_end_and_the_log_has_what_happened(gateways: FakeGateways) -> None:
    gateways.gate.clear()
    replay = replay_of(workload(), gateways)
    playing = asyncio.create_task(replay.play())
    await gateways.asked_one.wait()
    (live,) = replay._ledger.live()
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert not replay._ledger.live()
    assert gateways.ended == [live.id]
    assert [event["event"] for event in replay.log.events] == ["arrive", "ready"]


async def test_a_fleet_that_is_lost_ends_the_replay(gateways: FakeGateways, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "SILENT_S", -1.0)
    with pytest.raises(FleetError, match="no device"):
        await replay_of(workload(), gateways, Source(replace(view(), usable={"d0": False, "d1": False}))).play()


async def test_a_fleet_that_serves_others_is_refused(gateways: FakeGateways) -> None:
    await check_free(gateways, view())
    with pytest.raises(FleetError, match="is it up"):
        await check_free(gateways, replace(view(), usable={}))
    gateways.running = 1
    with pytest.raises(FleetError, match="d0, d1 serve others"):
        await check_free(gateways, view())


def test_arrivals_come_faster_and_outputs_do_not_move() -> None:
    stages = {"a": llm("a", output_bytes=1000)}
    played = as_played(workload(replace(chat("run"), stages=stages, edges=(), arrival_s=6.0)), 3.0)
    assert played.workflows[0].arrival_s == 2.0
    assert played.workflows[0].stages["a"].output_bytes == 0
    assert played.output_tokens == {StageRef("run", "a"): 10}


def _with_real_tools(played: Workload, replay: Replay) -> Workload:
    """The workload, whose tools take as long as they took: no sleep is exact."""
    took_s = {(e["workflow"], e["stage"]): e["seconds"] for e in replay.log.events if e["event"] == "tool"}
    workflows = tuple(
        replace(
            workflow,
            stages={
                name: replace(stage, duration_s=took_s.get((workflow.id, name), 0.0))
                for name, stage in workflow.stages.items()
            },
        )
        for workflow in played.workflows
    )
    return replace(played, workflows=workflows)
