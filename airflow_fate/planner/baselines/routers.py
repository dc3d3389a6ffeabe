"""Which routers are compared with? They choose a place for the request at hand and know no workflow.

All but ``round_robin_push`` bind late: a central queue, first come first served, whose head goes to the best of the
places that are free. In products many of them push at once and queue at the engine; under load that is several times
worse (``round_robin_push`` shows it), so the stronger form is the one to beat. A place that has the model comes before
one that must load it; what was used longest ago is evicted.
"""

from __future__ import annotations

from airflow_fate.planner.baselines.policy import Baseline
from airflow_fate.planner.dispatch.rule import (
    CYCLIC,
    DYNAMO,
    EPP,
    LEAST_LOADED,
    MODEL_AFFINITY,
    PREFIX_AFFINITY,
    make_rule,
)

ROUND_ROBIN = Baseline(
    "round_robin",
    make_rule(by_ready=1, place=CYCLIC),
    "docs/physics.md: the next free place in cyclic order takes the head of the queue that it can serve.",
    can_add=False,
)
ROUND_ROBIN_PUSH = Baseline(
    "round_robin_push",
    make_rule(by_ready=1, place=CYCLIC, push=1),
    "Round robin as a plain load balancer does it: each stage goes to the next place at once and queues there.",
    can_add=False,
)
LEAST_LOADED_FIRST = Baseline(
    "least_loaded",
    make_rule(by_ready=1, place=LEAST_LOADED),
    "Fewest sequences in flight relative to the place's slots, as the least-request balancing of Envoy and Ray Serve.",
)
MODEL_FIRST = Baseline(
    "model_affinity",
    make_rule(by_ready=1, place=MODEL_AFFINITY),
    "A place that has the model, the least loaded of them; else the least loaded one loads it, as in ServerlessLLM's "
    "and llm-d's routing by model.",
)
PREFIX_FIRST = Baseline(
    "prefix_affinity",
    make_rule(by_ready=1, place=PREFIX_AFFINITY),
    "The longest cached prefix while loads are balanced, else the least loaded, as the cache-aware routers of SGLang "
    "and Ray Serve LLM. Adapted: the prefix lengths are the engines' true ones, not a router's own tree.",
)
ENDPOINT_PICKER = Baseline(
    "epp",
    make_rule(by_ready=1, place=EPP),
    "Weighted score of cached prefix 3, queue 2 and KV cache utilization 2, as in llm-d's endpoint picker profile.",
)
DYNAMO_KV = Baseline(
    "dynamo_kv",
    make_rule(by_ready=1, place=DYNAMO),
    "Least cost in blocks: those to prefill beyond the overlap plus those in decoding, as NVIDIA Dynamo's KV router.",
)
