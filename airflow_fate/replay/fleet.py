"""What is done to a real fleet before a policy plays on it? Each policy begins alike: no model loaded, no text cached.

Weights that a node's host memory can keep are there for all policies, for the first one would put them there anyway.
Engines that have their models by themselves keep them, and what they have cached: no two policies' prompts begin alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial

from airflow_fate.gateway.engines.base import EngineError
from airflow_fate.replay.ask import Gateways
from airflow_fate.state.source import FleetView

EMPTIED = ("llamacpp", "simulated")
"""Engines whose models come and go as they are told."""
EMPTY_WITHIN_S = 60.0
LOAD_WITHIN_S = 1800.0
_POLL_S = 0.05


class FleetError(Exception):
    """The fleet can't be used; says what to do."""


async def check_free(gateways: Gateways, view: FleetView) -> None:
    """:raises FleetError: when there is no device, or somebody else uses one."""
    devices = [name for name, is_usable in view.usable.items() if is_usable]
    if not devices:
        raise FleetError(f"none of the fleet's {len(view.fleet.devices)} devices may get tasks now; is it up?")
    # What is published lags behind the end of what has just been served.
    try:
        reports = await asyncio.gather(*(gateways.report(view.urls[name]) for name in devices))
    except EngineError as error:
        raise FleetError(f"a gateway does not answer: {error}") from error
    busy = sorted(report.device for report in reports if report.running or report.queued)
    if busy:
        raise FleetError(
            f"{', '.join(busy)} serve others: a replay needs a fleet of its own, for its tokens end the reservations "
            "of every other ledger"
        )


async def make_alike(gateways: Gateways, view: FleetView, models: Iterable[str]) -> None:
    """Read the models' weights into host memory, as far as it goes, and leave the devices empty.

    :param models: of the workload.
    :raises FleetError: when a device doesn't do it.
    """
    wanted = sorted(set(models))
    devices = [name for name, report in view.reports.items() if report.engine in EMPTIED and view.usable.get(name)]
    await asyncio.gather(*(_of_device(gateways, view, name, wanted) for name in devices))


async def _of_device(gateways: Gateways, view: FleetView, device: str, models: list[str]) -> None:
    url, node = view.urls[device], view.fleet.nodes[view.fleet.devices[device].node]
    try:
        await _empty(gateways, url, device)
        for model in models:
            there = model in (await gateways.report(url)).host_models
            if there or not node.host_bytes or not view.fleet.can_hold(device, model):
                continue
            await gateways.load(url, model)
            await _until(partial(_serves, gateways, url, model), LOAD_WITHIN_S, f"{device} did not load {model}")
            await _empty(gateways, url, device)
    except EngineError as error:
        raise FleetError(f"{device} can't be made ready: {error}") from error


async def _empty(gateways: Gateways, url: str, device: str) -> None:
    async def is_empty() -> bool:
        models = (await gateways.report(url)).models
        for model in models:
            # One that is loading or about to go can't be told yet.
            with suppress(EngineError):
                await gateways.unload(url, model)
        return not models

    await _until(is_empty, EMPTY_WITHIN_S, f"{device} did not unload its models")


async def _serves(gateways: Gateways, url: str, model: str) -> bool:
    report = (await gateways.report(url)).models.get(model)
    if report is None:
        raise EngineError(f"model {model!r} could not be loaded; see the gateway's log")
    return report.state == "ready"


async def _until(is_so: Callable[[], Awaitable[bool]], within_s: float, otherwise: str) -> None:
    try:
        async with asyncio.timeout(within_s):
            while not await is_so():
                await asyncio.sleep(_POLL_S)
    except TimeoutError as error:
        raise FleetError(f"{otherwise} within {within_s:g} s") from error
