"""Do engines that run already answer, with the key and models that the fleet file says? Asked once, before tasks do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx

from airflow_fate.gateway.settings import SettingsError, engine_key
from airflow_fate.state.fleetschema import ALREADY_RUNNING

if TYPE_CHECKING:
    from airflow_fate.state.fleetschema import DevicePart, FleetFile

TIMEOUT_S = 2.0
NAMED = 8


def troubles(fleet: FleetFile) -> Iterator[str]:
    """What is wrong with each such engine. It may still be starting, so nothing of it is an error."""
    with httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client:
        for name, device in fleet.devices.items():
            if device.engine in ALREADY_RUNNING and (trouble := _trouble(client, device, list(fleet.models))):
                yield f"{name}: {device.engine_url} {trouble}"


def _trouble(client: httpx.Client, device: DevicePart, models: list[str]) -> str:
    key = _key(device)
    try:
        answer = client.get(f"{device.engine_url}/v1/models", headers={"Authorization": f"Bearer {key}"} if key else {})
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"doesn't answer ({error}): tasks wait until it does"
    if answer.status_code in (401, 403):
        wants = "another key than it was given" if key else "a key: set key_file or key_env"
        return f"wants {wants} (it answers {answer.status_code})"
    try:
        listed = {str(model["id"]) for model in answer.raise_for_status().json()["data"]}
    except (httpx.HTTPError, ValueError, LookupError, TypeError):
        return f"is no OpenAI server: /v1/models is answered with {answer.status_code}"
    wanted = models if device.models is None else device.models
    if missing := [model for model in wanted if model not in listed]:
        has = ", ".join(sorted(listed)[:NAMED]) or "none"
        return f"has no model {', '.join(missing)}; it has {has}: name those in `models`"
    return ""


def _key(device: DevicePart) -> str:
    try:
        return engine_key(device.engine_key_env, device.engine_key_file, os.environ)()
    except SettingsError:
        return ""
