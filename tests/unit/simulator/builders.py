"""Small workloads and fleets as documents, and what lies in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def workload_document() -> dict[str, Any]:
    """A question, a tool, and an answer that goes on with the question's conversation."""
    question = {
        "id": "question",
        "kind": "llm",
        "model": "small",
        "prompts": 2,
        "prompt_tokens": 100,
        "output_tokens": 20,
        "expected_output_tokens": 25,
        "prefix": [{"key": "house", "tokens": 30}, {"key": "text", "tokens": 40}],
        "continues": None,
        "output_bytes": 1000,
        "max_shards": 2,
    }
    answer = question | {"id": "answer", "prompts": 1, "prompt_tokens": 200, "prefix": [], "continues": "question"}
    tool = {"id": "search", "kind": "tool", "duration_s": 1.5, "output_bytes": 10}
    edges = [["question", "search"], ["search", "answer"], ["question", "answer"]]
    workflow = {"id": "run", "arrival_s": 0.5, "tenant": "a", "stages": [question, tool, answer], "edges": edges}
    return {"name": "two questions", "workflows": [workflow]}


def fleet_document() -> dict[str, Any]:
    model = {
        "weights_gb": 16.0,
        "load_gb_per_s": {"disk": 2.0, "host": 8.0},
        "prefill_tps": {"fast": 1000.0},
        "decode_tps": {"fast": 50.0},
        "group_size": 1,
    }
    device = {"node": "n", "gpu": "fast", "memory_gb": 20.0, "kv_tokens": 5000, "max_seqs": 4}
    return {
        "nodes": {"n": {"zone": "z", "gbps": 10.0, "host_gb": 64.0}},
        "devices": {"d0": device, "d1": dict(device)},
        "groups": {"pair": ["d0", "d1"]},
        "models": {"small": model, "wide": model | {"weights_gb": 30.0, "group_size": 2}},
        "decode_slowdown": 0.03,
        "latency_s": 0.001,
    }


def version_1(fleet: dict[str, Any]) -> dict[str, Any]:
    """The same fleet as version 1 of the format has it: lists, with an id in each entry."""
    return fleet | {
        "nodes": [{"id": name} | node for name, node in fleet["nodes"].items()],
        "devices": [{"id": name} | device for name, device in fleet["devices"].items()],
        "groups": [{"id": name, "devices": members} for name, members in fleet["groups"].items()],
    }


def files_below(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
