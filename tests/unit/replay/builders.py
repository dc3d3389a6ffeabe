"""A small workload, a fleet in this process, and gateways that answer at once, or not at all."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_fate.cluster import Device, Fleet, ModelSpec, Node
from airflow_fate.gateway.engines.base import EngineError, Usage
from airflow_fate.messages import DeviceReport, Facts, ModelReport, Share
from airflow_fate.replay.ask import Answer, Gateways
from airflow_fate.simulator.workload import Workload
from airflow_fate.state.source import FleetView
from airflow_fate.workflow import Segment, Stage, StageKind, StageRef, Workflow

SECRET = "k" * 32
MODEL = ModelSpec("m", 1e9, 1e9, 2e9, {"g": 1000.0}, {"g": 50.0})
FLEET = Fleet(
    {"n": Node("n", host_bytes=4e9)},
    {name: Device(name, "n", "g", 1.5e9, 10_000, 2) for name in ("d0", "d1")},
    {"m": MODEL, "other": ModelSpec("other", 1e9, 1e9, 2e9, {"g": 1000.0}, {"g": 50.0})},
)


def llm(name: str, **more: Any) -> Stage:
    given: dict[str, Any] = {"model": "m", "prompt_tokens": 100, "expected_output_tokens": 10}
    return Stage(name, **(given | more))


def workload(*workflows: Workflow) -> Workload:
    known = workflows or (chat("run"),)
    outputs = {StageRef(w.id, s.id): s.expected_output_tokens for w in known for s in w.stages.values() if s.is_llm}
    return Workload("w", known, outputs)


def chat(name: str) -> Workflow:
    """A question of two prompts, a tool, and an answer that goes on with the question."""
    shared = (Segment("house", 30), Segment("text", 40))
    stages = (
        llm("question", prompts=2, prefix=shared),
        Stage("search", StageKind.TOOL),
        llm("answer", prompt_tokens=200, continues="question"),
    )
    edges = (("question", "search"), ("search", "answer"), ("question", "answer"))
    return Workflow(name, {stage.id: stage for stage in stages}, edges)


def report(device: str, **more: Any) -> DeviceReport:
    told: dict[str, Any] = {
        "gpu": "g",
        "memory_bytes": 1.5e9,
        "kv_tokens": 10_000,
        "max_seqs": 2,
        "engine": "simulated",
    }
    return DeviceReport(device=device, gateway_started=1.0, **(told | more))


def view(**more: Any) -> FleetView:
    devices = tuple(FLEET.devices)
    return FleetView(
        FLEET,
        {name: report(name, **more) for name in devices},
        {name: f"http://{name}" for name in devices},
        dict.fromkeys(devices, 0.0),
        dict.fromkeys(devices, True),
    )


@dataclass
class Source:
    now: FleetView = field(default_factory=view)

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def snapshot(self) -> FleetView:
        return self.now


class FakeGateways(Gateways):
    """Answers at once.

    :ivar fail: device -> what its answers fail with.
    :ivar asked: (device, prompt), in order.
    :ivar ended: reservations that gateways were told of.
    :ivar running: what each says that it serves.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(SECRET)
        self._now = clock
        self.fail: dict[str, EngineError] = {}
        self.asked: list[tuple[str, str]] = []
        self.ended: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked_one = asyncio.Event()
        self.running = 0
        self._counts: Counter[str] = Counter()

    async def ask(self, share: Share, engine: str, model: str, prompt: str, output_tokens: int) -> Answer:
        self.asked.append((share.device, prompt))
        self._counts[share.token] += 1
        asked_s = self._now()
        self.asked_one.set()
        await self.gate.wait()
        if share.device in self.fail:
            raise self.fail[share.device]
        usage = Usage(len(prompt) // 4, 0, output_tokens, 0.1, 0.2)
        return Answer(asked_s, self._now(), " yes" * output_tokens, usage)

    async def facts(self, share: Share) -> Facts:
        requests = self._counts[share.token]
        return Facts(
            reservation="r", device=share.device, model="m", requests=requests, prompt_tokens=100, completion_tokens=10
        )

    async def report(self, url: str) -> DeviceReport:
        models = {"m": ModelReport(state="ready", since=1.0)}
        return report(url.removeprefix("http://"), models=models, running=self.running)

    async def end(self, url: str, reservation: str) -> None:
        self.ended.append(reservation)
