"""What does a gateway say of its engine, and of a request? The device report (published on the pod) and the facts.

The report travels as labels (device and models, for ``kubectl get pods -l``) and one JSON annotation (all of it).
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

REPORT_VERSION = 1
DEFAULT_LABEL_PREFIX = "fate.airflow"
LLAMACPP_BATCH_TOKENS = 2048
"""Tokens that llama.cpp computes in one step, if not told otherwise (its ``n_batch``)."""


def step_tokens(engine: str | None, batch_tokens: int) -> int:
    """Tokens that an engine computes in one step; 0 where it is not known.

    :param batch_tokens: what the fleet file says; 0 where it says nothing.
    """
    return batch_tokens or (LLAMACPP_BATCH_TOKENS if engine == "llamacpp" else 0)


# What comes in from outside is bounded, so that no sum or mean over it ever leaves the finite numbers.
Count = Annotated[int, Field(ge=0, le=10**12)]
Seconds = Annotated[float, Field(ge=0, le=366 * 86_400.0, allow_inf_nan=False)]
UnixTime = Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]
Sum = Annotated[float, Field(ge=0, le=1e24, allow_inf_nan=False)]
Bytes = Annotated[float, Field(ge=0, le=1e18, allow_inf_nan=False)]
Name = Annotated[str, Field(max_length=253)]


class ModelReport(BaseModel):
    """A model on a device: ``loading`` until it serves."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    state: Literal["ready", "loading"]
    since: UnixTime
    last_used: UnixTime = 0.0


class DeviceReport(BaseModel):
    """The full state of one device. Times are Unix seconds.

    :param batch_tokens: tokens that its engine computes in one step; 0 where it can't tell.
    :param serves: models that it can serve, resident or not; None where it can't tell.
    :param gateway_started: when the gateway process began; fences are forgotten with it.
    :param engine_started: model -> start of its engine; prefix knowledge ends with it.
    :param prefixes: (chain key, tokens, last used, model), least recently used first.
    :param artifact_count: of outputs that lie on its node. Their keys are told to nobody.
    :param served_cached_tokens: as the engine reported them.
    :param expected_cached_tokens: as this report's prefixes promised them for the same requests.
    :param host_models: models whose weights lie in the node's host memory (page cache).
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = REPORT_VERSION
    device: Name
    gpu: Name
    memory_bytes: Bytes
    kv_tokens: Count
    max_seqs: Annotated[int, Field(ge=0, le=1_000_000)]
    engine: Name
    batch_tokens: Count = 0
    gateway_started: UnixTime
    serves: tuple[Name, ...] | None = None
    models: dict[Name, ModelReport] = {}
    engine_started: dict[Name, UnixTime] = {}
    prefixes: tuple[tuple[Name, Count, UnixTime, Name], ...] = ()
    artifact_count: Count = 0
    artifact_bytes: Annotated[int, Field(ge=0, le=10**18)] = 0
    host_models: tuple[Name, ...] = ()
    running: Count = 0
    queued: Count = 0
    draining: bool = False
    served_requests: Count = 0
    served_prompt_tokens: Count = 0
    served_cached_tokens: Count = 0
    expected_cached_tokens: Count = 0
    loads: Count = 0


class Facts(BaseModel):
    """What happened to the requests of one reservation on one device, as measured beside the engine.

    :param cached_tokens: as the engine reported them.
    :param load_end_at: when the last of its loads ended; 0 of gateways of earlier releases, which don't tell.
    :param wait_s: time in the gateway's queue, load time excluded.
    :param engine_s: prefill and decode together, where the engine doesn't tell them apart.
    :param tokens_beside: completion tokens, each times the sequences of others that decoded beside it.
    :param context_tokens: completion tokens, each times the tokens of context in the engine meanwhile.
    :param prompt_tokens_beside: of others, that were computed while these were decoded.
    :param prompt_tokens_with: likewise, while its own prompt was computed.
    :param fault: kind of the last refusal that was the device's own fault: it hasn't the model, its engine died.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    reservation: Name
    device: Name
    model: Name
    requests: Count = 0
    prompt_tokens: Count = 0
    cached_tokens: Count = 0
    completion_tokens: Count = 0
    load_s: Seconds = 0.0
    load_end_at: UnixTime = 0.0
    wait_s: Seconds = 0.0
    prefill_s: Seconds = 0.0
    decode_s: Seconds = 0.0
    engine_s: Seconds = 0.0
    tokens_beside: Sum = 0.0
    context_tokens: Sum = 0.0
    prompt_tokens_beside: Sum = 0.0
    prompt_tokens_with: Sum = 0.0
    first_byte_s: Seconds = 0.0
    fault: Name = ""

    @model_validator(mode="after")
    def _cached_tokens_are_of_the_prompt(self) -> Self:
        if self.cached_tokens > self.prompt_tokens:
            form = f"at most prompt_tokens ({self.prompt_tokens}), got {self.cached_tokens}"
            raise ValueError(f"cached_tokens must be {form}")
        return self
