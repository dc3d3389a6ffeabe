"""Where was this task bound, and what became of it? The binding is read from the task state store, the facts go back
there.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Mapping
from typing import Any

import httpx
import jwt

from airflow_fate.messages import BINDING_KEY, SEAL_KEY, STATS_KEY, TOKEN_VALID_S, Binding, Facts, Share, unsealed

log = logging.getLogger(__name__)
TIMEOUT_S = 10.0
RENEW_BELOW_S = 0.75 * TOKEN_VALID_S
_current: Binding | None = None
_tokens: dict[str, str] = {}
"""Token of a binding -> the one that took its place."""


class NotBound(Exception):
    """The task was not bound to a device by FateExecutor."""


def read_binding(context: Mapping[str, Any]) -> Binding:
    """The binding of the running try.

    :raises NotBound: when there is none, or only one of an earlier try.
    :raises AirflowFailException: with the reason, when no device can ever serve the task.
    :raises TokenError: when somebody else than the scheduler has written it.
    """
    global _current
    from airflow.sdk.exceptions import AirflowFailException

    ti = context["ti"]
    if _current is not None and _current.ti_id == str(ti.id):
        return _current
    raw = context["task_state_store"].get(BINDING_KEY)
    if raw is None:
        raise NotBound(f"task {ti.task_id!r} was not bound to a device of the fleet")
    binding = unsealed(raw, (ti.context_carrier or {}).get(SEAL_KEY, ""))
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
        log.warning("%s", binding.warning)
    if binding.held_s >= 1.0:
        log.info("Held %.1f s. %s", binding.held_s, binding.held_because)
    devices = ", ".join(f"{share.device} ({share.prompts})" for share in binding.shares)
    log.info("Bound to %s for %s: %s", devices, binding.model, binding.reason)
    log.info("Predicted: %s", ", ".join(f"{part} {seconds:.2f} s" for part, seconds in binding.cost.items()))


def fresh_token(share: Share) -> str:
    """The token of a share, renewed by its gateway in time; the old one where that fails."""
    token = _tokens.get(share.token, share.token)
    try:
        ends_at = jwt.decode(token, options={"verify_signature": False}).get("exp", math.inf)
    except jwt.PyJWTError:
        return token
    if ends_at - time.time() > RENEW_BELOW_S:
        return token
    try:
        headers = {"Authorization": f"Bearer {token}"}
        answer = httpx.post(f"{share.url}/fate/v1/token", headers=headers, timeout=TIMEOUT_S, trust_env=False)
        _tokens[share.token] = str(answer.raise_for_status().json()["token"])
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        log.warning("The token for %s could not be renewed: %r", share.device, error)
    return _tokens.get(share.token, token)


async def report_facts(context: Mapping[str, Any], binding: Binding) -> None:
    """Ask the gateways what they measured for this reservation and store it, as they signed it, for the executor.

    Facts improve estimates only, so a failure here is logged and never fails the task.
    """
    facts: list[Facts] = []
    signed: list[str] = []
    async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
        for share in binding.shares:
            try:
                headers = {"Authorization": f"Bearer {await asyncio.to_thread(fresh_token, share)}"}
                answer = (await client.get(f"{share.url}/fate/v1/facts", headers=headers)).raise_for_status()
                facts.append(Facts.model_validate_json(answer.content))
                signed.append(str(answer.json()["signed"]))
            except (httpx.HTTPError, ValueError, LookupError) as error:
                log.warning("%s did not say what it measured: %r", share.device, error)
    try:
        context["task_state_store"].set(STATS_KEY, signed)
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
