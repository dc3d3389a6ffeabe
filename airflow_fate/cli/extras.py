"""What must be installed for a command, beside the package itself? Said before anything is started."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_fate.state.fleetschema import FleetFile

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "local": ("xllamacpp",),
    "bench": ("matplotlib",),
    "vllm": ("msgspec", "zmq"),
}
"""Extra -> the modules that it brings."""


class MissingExtra(Exception):
    """Something isn't installed; says what for, and the command that installs it."""


def require(extra: str, why: str) -> None:
    """:raises MissingExtra: where a module of the extra is missing."""
    if missing := [module for module in EXTRAS[extra] if find_spec(module) is None]:
        raise MissingExtra(
            f"{why} needs {' and '.join(missing)}, which isn't installed: pip install 'airflow-fate[{extra}]'"
        )


def require_engines(fleet: FleetFile) -> None:
    """What the engines of a fleet need.

    :raises MissingExtra: naming the first device that could not serve.
    """
    for name, device in fleet.devices.items():
        if device.engine == "llamacpp":
            require("local", f"engine llamacpp of device {name}")
        if device.events_url:
            require("vllm", f"events_url of device {name}")
