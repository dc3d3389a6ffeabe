"""Where was this task bound, and what became of it? The binding is read from the task state store, the facts go back
there.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import httpx

from airflow_fate.messages import BINDING_KEY, STATS_KEY, Binding, Facts, Share

log = logging.getLogger(__name__)
TIMEOUT_S = 10.0
_current: Binding | None = None


class NotBound(Exception):
    """The task was not bound to a device by FateExecutor."""


def read_binding(context: Mapping[str, Any]) -> Binding:
    """The binding of the running try.

    :raises NotBound: when there is none, or only one of an earlier try.
    :raises AirflowFailException: with the reason, when no device can ever serve the task.
    """
    global _current
    from airflow.sdk.exceptions import AirflowFailException

    ti = context["ti"]
    if _current is not None and _current.ti_id == str(ti.id):
        return _current
    raw = context["task_state_store"].get(BINDING_KEY)
    if raw is None:
        raise NotBound(f"task {ti.task_id!r} was not bound to a device of the fleet")
    binding = Binding.parse(raw)
    if binding.ti_id != str(ti.id):
        raise NotBound(f"task {ti.task_id!r} has only the binding of an earlier try ({binding.try_number})")
    if binding.error:
        raise AirflowFailException(binding.error)
    _current = binding
    _say(binding)
    return binding


def current() -> Binding | None:
    """The binding that this process has read, if any."""
    return _current


def _say(binding: Binding) -> None:
    if binding.warning:
        log.warning("FateExecutor is degraded: %s", binding.warning)
    if binding.held_s >= 1.0:
        log.info("Held %.1f s. %s", binding.held_s, binding.held_because)
    devices = ", ".join(f"{share.device} ({share.prompts})" for share in binding.shares)
    log.info("Bound to %s for %s: %s", devices, binding.model, binding.reason)
    log.info("Predicted: %s", ", ".join(f"{part} {seconds:.2f} s" for part, seconds in binding.cost.items()))


async def report_facts(context: Mapping[str, Any], binding: Binding) -> None:
    """Ask the gateways what they measured for this reservation and store it for the executor.

    Facts improve estimates only, so a failure here is logged and never fails the task.
    """
    facts = []
    async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
        for share in binding.shares:
            try:
                facts.append(await _facts(client, share))
            except (httpx.HTTPError, ValueError) as error:
                log.warning("%s did not say what it measured: %r", share.device, error)
    try:
        context["task_state_store"].set(STATS_KEY, [fact.model_dump() for fact in facts])
    except Exception as error:
        log.warning("The facts of this try could not be stored: %r", error)
    for fact in facts:
        phases = f"prefill {fact.prefill_s:.2f} s, decode {fact.decode_s:.2f} s"
        log.info(
            "%s: %d of %d prompt tokens cached, %d answered; wait %.2f s, load %.2f s, %s",
            fact.device,
            fact.cached_tokens,
            fact.prompt_tokens,
            fact.completion_tokens,
            fact.wait_s,
            fact.load_s,
            f"prefill and decode {fact.engine_s:.2f} s" if fact.engine_s else phases,
        )


async def _facts(client: httpx.AsyncClient, share: Share) -> Facts:
    answer = await client.get(f"{share.url}/fate/v1/facts", headers={"Authorization": f"Bearer {share.token}"})
    answer.raise_for_status()
    return Facts.model_validate_json(answer.content)
