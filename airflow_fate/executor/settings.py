"""How is the executor set? The ``[fate]`` section, checked: an error names the key and the expected form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECTION = "fate"
OBJECTIVES = ("makespan", "mean", "p95", "balanced")
SOLVERS = ("search", "off")
STATE_SOURCES = ("local",)


class SettingsError(ValueError):
    """A value of the ``[fate]`` section that can't be used."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The ``[fate]`` section; each key is described in ``provider_info``."""

    inner_executor: str
    policy: str
    objective: str
    state_source: str
    fleet_dir: Path
    gateway_secret: str
    label_prefix: str
    search_s: float
    solver: str
    horizon_s: float
    max_frontier: int
    stale_after_s: float
    default_prompt_tokens: int
    default_output_tokens: int
    tool_seconds: float
    preload: tuple[str, ...]
    keep_s: float
    hold_limit_s: float

    def secret(self) -> str:
        """The key that signs tokens: the setting, or the file that ``fate fleet up`` made.

        :raises SettingsError: when there is neither.
        """
        if self.gateway_secret:
            return self.gateway_secret
        path = self.fleet_dir / "secret"
        try:
            return path.read_text().strip()
        except OSError as error:
            raise SettingsError(
                f"[{SECTION}] gateway_secret is empty and {path} can't be read ({error.strerror}): set the key, "
                f"or start the fleet with `fate fleet up --dir {self.fleet_dir}`"
            ) from error


def read_settings(get: Callable[[str], str], queued_timeout_s: float) -> Settings:
    """Read and check the section.

    :param get: returns a key's value as text.
    :param queued_timeout_s: ``[scheduler] task_queued_timeout``; a task is held for at most half of it.
    :raises SettingsError: naming the key and the expected form.
    """

    def number(key: str, kind: type[Any], low: float) -> Any:
        text = get(key)
        form = "a whole number" if kind is int else "a number"
        try:
            value = kind(text)
        except (TypeError, ValueError):
            raise SettingsError(f"[{SECTION}] {key} must be {form} >= {low:g}, got {text!r}") from None
        if not low <= value < float("inf"):
            raise SettingsError(f"[{SECTION}] {key} must be {form} >= {low:g}, got {text!r}")
        return value

    def choice(key: str, known: tuple[str, ...]) -> str:
        value = get(key).strip()
        if value not in known:
            raise SettingsError(f"[{SECTION}] {key} must be one of {', '.join(known)}, got {value!r}")
        return value

    def policy() -> str:
        from airflow_fate.planner.policies import policy as find

        name = get("policy").strip()
        try:
            find(name)
        except ValueError as error:
            raise SettingsError(f"[{SECTION}] policy: {error}") from None
        return name

    inner = get("inner_executor").strip()
    if not inner or "FateExecutor" in inner or "," in inner:
        raise SettingsError(
            f"[{SECTION}] inner_executor must be one executor but FateExecutor, such as LocalExecutor, got {inner!r}"
        )
    return Settings(
        inner_executor=inner,
        policy=policy(),
        objective=choice("objective", OBJECTIVES),
        state_source=choice("state_source", STATE_SOURCES),
        fleet_dir=Path(get("fleet_dir")).expanduser(),
        gateway_secret=get("gateway_secret").strip(),
        label_prefix=get("label_prefix").strip(),
        search_s=number("search_ms", float, 1) / 1000,
        solver=choice("solver", SOLVERS),
        horizon_s=number("horizon_s", float, 0),
        max_frontier=number("max_frontier", int, 1),
        stale_after_s=number("stale_after_s", float, 1),
        default_prompt_tokens=number("default_prompt_tokens", int, 1),
        default_output_tokens=number("default_output_tokens", int, 1),
        tool_seconds=number("tool_seconds", float, 0),
        preload=tuple(name.strip() for name in get("preload").split(",") if name.strip()),
        keep_s=number("keep_days", float, 0) * 86_400,
        hold_limit_s=queued_timeout_s / 2,
    )
