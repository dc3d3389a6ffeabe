"""Plans come true once an engine has taught what it is: tenfold slower than described, with slowdowns of its own.

A simulated engine stands behind a real gateway, whose facts the executor learns from; time is simulated, too.
"""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_fate.cluster import ClusterState, Device, Fleet, ModelSpec, Node, PlaceState, Residency
from airflow_fate.executor.runs.learning import Learned
from airflow_fate.gateway.artifacts import Artifacts
from airflow_fate.gateway.core import DeviceTraits, Gateway
from airflow_fate.gateway.engines import SimulatedEngine, Speeds
from airflow_fate.gateway.serving.host_cache import HostCache
from airflow_fate.messages import Claims
from airflow_fate.physics.costs import CostModel
from airflow_fate.planner import PlanConfig, Problem
from airflow_fate.planner.fate import plan
from airflow_fate.planner.plan import ReadyStage
from airflow_fate.workflow import Stage, StageRef, Workflow
from tests.unit.executor.builders import reservation
from tests.unit.gateway.steps import Steps

SEQUENCES, BATCH_TOKENS = 4, 512
TRUTH = Speeds(prefill_tps=100.0, decode_tps=5.0, decode_slowdown=0.3, context_slowdown=0.2)
FLEET = Fleet(
    {"n": Node("n")},
    {"d0": Device("d0", "n", "gpu", 2e9, 100_000, SEQUENCES, batch_tokens=BATCH_TOKENS)},
    {"m": ModelSpec("m", 1e9, 1e9, 2e9, {"gpu": 1000.0}, {"gpu": 50.0})},
)


class World:
    """A gateway before a simulated engine, in a time that passes from one awaited moment to the next."""

    def __init__(self, folder: Path) -> None:
        self.time = Steps(1000.0)
        self._number = itertools.count()
        traits = DeviceTraits("d0", "gpu", "simulated", 2e9, 100_000, SEQUENCES, {"m": 1e9})
        engine = SimulatedEngine(
            {"m": TRUTH}, 100_000, sleep=self.time.sleep, batch_tokens=BATCH_TOKENS, clock=lambda: self.time.now_s
        )
        self.gateway = Gateway(traits, engine, Artifacts(folder, budget_bytes=10**6), HostCache(0, {"m": 1e9}))
        self.learned = Learned()

    async def answer(self, prompt_tokens: int, output_tokens: int) -> None:
        """Have a prompt answered that nobody has asked before, and learn from it."""
        name = str(next(self._number))
        body = {"prompt": f"{name:>8}" + "x" * (4 * prompt_tokens - 8), "max_tokens": output_tokens}
        claims = Claims(aud="d0", sub="t", jti=name, exp=2**40, model="m", sequences=1)
        async for _ in self.gateway.ask(claims, "completions", body):
            pass
        self.learned = self.learned.after(reservation("d0"), [self.gateway.facts.of(name)], FLEET, self.time.now_s)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(tmp_path)
    clock = SimpleNamespace(monotonic=lambda: world.time.now_s, time=lambda: world.time.now_s)
    monkeypatch.setattr("airflow_fate.gateway.core.time", clock)
    monkeypatch.setattr("airflow_fate.gateway.serving.queue.time", clock)
    return world


async def taught(world: World, answers: int) -> None:
    """Answers of any length, one to four at once, as a fleet is now busy and now idle."""
    rng, left = random.Random(0), answers
    while left > 0:
        together = min(left, rng.randint(1, SEQUENCES))
        await world.time.run(*(world.answer(rng.randint(20, 400), rng.randint(5, 60)) for _ in range(together)))
        left -= together


def planned_s(costs: CostModel, prompt_tokens: int, output_tokens: int) -> float:
    """How long the plan says that such a prompt takes, alone on the device."""
    stage = Stage("s", model="m", prompt_tokens=prompt_tokens, expected_output_tokens=output_tokens)
    frontier = [ReadyStage(StageRef("w", "s"), 0.0)]
    state = ClusterState(FLEET, {"d0": PlaceState(resident={"m": Residency("m")})})
    problem = Problem(frontier, {"w": Workflow("w", {"s": stage})}, state, costs, 0.0)
    (assignment,) = plan(problem, PlanConfig()).assignments
    return assignment.finish_s


@pytest.mark.parametrize("size", [(50, 40), (400, 10), (200, 60)])
async def test_after_a_hundred_answers_plans_are_within_fifteen_percent(world: World, size: tuple[int, int]) -> None:
    await taught(world, 100)
    costs, begun_s = world.learned.costs, world.time.now_s
    await world.time.run(world.answer(*size))
    took_s = world.time.now_s - begun_s
    assert planned_s(costs, *size) == pytest.approx(took_s, rel=0.15)
    # By the fleet's description it would be off tenfold.
    assert planned_s(CostModel(), *size) < took_s / 5
