"""What happened in a simulation, as the benchmark's event log (docs/physics.md, "Event log")?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from airflow_fate.physics.kernel import events as kinds
from airflow_fate.physics.kernel.encode import Encoded

_WHY = ("demand", "prefetch", "replicate")


def event_log(encoded: Encoded) -> list[dict[str, Any]]:
    """The events of a world that was played, by time; what happens at one time stays in the order of its causes."""
    log = encoded.world.log[: encoded.world.tally[0].logged]
    order = np.argsort(log["t"], kind="stable")
    return list(_rows(encoded, log[order]))


def _rows(encoded: Encoded, log: Any) -> Iterator[dict[str, Any]]:
    stages, places, models = encoded.stages, encoded.places, encoded.models
    model_of = encoded.world.stages["model"].tolist()
    for t, kind, a, b, c, x, y, z in log.tolist():
        if kind in (kinds.ARRIVE, kinds.DONE):
            name = "arrive" if kind == kinds.ARRIVE else "done"
            yield {"t": t, "event": name, "workflow": encoded.workflows[a]}
            continue
        if kind in (kinds.LOAD, kinds.EVICT):
            row: dict[str, Any] = {"t": t, "event": "evict", "device": places[a], "model": models[b]}
            if kind == kinds.LOAD:
                row |= {"event": "load", "seconds": x, "source": "host" if y else "disk", "why": _WHY[c]}
            yield row
            continue
        workflow, stage = stages[a]
        at = {"workflow": workflow, "stage": stage}
        if kind == kinds.READY:
            yield {"t": t, "event": "ready", **at}
        elif kind == kinds.FINISH:
            yield {"t": t, "event": "finish", **at}
        elif kind == kinds.TOOL:
            yield {"t": t, "event": "tool", **at, "seconds": x}
        elif kind == kinds.BIND:
            model = models[model_of[a]]
            yield {"t": t, "event": "bind", **at, "shard": b, "device": places[c], "model": model, "prompts": int(x)}
        elif kind == kinds.TRANSFER:
            parent = stages[c].stage
            device = places[int(z)]
            moved = {"parent": parent, "bytes": x, "seconds": y}
            yield {"t": t, "event": "transfer", **at, "shard": b, "device": device, **moved}
        else:
            here = {**at, "shard": b, "device": places[c], "model": models[model_of[a]]}
            if kind == kinds.PREFILL:
                yield {"t": t, "event": "prefill", **here, "tokens": x, "cached": y, "seconds": z}
            else:
                yield {"t": t, "event": "decode", **here, "seconds": x}
