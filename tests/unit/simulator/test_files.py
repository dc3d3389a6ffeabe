"""Workload and fleet files: what is read is what was written, and what can't be used says where and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_fate.simulator.files import (
    FileError,
    read_fleet,
    read_inputs,
    read_workload,
    write_fleet,
    write_workload,
)
from airflow_fate.state.fleetfile import parse_fleet_file
from airflow_fate.workflow import Segment, StageRef
from tests.unit.simulator.builders import files_below, fleet_document, version_1, workload_document

Change = Callable[[dict[str, Any]], Any]


def put(folder: Path, workload: Any = None, fleet: Any = None) -> tuple[Path, Path]:
    """Both files, from the documents given or from good ones."""
    for name, document in (("W.json", workload or workload_document()), ("F.json", fleet or fleet_document())):
        (folder / name).write_text(json.dumps(document))
    return folder / "W.json", folder / "F.json"


def test_a_workload_file_becomes_workflows_and_the_truth_about_them(tmp_path: Path) -> None:
    workload, _ = read_inputs(*put(tmp_path))
    (workflow,) = workload.workflows
    assert (workload.name, workflow.arrival_s, workflow.tenant) == ("two questions", 0.5, "a")
    assert workflow.stages["question"].prefix == (Segment("house", 30), Segment("text", 40))
    assert workflow.stages["answer"].continues == "question"
    assert workflow.stages["search"].duration_s == 1.5
    assert workload.output_tokens == {StageRef("run", "question"): 20, StageRef("run", "answer"): 20}


def test_a_fleet_file_is_in_gigabytes_of_ten_to_the_ninth(tmp_path: Path) -> None:
    fleet = read_fleet(put(tmp_path)[1])
    assert fleet.devices["d0"].memory_bytes == 20e9
    assert fleet.nodes["n"].host_bytes == 64e9
    assert fleet.models["small"].disk_bytes_per_s == 2e9
    assert fleet.groups["pair"].devices == ("d0", "d1")


RUNNING = """
models:
  small:
    {file: no.gguf, weights_gb: 2, load_gb_per_s: {disk: 1, host: 4}, prefill_tps: {l4: 9}, decode_tps: {l4: 3}}
nodes:
  n: {host_gb: 3}
devices:
  d0: &one {node: n, gpu: l4, engine: llamacpp, memory_gb: 20, kv_tokens: 100, max_seqs: 2}
  d1: *one
groups:
  pair: [d0, d1]
"""


def test_a_fleet_that_runs_is_read_in_either_form(tmp_path: Path) -> None:
    """The model's file need not be there: nothing is started."""
    (tmp_path / "fleet.yaml").write_text(RUNNING)
    fleet = read_fleet(tmp_path / "fleet.yaml")
    assert fleet.places == ("d0", "d1", "pair")
    assert fleet.models["small"].disk_bytes_per_s == 1e9
    (tmp_path / "fleet.json").write_text(parse_fleet_file(RUNNING).model_dump_json(indent=2))
    assert read_fleet(tmp_path / "fleet.json") == fleet


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hello", "must be a mapping with models, nodes and devices, got str"),
        ("{", "must be YAML or JSON"),
        ("devices: [", "must be YAML or JSON"),
        (RUNNING.replace("memory_gb: 20", "memory: 20"), "devices.d0.memory_gb"),
        ("devices: {}", "models: "),
    ],
)
def test_what_is_a_fleet_of_no_form_says_which_there_are(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "fleet.yaml").write_text(text)
    with pytest.raises(FileError) as error:
        read_fleet(tmp_path / "fleet.yaml")
    assert str(error.value).startswith(f"{tmp_path / 'fleet.yaml'}: ")
    assert says in str(error.value)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    workload, fleet = read_inputs(*put(tmp_path))
    write_workload(tmp_path / "again" / "W.json", workload)
    write_fleet(tmp_path / "again" / "F.json", fleet)
    assert read_inputs(tmp_path / "again" / "W.json", tmp_path / "again" / "F.json") == (workload, fleet)
    assert json.loads((tmp_path / "again" / "W.json").read_text()) == workload_document()
    assert json.loads((tmp_path / "again" / "F.json").read_text()) == fleet_document()


def test_a_fleet_of_version_1_is_the_same_fleet(tmp_path: Path) -> None:
    _, now = put(tmp_path)
    (tmp_path / "old.json").write_text(json.dumps(version_1(fleet_document())))
    assert read_fleet(tmp_path / "old.json") == read_fleet(now)


