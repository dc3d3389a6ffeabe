"""``fate bench`` from the shell's side, over a simulator that only pretends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from airflow_fate.cli.main import app
from tests.unit.bench.fake_simulator import FakeSimulator
from tests.unit.simulator.builders import files_below, fleet_document, workload_document


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeSimulator:
    fake = FakeSimulator()
    fake.install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "W.json").write_text(json.dumps(workload_document()))
    (tmp_path / "F.json").write_text(json.dumps(fleet_document()))
    return fake


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["bench", *arguments])


FILES = ("run", "--workload", "W.json", "--fleet", "F.json")
SMALL = ("small", "--scenario", "small-uniform", "--seeds", "2", "--jobs", "1", "--out", "out")
SUITE = ("suite", *SMALL)


def test_files_of_each_policy_are_written_and_the_table_is_relative_to_round_robin(simulator: FakeSimulator) -> None:
    result = bench(*FILES, "--policy", "fate", "--policy", "eft", "--seed", "3", "--out", "out", "--jobs", "1")
    assert result.exit_code == 0, result.output
    assert files_below(Path("out")) == {f"{p}/{f}" for p in ("fate", "eft") for f in ("summary.json", "events.jsonl")}
    assert json.loads(Path("out/fate/summary.json").read_text())["makespan_s"] == pytest.approx(60 * 1.003)
    assert [json.loads(line)["event"] for line in Path("out/fate/events.jsonl").read_text().splitlines()] == ["arrive"]
    assert "(0.600)" in result.output
    assert [call[0] for call in simulator.calls] == ["round_robin", "fate", "eft"]


def test_the_objective_and_the_seed_reach_the_simulation(simulator: FakeSimulator) -> None:
    assert bench(*FILES, "--policy", "fate", "--objective", "p95", "--seed", "9").exit_code == 0
    assert ("fate", "p95", 9, {}) in simulator.calls


def test_json_is_printed_instead_of_the_table(simulator: FakeSimulator) -> None:
    result = bench(*FILES, "--policy", "fate", "--output", "json")
    document = json.loads(result.stdout)
    assert document["policies"]["fate"]["over_round_robin"]["mean"] == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*FILES, "--policy", "ghost"), "no policy 'ghost'; there are fate, round_robin, eft, eft+"),
        ((*FILES,), "--policy is missing; there are"),
        ((*FILES, "--policy", "fate", "--objective", "x"), "no objective 'x'; there are makespan, mean, p95, balanced"),
        (("suite", "ghost"), "no suite 'ghost'; there are real-dag, prefix-reuse, small and all"),
        (("suite", "small", "--scenario", "ghost"), "no scenario 'ghost' in small; there are small-uniform,"),
        (("suite", "small", "--policy", "ghost"), "no policy 'ghost'"),
        (("suite", "small", "--objective", "ghost"), "no objective 'ghost'"),
        (("ablations", "ghost"), "no suite 'ghost'"),
        (("optimum", "--scenario", "ghost"), "no scenario 'ghost' in small"),
        (("export", "ghost", "--out", "out"), "no suite 'ghost'"),
        (("run", "--workload", "none.json", "--fleet", "F.json", "--policy", "fate"), "none.json: No such file"),
    ],
)
def test_bad_arguments_are_told_and_end_with_2(
    simulator: FakeSimulator, arguments: tuple[str, ...], message: str
) -> None:
    result = bench(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert simulator.calls == []


def test_a_bad_file_is_told_without_a_traceback(simulator: FakeSimulator) -> None:
    document = workload_document()
    document["workflows"][0]["edges"].append(["answer", "question"])
    Path("W.json").write_text(json.dumps(document))
    result = bench(*FILES, "--policy", "fate", "--out", "out")
    assert result.exit_code == 2
    assert "W.json: workflows[0].edges: must have no cycle" in result.stderr
    assert not Path("out").exists()


def test_a_suite_runs_each_policy_once_and_fate_for_each_objective(simulator: FakeSimulator) -> None:
    result = bench(*SUITE)
    assert result.exit_code == 0, result.output
    first = [call[:2] for call in simulator.calls if call[2] == 0]
    assert sorted(first) == [
        ("eft", "balanced"),
        ("eft+", "balanced"),
        ("fate", "makespan"),
        ("fate", "mean"),
        ("fate", "p95"),
        ("round_robin", "balanced"),
    ]
    assert {"report.md", "report.html"} <= files_below(Path("out"))


def test_the_report_has_the_command_the_ratios_and_the_rivals(simulator: FakeSimulator) -> None:
    bench(*SUITE)
    report = Path("out/report.md").read_text()
    assert "fate bench suite small --scenario small-uniform --seeds 2 --out out" in report
    assert "| **fate** | **0.600 [0.600, 0.600]** |" in report
    assert "| strongest other policy | eft | eft | eft |" in report
    # FATE is the best of them in each run, so in hindsight one would take it.
    assert "hindsight, over it | 0.750 [0.750, 0.750]" in report
    assert "**0.857 [0.857, 0.857]**" in report  # over the strongest with +
    assert "minutes of one core" in report
    assert "<table>" in Path("out/report.html").read_text()


def test_a_second_run_simulates_only_what_is_missing(simulator: FakeSimulator) -> None:
    bench(*SUITE)
    Path("out/runs/small/small-uniform/seed-1/eft.balanced.json").unlink()
    Path("out/runs/small/small-uniform/seed-1/eft+.balanced.json").write_text("{}")
    simulator.calls.clear()
    assert bench(*SUITE).exit_code == 0
    assert sorted(call[0] for call in simulator.calls) == ["eft", "eft+"]
    simulator.calls.clear()
    bench(*SUITE, "--fresh")
    assert len(simulator.calls) == 12


def test_an_interrupt_keeps_what_is_finished_and_ends_with_130(simulator: FakeSimulator) -> None:
    def interrupt(policy: str) -> None:
        if len(simulator.calls) == 3:
            raise KeyboardInterrupt

    simulator.on_call = interrupt
    result = bench(*SUITE)
    assert result.exit_code == 130
    assert "Traceback" not in result.output
    finished = files_below(Path("out"))
    assert len(finished) == 3
    assert all(json.loads((Path("out") / file).read_text())["summary"] for file in finished)


def test_a_run_that_fails_is_told_and_the_others_are_reported(simulator: FakeSimulator) -> None:
    def fail(policy: str) -> None:
        if policy == "eft+":
            raise RuntimeError("out of ideas")

    simulator.on_call = fail
    result = bench(*SUITE)
    assert result.exit_code == 1
    assert "out of ideas" in result.stderr
    assert "| strongest other policy | eft |" in Path("out/report.md").read_text()


def test_ablations_switch_parts_off_and_are_compared_with_the_whole(simulator: FakeSimulator) -> None:
    result = bench("ablations", *SMALL)
    assert result.exit_code == 0, result.output
    options = [call[3] for call in simulator.calls if call[2] == 0 and call[0] == "fate"]
    for expected in ({}, {"rollouts": 0}, {"horizon": 4}, {"shards": 8}, {"residency": 0}):
        assert expected in options
    assert {"residency": 0, "locality": 0, "reachability": 0} in options  # prefix alone
    report = Path("out/ablations.md").read_text()
    assert "| without rollouts | 1.010 [1.010, 1.010] |" in report
    assert "| nothing |" in report


def test_a_scenario_is_exported_as_files(simulator: FakeSimulator) -> None:
    assert bench("export", *SMALL[:3], "--out", "one").exit_code == 0
    assert files_below(Path("one")) == {"W.json", "F.json"}
    assert bench("export", "small", "--seeds", "2", "--out", "many").exit_code == 0
    assert len(files_below(Path("many"))) == 12
    assert simulator.calls == []
