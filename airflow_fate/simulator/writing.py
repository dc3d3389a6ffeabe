"""How are a workload and a fleet kept? As ``W.json`` and ``F.json``, written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_fate.atomic import write_json
from airflow_fate.cluster import Fleet
from airflow_fate.simulator.workload import Workload
from airflow_fate.state.fleetschema import document
from airflow_fate.workflow import Stage, StageRef


def write_workload(path: Path, workload: Workload) -> None:
    """Write ``W.json``, whole or not at all."""
    workflows = [
        {
            "id": workflow.id,
            "arrival_s": workflow.arrival_s,
            "tenant": workflow.tenant,
            "stages": [
                _stage_entry(stage, workload.output_tokens.get(StageRef(workflow.id, stage.id), 0))
                for stage in workflow.stages.values()
            ],
            "edges": [list(edge) for edge in workflow.edges],
        }
        for workflow in workload.workflows
    ]
    write_json(path, {"name": workload.name, "workflows": workflows})


def write_fleet(path: Path, fleet: Fleet) -> None:
    """Write ``F.json``, whole or not at all."""
    write_json(path, document(fleet))


def _stage_entry(stage: Stage, output_tokens: int) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": stage.id, "kind": stage.kind.value}
    if not stage.is_llm:
        return entry | {"duration_s": stage.duration_s, "output_bytes": stage.output_bytes}
    return entry | {
        "model": stage.model,
        "prompts": stage.prompts,
        "prompt_tokens": stage.prompt_tokens,
        "output_tokens": output_tokens,
        "expected_output_tokens": stage.expected_output_tokens,
        "prefix": [{"key": segment.key, "tokens": segment.tokens} for segment in stage.prefix],
        "continues": stage.continues,
        "output_bytes": stage.output_bytes,
        "max_shards": stage.max_shards,
    }