def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workload, _ = read_inputs(*put(tmp_path))
    before = (tmp_path / "W.json").read_text()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("airflow_fate.atomic.os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_workload(tmp_path / "W.json", workload)
    assert (tmp_path / "W.json").read_text() == before
    assert files_below(tmp_path) == {"W.json", "F.json"}


def first(document: dict[str, Any], stage: int = 0) -> Any:
    return document["workflows"][0]["stages"][stage]


def edges(document: dict[str, Any]) -> Any:
    return document["workflows"][0]["edges"]


BAD_WORKLOADS: dict[str, tuple[Change, str]] = {
    "cycle": (lambda w: edges(w).append(["answer", "question"]), "workflows[0].edges: must have no cycle, got "),
    "own parent": (lambda w: edges(w).append(["answer", "answer"]), "workflows[0].edges: must have no cycle, got "),
    "unknown parent": (
        lambda w: edges(w).append(["ghost", "answer"]),
        "workflows[0].edges[3][0]: must be a stage (answer, question, search) of this workflow, got 'ghost'",
    ),
    "edge twice": (lambda w: edges(w).append(edges(w)[0]), "workflows[0].edges[3]: must be listed once"),
    "continues no parent": (
        lambda w: first(w, 2).update(continues="ghost"),
        "workflows[0].stages[2].continues: must be a parent of kind llm (question) or null, got 'ghost'",
    ),
    "continues a tool": (
        lambda w: first(w, 2).update(continues="search"),
        "workflows[0].stages[2].continues: must be a parent of kind llm (question) or null, got 'search'",
    ),
    "negative tokens": (
        lambda w: first(w).update(prompt_tokens=-1),
        "workflows[0].stages[0].prompt_tokens: must be greater than or equal to 0, got -1",
    ),
    "tokens of a prefix": (
        lambda w: first(w)["prefix"][1].update(tokens=-4),
        "workflows[0].stages[0].prefix[1].tokens: must be greater than or equal to 0, got -4",
    ),
    "prefix over prompt": (
        lambda w: first(w).update(prompt_tokens=69),
        "workflows[0].stages[0].prompt_tokens: must be at least the 70 tokens of its prefix, got 69",
    ),
    "NaN": (
        lambda w: w["workflows"][0].update(arrival_s=float("nan")),
        "workflows[0].arrival_s: must be a finite number, got nan",
    ),
    "infinite": (
        lambda w: first(w, 1).update(duration_s=float("inf")),
        "workflows[0].stages[1].duration_s: must be a finite number, got inf",
    ),
    "NaN tokens": (
        lambda w: first(w).update(output_tokens=float("nan")),
        "workflows[0].stages[0].output_tokens: must be a finite number, got nan",
    ),
    "part of a token": (lambda w: first(w).update(output_tokens=1.5), "workflows[0].stages[0].output_tokens: must be"),
    "number as text": (lambda w: first(w).update(prompts="2"), "workflows[0].stages[0].prompts: must be a number"),
    "no prompts": (lambda w: first(w).update(prompts=0), "workflows[0].stages[0].prompts: must be greater than or"),
    "same workflow twice": (
        lambda w: w["workflows"].append(w["workflows"][0]),
        "workflows[1].id: must be unique, got 'run', as in workflows[0]",
    ),
    "same stage twice": (
        lambda w: w["workflows"][0]["stages"].append(first(w)),
        "workflows[0].stages[3].id: must be unique, got 'question', as in workflows[0].stages[0]",
    ),
    "unknown model": (
        lambda w: first(w).update(model="ghost"),
        "workflows[0].stages[0].model: must be a model (small, wide) of",
    ),
    "unknown key": (
        lambda w: first(w, 1).update(model="small"),
        "workflows[0].stages[1].model: is no known key",
    ),
    "missing key": (lambda w: first(w).pop("output_tokens"), "workflows[0].stages[0].output_tokens: is missing"),
    "unknown kind": (lambda w: first(w).update(kind="x"), "workflows[0].stages[0].kind: must be one of 'llm', 'tool'"),
    "no workflows": (lambda w: w.update(workflows=[]), "workflows: must have at least 1 entry"),
    "no stages": (lambda w: w["workflows"][0].update(stages=[]), "workflows[0].stages: must have at least 1 entry"),
}

BAD_FLEETS: dict[str, tuple[Change, str]] = {
    "no devices": (lambda f: f.update(devices={}, groups={}), "devices: must have at least 1 entry"),
    "no nodes": (lambda f: f.update(nodes={}), "nodes: must have at least 1 entry"),
    "no models": (lambda f: f.update(models={}), "models: must have at least 1 entry"),
    "unknown node": (lambda f: f["devices"]["d1"].update(node="x"), "devices.d1.node must be one of n, got 'x'"),
    "unknown device": (lambda f: f["groups"]["pair"].append("x"), "groups.pair must list devices, got 'x'"),
    "device twice in a group": (lambda f: f["groups"].update(pair=["d0", "d0"]), "groups.pair must list each"),
    "empty group": (lambda f: f["groups"].update(pair=[]), "groups.pair: must have at least 1 entry"),
    "group called as a device": (
        lambda f: f["groups"].update(d0=["d0", "d1"]),
        "groups.d0 must differ from the names of",
    ),
    "negative memory": (
        lambda f: f["devices"]["d0"].update(memory_gb=-1),
        "devices.d0.memory_gb: must be greater than",
    ),
    "unknown key": (lambda f: f["devices"]["d0"].update(memory=1), "devices.d0.memory: is no known key"),
    "missing key": (lambda f: f["devices"]["d0"].pop("gpu"), "devices.d0.gpu: is missing"),
    "url without an engine": (
        lambda f: f["devices"]["d0"].update(url="http://h"),
        "devices.d0.url is for engines vllm",
    ),
    "no speed": (
        lambda f: f["models"]["small"]["prefill_tps"].update(fast=0),
        "models.small.prefill_tps.fast: must be greater than 0, got 0",
    ),
    "infinite rate": (
        lambda f: f["models"]["small"]["load_gb_per_s"].update(disk=float("inf")),
        "models.small.load_gb_per_s.disk: must be a finite number, got inf",
    ),
}

BAD_LISTS: dict[str, tuple[Change, str]] = {
    "same device twice": (
        lambda f: f["devices"].append(f["devices"][0]),
        "devices[2].id must be unique, got 'd0', as in devices[0]",
    ),
    "no id": (lambda f: f["nodes"][0].pop("id"), "nodes[0] must be an object with an id, got "),
    "group without devices": (lambda f: f["groups"][0].pop("devices"), "groups[0] must have id and devices, got "),
}

FIT_NOWHERE: dict[str, Change] = {
    "too large": lambda f: f["models"]["small"].update(weights_gb=30),
    "no group of that size": lambda f: f["models"]["small"].update(group_size=3),
    "no speed on these GPUs": lambda f: f["models"]["small"].update(decode_tps={"other": 1.0}),
}


@pytest.mark.parametrize("case", BAD_WORKLOADS)
def test_a_bad_workload_is_refused_with_file_place_and_form(tmp_path: Path, case: str) -> None:
    change, message = BAD_WORKLOADS[case]
    document = workload_document()
    change(document)
    workload, fleet = put(tmp_path, workload=document)
    with pytest.raises(FileError) as refused:
        read_inputs(workload, fleet)
    assert str(refused.value).startswith(f"{workload}: {message}")


@pytest.mark.parametrize("case", BAD_FLEETS)
def test_a_bad_fleet_is_refused_with_file_place_and_form(tmp_path: Path, case: str) -> None:
    change, message = BAD_FLEETS[case]
    document = fleet_document()
    change(document)
    _, fleet = put(tmp_path, fleet=document)
    with pytest.raises(FileError) as refused:
        read_fleet(fleet)
    assert str(refused.value).startswith(f"{fleet}: {message}")


@pytest.mark.parametrize("case", BAD_LISTS)
def test_a_bad_list_of_version_1_is_refused_with_its_place(tmp_path: Path, case: str) -> None:
    change, message = BAD_LISTS[case]
    document = version_1(fleet_document())
    change(document)
    _, fleet = put(tmp_path, fleet=document)
    with pytest.raises(FileError) as refused:
        read_fleet(fleet)
    assert str(refused.value).startswith(f"{fleet}: {message}")


def test_a_key_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "F.json").write_text('{"models": {}, "models": {}}')
    with pytest.raises(FileError, match="each key of an object must be given once, got 'models' twice"):
        read_fleet(tmp_path / "F.json")


@pytest.mark.parametrize("case", FIT_NOWHERE)
def test_a_model_that_fits_nowhere_is_refused_where_a_stage_asks_for_it(tmp_path: Path, case: str) -> None:
    document = fleet_document()
    FIT_NOWHERE[case](document)
    workload, fleet = put(tmp_path, fleet=document)
    with pytest.raises(FileError, match=r"W\.json: workflows\[0\]\.stages\[0\]\.model: must fit on a device or group"):
        read_inputs(workload, fleet)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"name": "a", "name": "b"}', "[" * 100_000, "\udcff"])
def test_what_is_not_such_a_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "W.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(FileError, match=r"W\.json: "):
        read_workload(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"nowhere\.json: No such file"):
        read_workload(tmp_path / "nowhere.json")
    with pytest.raises(FileError, match="Is a directory"):
        read_fleet(tmp_path)
