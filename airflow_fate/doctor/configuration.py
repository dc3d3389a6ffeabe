"""Is Airflow told to use FATE, and is what it is told spelled right? From Airflow's own configuration."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from airflow_fate.doctor.finding import Finding, failure, ok, warning
from airflow_fate.executor.settings import SECTION, SettingsError

EXECUTOR = "airflow_fate.executor.FateExecutor"
_INDIRECT = ("_cmd", "_secret")
"""Endings by which Airflow takes a value from a command's output or a secrets backend."""


def check_executor(configured: str) -> Finding:
    """:param configured: ``[core] executor``."""
    names = [name.strip().rpartition(":")[2] for name in configured.split(",")]
    others = [name for name in names if name != EXECUTOR]
    if len(others) == len(names):
        text = f"[core] executor is {configured}: no task is bound to a device"
        return failure("executor", text, f"set [core] executor = {EXECUTOR}, and start the scheduler anew")
    if names[0] != EXECUTOR:
        text = f"FateExecutor is beside {', '.join(others)}, which gets the tasks that name no executor"
        return ok("executor", f"{text}: LLM tasks need executor='{EXECUTOR}'")
    return ok("executor", "FateExecutor")


def check_keys(given: Collection[str], known: Collection[str]) -> Finding:
    """Whether all keys of the section are some.

    :param given: those that somebody has set.
    """
    unknown = []
    for key in sorted(given):
        plain = next((key.removesuffix(end) for end in _INDIRECT if key.endswith(end)), key)
        if key not in known and plain not in known:
            near = difflib.get_close_matches(key, known, n=1)
            unknown.append(f"{key!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
    if unknown:
        remedy = "take them out, or spell them as in docs/configuration.md"
        return warning("settings", f"[{SECTION}] has no key {', '.join(unknown)}: nobody reads it", remedy)
    return ok("settings", f"{len(given)} keys of [{SECTION}] are set" if given else f"[{SECTION}] is as by default")


def check_inner_executor(name: str) -> Finding:
    """Whether the executor that runs the tasks can be made."""
    from airflow_fate.executor.inner import load_inner

    try:
        load_inner(name, 1)
    except SettingsError as error:
        return failure("inner executor", str(error), f"set [{SECTION}] inner_executor, or install what it needs")
    except Exception as error:
        text = f"[{SECTION}] inner_executor {name!r} can't be made ({type(error).__name__}: {error})"
        return failure("inner executor", text, "set it up as without FATE")
    return ok("inner executor", name)


def given_keys(everything: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Keys of the section that aren't there by default.

    :param everything: section -> key -> value and source, as Airflow's ``as_dict(display_source=True)``.
    """
    return [key for key, (_, source) in everything.get(SECTION, {}).items() if "default" not in source]
