"""How are a workload and a fleet kept? As ``W.json`` and ``F.json``, written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from airflow_fate.cluster import Fleet
from airflow_fate.simulator.atomic import write_whole
from airflow_fate.simulator.workload import Workload
from airflow_fate.workflow import Stage, StageRef

GB = 1e9


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
    _write(path, {"name": workload.name, "workflows": workflows})


def write_fleet(path: Path, fleet: Fleet) -> None:
    """Write ``F.json``, whole or not at all."""
    document = {
        "nodes": [
            {"id": node.id, "zone": node.zone, "gbps": node.gbps, "host_gb": node.host_bytes / GB}
            for node in fleet.nodes.values()
        ],
        "devices": [
            {
                "id": device.id,
                "node": device.node,
                "gpu": device.gpu,
                "memory_gb": device.memory_bytes / GB,
                "kv_tokens": device.kv_tokens,
                "max_seqs": device.max_seqs,
            }
            for device in fleet.devices.values()
        ],
        "groups": [{"id": group.id, "devices": list(group.devices)} for group in fleet.groups.values()],
        "models": {
            model.name: {
                "weights_gb": model.weights_bytes / GB,
                "load_gb_per_s": {"disk": model.disk_bytes_per_s / GB, "host": model.host_bytes_per_s / GB},
                "prefill_tps": dict(model.prefill_tps),
                "decode_tps": dict(model.decode_tps),
                "group_size": model.group_size,
            }
            for model in fleet.models.values()
        },
        "decode_slowdown": fleet.decode_slowdown,
        "latency_s": fleet.latency_s,
    }
    _write(path, document)


def _write(path: Path, document: dict[str, Any]) -> None:
    write_whole(path, json.dumps(document, indent=1, allow_nan=False) + "\n")


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
