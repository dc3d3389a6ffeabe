"""What happened in a simulation, as the benchmark's event log (docs/physics.md, "Event log")?"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator
from typing import Any, cast

import numpy as np

from airflow_fate.physics.dynamics import log as kinds
from airflow_fate.physics.world.arrays import LogRow
from airflow_fate.physics.world.encode import Encoded
from airflow_fate.physics.world.tables import Table, dtype_of

_Row = namedtuple("_Row", dtype_of(LogRow).names or ())  # type: ignore[misc]
_WHY = ("demand", "prefetch", "replicate")
_OF_WORKFLOW = {kinds.ARRIVE: "arrive", kinds.DONE: "done"}
_OF_STAGE = {kinds.READY: "ready", kinds.FINISH: "finish"}


def event_log(encoded: Encoded) -> list[dict[str, Any]]:
    """The events of a world that was played, by time; what happens at one time stays in the order of its causes."""
    log = encoded.world.log[: encoded.world.tally[0].logged]
    order = np.argsort(log["t"], kind="stable")
    return list(_events(encoded, log[order]))


def _events(encoded: Encoded, log: Table[LogRow]) -> Iterator[dict[str, Any]]:
    stages, places, models = encoded.stages, encoded.places, encoded.models
    model_of = encoded.world.stages["model"].tolist()
    for row in cast("Iterator[LogRow]", map(_Row._make, log.tolist())):
        if row.kind in _OF_WORKFLOW:
            yield {"t": row.t, "event": _OF_WORKFLOW[row.kind], "workflow": encoded.workflows[row.workflow]}
            continue
        if row.kind in (kinds.LOAD, kinds.EVICT):
            of_model = {"t": row.t, "event": "evict", "device": places[row.place], "model": models[row.model]}
            if row.kind == kinds.LOAD:
                source = "host" if row.from_host else "disk"
                of_model |= {"event": "load", "seconds": row.seconds, "source": source, "why": _WHY[row.why]}
            yield of_model
            continue
        workflow, stage = stages[row.stage]
        at = {"workflow": workflow, "stage": stage}
        if row.kind in _OF_STAGE:
            yield {"t": row.t, "event": _OF_STAGE[row.kind], **at}
            continue
        if row.kind == kinds.TOOL:
            yield {"t": row.t, "event": "tool", **at, "seconds": row.seconds}
            continue
        here = {**at, "shard": row.shard, "device": places[row.place]}
        if row.kind == kinds.TRANSFER:
            transfer = {"parent": stages[row.parent].stage, "bytes": row.moved_bytes, "seconds": row.seconds}
            yield {"t": row.t, "event": "transfer", **here, **transfer}
            continue
        here["model"] = models[model_of[row.stage]]
        if row.kind == kinds.BIND:
            yield {"t": row.t, "event": "bind", **here, "prompts": row.prompts}
        elif row.kind == kinds.PREFILL:
            computed = {"tokens": row.tokens, "cached": row.cached, "seconds": row.seconds}
            yield {"t": row.t, "event": "prefill", **here, **computed}
        else:
            yield {"t": row.t, "event": "decode", **here, "seconds": row.seconds}
