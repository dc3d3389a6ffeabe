"""``fate simulate`` on real DAGs, from the shell's side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from airflow_fate.cli.main import app
from airflow_fate.executor.runs import dags
from airflow_fate.state.history import TaskHistory

EXAMPLES = Path(__file__).parents[3] / "dags_examples"
DEBATE, MAP_REDUCE = str(EXAMPLES / "debate_and_judge.py"), str(EXAMPLES / "map_reduce_summary.py")
SMALL = ("--runs", "3", "--every", "2", "--seeds", "2", "--jobs", "1", "--output", "json")
PLAIN = 'from airflow.sdk import DAG, task\nwith DAG("plain", schedule=None):\n    task(lambda: 1, task_id="t")()\n'
TWO = "".join(
    f'from airflow.sdk import DAG\nfrom airflow_fate.operators import LLMOperator\nwith DAG("{name}", schedule=None):\n'
    '    LLMOperator(task_id="t", model="smol-a", prompt="hello")\n'
    for name in ("one", "two")
)


@pytest.fixture
def fleet(tmp_path: Path) -> str:
    return fleet_with(tmp_path, "smol-a", "smol-b")


def fleet_with(folder: Path, *models: str) -> str:
    model = {"weights_gb": 12.0, "load_gb_per_s": {"disk": 2.0, "host": 8.0}}
    speeds = {"prefill_tps": {"l4": 1500.0}, "decode_tps": {"l4": 30.0}}
    device = {"node": "n", "gpu": "l4", "memory_gb": 20.0, "kv_tokens": 20_000, "max_seqs": 4}
    document = {
        "nodes": [{"id": "n", "gbps": 10.0, "host_gb": 32.0}],
        "devices": [{"id": "d0"} | device, {"id": "d1"} | device],
        "models": dict.fromkeys(models, model | speeds),
    }
    (folder / "F.json").write_text(json.dumps(document))
    return str(folder / "F.json")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["simulate", *arguments])


def simulated(*arguments: str) -> dict[str, Any]:
    result = run(*arguments, *SMALL)
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_policies_are_side_by_side_on_the_same_draws(fleet: str) -> None:
    document = simulated(DEBATE, "--fleet", fleet)
    assert list(document["policies"]) == ["round_robin", "least_loaded", "prefix_affinity", "eft", "fate"]
    eft, base = document["policies"]["eft"], document["policies"]["round_robin"]
    assert base["ratios"] == {}
    assert eft["ratios"]["mean"]["low"] <= eft["ratios"]["mean"]["value"] <= eft["ratios"]["mean"]["high"]
    assert eft["ratios"]["mean"]["value"] == pytest.approx(eft["mean_s"] / base["mean_s"], rel=0.1)


def test_equal_arguments_give_equal_answers(fleet: str) -> None:
    once, again = (simulated(DEBATE, "--fleet", fleet, "--policy", "fate") for _ in range(2))
    assert once == again
    assert once["policies"] != simulated(DEBATE, "--fleet", fleet, "--policy", "fate", "--seed", "7")["policies"]


def test_a_mapped_task_has_as_many_instances_as_one_says(fleet: str) -> None:
    single = simulated(MAP_REDUCE, "--fleet", fleet, "--policy", "eft")
    six = simulated(MAP_REDUCE, "--fleet", fleet, "--policy", "eft", "--map", "summarize=60")
    assert any("--map summarize=N" in note for note in single["notes"])
    assert not any("--map" in note for note in six["notes"])
    assert six["tasks"]["summarize"]["instances"] == 60
    assert six["policies"]["eft"]["mean_s"] > single["policies"]["eft"]["mean_s"]


def test_history_replaces_defaults_and_is_told(fleet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    past = {("debate_and_judge", "judge"): TaskHistory(17, 2000.0, 20.0, 5.0)}
    monkeypatch.setattr(dags, "read_history", lambda dag_id: past)
    document = simulated(DEBATE, "--fleet", fleet, "--policy", "eft")
    judge, opening = document["tasks"]["judge"], document["tasks"]["open_for"]
    assert (judge["prompt_tokens"], judge["prompt_from"], judge["history_runs"]) == (2000, "history", 17)
    assert (judge["output_tokens"], judge["output_from"]) == (20, "history")
    assert (opening["prompt_from"], opening["output_from"]) == ("text", "default")
    assert "1 of 5 LLM tasks have a history (17 runs or more)." in document["notes"]


def test_the_table_tells_ratios_and_what_they_rest_on(fleet: str) -> None:
    result = run(DEBATE, "--fleet", fleet, "--policy", "eft", *SMALL[:-2])
    assert result.exit_code == 0, result.output
    for expected in ("3 runs of debate_and_judge", "In brackets over round_robin", "reply_against", "(default)"):
        assert expected in result.stdout


def test_one_of_several_dags_is_chosen(fleet: str, tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(TWO)
    result = run(str(tmp_path / "two.py"), "--fleet", fleet)
    assert (result.exit_code, "choose one with --dag-id: one, two" in result.stderr) == (2, True)
    assert simulated(str(tmp_path / "two.py"), "--dag-id", "two", "--fleet", fleet, "--policy", "eft")["dag"] == "two"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "no such file; expected a Python file with a DAG"),
        ("x = 1\n", "has no DAG"),
        ("import nothing_of_that_name\n", "can't be imported: ModuleNotFoundError"),
        (PLAIN, "no task of plain runs on the fleet; expected an LLMOperator"),
    ],
    ids=["missing", "empty", "broken", "no LLM task"],
)
def test_a_file_that_is_of_no_use_is_named_with_what_is_expected(
    source: str | None, message: str, fleet: str, tmp_path: Path
) -> None:
    file = tmp_path / "dag.py"
    if source is not None:
        file.write_text(f"# a DAG with airflow in it\n{source}")
    result = run(str(file), "--fleet", fleet)
    assert result.exit_code == 2, result.output
    assert f"fate simulate: {file}: " in result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--policy", "ghost"), "no policy 'ghost'; there are"),
        (("--objective", "ghost"), "no objective 'ghost'; there are"),
        (("--map", "judge=3"), "--map must name a mapped task of debate_and_judge (it has none), got 'judge'"),
        (("--map", "judge"), "--map must be TASK=N with N from 1 to 10000, got 'judge'"),
        (("--dag-id", "ghost"), "has no DAG 'ghost'; it has debate_and_judge"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: tuple[str, ...], message: str, fleet: str) -> None:
    result = run(DEBATE, "--fleet", fleet, *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr


def test_a_model_that_the_fleet_lacks_is_told_with_its_task(tmp_path: Path) -> None:
    result = run(DEBATE, "--fleet", fleet_with(tmp_path, "smol-a"))
    assert result.exit_code == 2
    assert "debate_and_judge.judge: model must be a model (smol-a) of" in result.stderr


def test_a_dag_that_no_airflow_knows_is_told(fleet: str) -> None:
    result = run("no_such_dag", "--fleet", fleet)
    assert result.exit_code == 2
    assert "no_such_dag: " in result.stderr
    assert "Traceback" not in result.output


def test_a_trace_or_a_workload_stands_for_a_dag(fleet: str) -> None:
    trace = str(Path(__file__).parents[2] / "data" / "otel" / "prefix_sharing_example.json")
    document = simulated(trace, "--fleet", fleet, "--policy", "eft", "--models", "gpt-4o=smol-a")
    assert list(document["policies"]) == ["round_robin", "eft"]
    assert document["policies"]["eft"]["mean_s"] > 0
    unmapped = run(trace, "--fleet", fleet, *SMALL)
    assert unmapped.exit_code == 2
    assert "--models gpt-4o=NAME" in unmapped.output
