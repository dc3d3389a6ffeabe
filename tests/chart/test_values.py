"""Values: each has its entry in the schema and its comment, wrong ones are refused with a reason."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.chart.conftest import CHART, MODEL, Refused, Render, Values, base

SCHEMA: Values = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS: Values = yaml.safe_load((CHART / "values.yaml").read_text())


def resolved(schema: Values) -> Values:
    reference = schema.get("$ref")
    return SCHEMA["definitions"][reference.rpartition("/")[2]] if reference else schema


def without_entry(values: Any, schema: Values, at: str = "") -> Iterator[str]:
    """Paths of values that the schema doesn't name. What it leaves open is Kubernetes' own, or a map."""
    schema = resolved(schema)
    if "properties" not in schema:
        return
    for key, value in values.items() if isinstance(values, dict) else ():
        path = f"{at}.{key}".lstrip(".")
        if key in schema["properties"]:
            yield from without_entry(value, schema["properties"][key], path)
        else:
            yield path


def sections(schema: Values, at: str = "values") -> Iterator[tuple[str, Values]]:
    yield at, schema
    for key, section in {**schema.get("properties", {}), **schema.get("definitions", {})}.items():
        yield from sections(section, f"{at}.{key}")


def test_every_value_has_an_entry_in_the_schema() -> None:
    assert list(without_entry(DEFAULTS, SCHEMA)) == []
    assert list(without_entry({"airflow": {"enabeld": True}}, SCHEMA)) == ["airflow.enabeld"]


def test_every_entry_of_the_schema_has_a_value() -> None:
    """But what every chart may have, and what a map holds."""

    def missing(schema: Values, values: Values, at: str) -> Iterator[str]:
        for key, section in resolved(schema).get("properties", {}).items():
            if key not in values:
                yield f"{at}{key}"
            elif isinstance(values[key], dict):
                yield from missing(section, values[key], f"{at}{key}.")

    assert list(missing(SCHEMA, DEFAULTS, "")) == ["global"]


def test_sections_of_the_schema_are_closed() -> None:
    for at, section in sections(SCHEMA):
        if "properties" in section:
            assert section["additionalProperties"] is False, at


def test_every_section_is_explained_by_a_comment() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    for number, line in enumerate(lines):
        if re.match(r"[a-z]\w*:", line):
            assert lines[number - 1].startswith("#"), line


POOL = {"models": ["small"], "engine": {"image": "engine"}}
BIG = {**MODEL, "groupSize": 2}


def pool(**changes: object) -> Values:
    return base(pools={"a": {**POOL, **changes}})


def tuned(**changes: object) -> Values:
    models = {"small": MODEL, "other": MODEL, "tuned": {**MODEL, "adapterOf": "small"}}
    return pool(**changes) | {"models": models}


def airflow(**changes: object) -> Values:
    return base(airflow={"database": {"existingSecret": "db"}, **changes})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pool(replicsa=1), "at '/pools/a': additional properties 'replicsa' not allowed"),
        (pool(driver="tgi"), "at '/pools/a/driver': value must be one of 'vllm', 'vllm-managed', 'openai', 'll"),
        (pool(replicas="2"), "at '/pools/a/replicas': got string, want integer"),
        (pool(gpus=-1), "at '/pools/a/gpus': minimum: got -1, want 0"),
        (pool(sharedMemory="8 GB"), "at '/pools/a/sharedMemory': '8 GB' does not match pattern"),
        (base(pools={"A_b": POOL}), "'A_b' does not match pattern"),
        (base(models={"small": {"weightsGb": 1}}), "missing properties 'loadGbPerS', 'prefillTps', 'decodeTps'"),
        (airflow(innerExecutor="SequentialExecutor"), "at '/airflow/innerExecutor': value must be one of"),
    ],
)
def test_the_schema_refuses(render: Render, values: Values, message: str) -> None:
    with pytest.raises(Refused, match=re.escape(message)):
        render(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pool(models=[]), "pools.a.models: a pool names at least one entry of `models`; without one nothing can be"),
        (pool(models=["huge"]), '"huge" must be an entry of `models` (it has: big, small); the planner needs its size'),
        (pool(models=["small", "big"]), "driver vllm takes one model besides LoRA adapters, got 2; the engine serves"),
        (tuned(models=["tuned"]), "driver vllm takes one model besides LoRA adapters, got 0; the engine serves the on"),
        (tuned(models=["other", "tuned"]), '"tuned" is an adapter of "small", which must be in the pool too; an adap'),
        (tuned(models=["small", "tuned"], driver="openai"), '"tuned" is a LoRA adapter, which only driver vllm loads'),
        (pool(driver="vllm-managed", engine={}), "engine.image must be set for driver vllm-managed: vLLM's image wit"),
        (pool(driver="vllm-managed"), "cache.mountPath must be outside of /root for driver vllm-managed, such as /mo"),
        (
            pool(engine={}),
            "pools.a.engine.image must be set for driver vllm; its engine runs in a container of its own",
        ),
        (pool(driver="llamacpp"), "pools.a.engine.image must be empty for driver llamacpp; its engine runs in the gat"),
        (pool(driver="simulated", engine={}, models=["big"]), '"big" spans several pods (groupSize), which driver sim'),
        (pool(driver="simulated", engine={}, group={"size": 2}), "group.size must be 1 for driver simulated; only an"),
        (pool(group={"size": 2}, models=["big"]), "workerCommand or workerArgs must be set where size is more than 1"),
        (pool(models=["big"]), "group.size is 1 and models.big.groupSize is 2: they must be equal; the planner books"),
        (pool(cache={"existingClaim": "a", "hostPath": "/b"}), "existingClaim and hostPath exclude each other; the we"),
        (pool(engine={"image": "x", "port": 8475}), "gateway.port (8475), engine.port (8475) and engine.eventsPort (5"),
        (base(airflow={}), "airflow.database.existingSecret must name the Secret with PostgreSQL's URL, or, for a tri"),
        (base(postgresql={"enabled": True}), "postgresql.enabled and airflow.database.existingSecret exclude each ot"),
        (airflow(dags={"existingClaim": "a", "configMap": "b"}), "airflow.dags: existingClaim and configMap exclude"),
        (airflow(innerExecutor="CeleryExecutor"), "airflow.celery.brokerSecret must name the Secret with the broker"),
        (airflow(enabled=False) | {"postgresql": {"enabled": True}}, "postgresql.enabled needs airflow.enabled; the o"),
        (base(monitoring={"enabled": True}), "monitoring.tokenSecret must name a Secret with a reader's token; a gate"),
        (base(fate={"settings": {"gateway_port": 1}}), "fate.settings must not hold gateway_port; the chart sets it"),
        (base(models={"small": {**MODEL, "source": ""}, "big": BIG}), "models.small.source must be set for pool one"),
    ],
)
def test_rules_beyond_the_schema_are_told_with_their_reason(render: Render, values: Values, message: str) -> None:
    with pytest.raises(Refused, match=re.escape(message)):
        render(values)
