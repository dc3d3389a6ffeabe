"""How is the executor set? The ``[fate]`` section, checked: an error names the key and the expected form."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from airflow_fate.costs import Budget, Prices, parse_budgets

SECTION = "fate"
SOLVERS = ("search", "off")
STATE_SOURCES = ("local", "kubernetes")
T = TypeVar("T")


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
    namespace: str
    pod_selector: str
    inference_pool: str
    service_accounts: frozenset[str]
    gateway_port: int
    kubeconfig: Path | None
    models_file: Path | None
    pod_stale_after_s: float
    search_s: float
    solver: str
    max_frontier: int
    stale_after_s: float
    default_prompt_tokens: int
    default_output_tokens: int
    tool_seconds: float
    preload: tuple[str, ...]
    keep_s: float
    tenants: Mapping[str, frozenset[str]]
    """Tenant -> DAG bundles that may use its name; empty where all may use any."""
    prices: Prices
    budgets: tuple[Budget, ...]
    hold_limit_s: float

    def refused_tenant(self, tenant: str, bundle: str) -> str:
        """Why a DAG of a bundle may not use a tenant's name; empty when it may."""
        if not tenant or not self.tenants or bundle in self.tenants.get(tenant, ()):
            return ""
        allowed = ", ".join(sorted(self.tenants.get(tenant, ()))) or "none"
        return (
            f"tenant {tenant!r} may not be used by DAGs of bundle {bundle!r}: [{SECTION}] tenants gives it to these "
            f"bundles: {allowed}"
        )

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


def configured() -> Settings:
    """The section as the configured Airflow has it.

    :raises SettingsError: naming the key and the expected form.
    """
    from airflow.configuration import conf

    return read_settings(lambda key: conf.get(SECTION, key), conf.getfloat("scheduler", "task_queued_timeout"))


def configured_prices() -> Prices:
    """What a GPU costs, for those who need no more of the section.

    :raises SettingsError: naming the key and the expected form.
    """
    from airflow.configuration import conf

    return _parsed("price_per_gpu_hour", lambda key: conf.get(SECTION, key), Prices.parse)


def _parsed(key: str, get: Callable[[str], str], parse: Callable[[str], T]) -> T:
    try:
        return parse(get(key))
    except ValueError as error:
        raise SettingsError(f"[{SECTION}] {key} {error}") from None


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

    def path(key: str) -> Path | None:
        text = get(key).strip()
        return Path(text).expanduser() if text else None

    def names(key: str) -> tuple[str, ...]:
        return tuple(name.strip() for name in get(key).split(",") if name.strip())

    def tenants() -> dict[str, frozenset[str]]:
        text = get("tenants").strip()
        form = 'a JSON object of tenants with their DAG bundles, such as {"finance": ["bundle-a"]}'
        try:
            bundles_of = json.loads(text or "{}")
            if not isinstance(bundles_of, dict) or not all(
                isinstance(bundles, list) and all(isinstance(bundle, str) for bundle in bundles)
                for bundles in bundles_of.values()
            ):
                raise ValueError
        except ValueError:
            raise SettingsError(f"[{SECTION}] tenants must be {form}, got {text!r}") from None
        return {tenant: frozenset(bundles) for tenant, bundles in bundles_of.items()}

    def policy() -> str:
        from airflow_fate.planner.policies import policy as find

        name = get("policy").strip()
        try:
            find(name)
        except ValueError as error:
            raise SettingsError(f"[{SECTION}] policy: {error}") from None
        return name

    def objective() -> str:
        from airflow_fate.planner.objectives import OBJECTIVES

        return choice("objective", tuple(OBJECTIVES))

    prices = _parsed("price_per_gpu_hour", get, Prices.parse)
    budgets = _parsed("budgets", get, parse_budgets)
    if prices == Prices() and any(budget.unit == "money" for budget in budgets):
        raise SettingsError(
            f"[{SECTION}] price_per_gpu_hour must say what a GPU costs where [{SECTION}] budgets has `money`, got ''"
        )
    inner = get("inner_executor").strip()
    if not inner or "FateExecutor" in inner or "," in inner:
        raise SettingsError(
            f"[{SECTION}] inner_executor must be one executor but FateExecutor, such as LocalExecutor, got {inner!r}"
        )
    state_source = choice("state_source", STATE_SOURCES)
    models_file = path("models_file")
    if state_source == "kubernetes" and models_file is None:
        raise SettingsError(
            f"[{SECTION}] models_file must name a YAML file with the section `models` of a fleet file "
            f"when state_source is kubernetes, got ''"
        )
    gateway_port = number("gateway_port", int, 1)
    if gateway_port > 65535:
        raise SettingsError(f"[{SECTION}] gateway_port must be a port, at most 65535, got '{gateway_port}'")
    return Settings(
        inner_executor=inner,
        policy=policy(),
        objective=objective(),
        state_source=state_source,
        fleet_dir=Path(get("fleet_dir")).expanduser(),
        gateway_secret=get("gateway_secret").strip(),
        label_prefix=get("label_prefix").strip(),
        namespace=get("namespace").strip(),
        pod_selector=get("pod_selector").strip(),
        inference_pool=get("inference_pool").strip(),
        service_accounts=frozenset(names("service_accounts")),
        gateway_port=gateway_port,
        kubeconfig=path("kubeconfig"),
        models_file=models_file,
        pod_stale_after_s=number("pod_stale_after_s", float, 1),
        search_s=number("search_ms", float, 1) / 1000,
        solver=choice("solver", SOLVERS),
        max_frontier=number("max_frontier", int, 1),
        stale_after_s=number("stale_after_s", float, 1),
        default_prompt_tokens=number("default_prompt_tokens", int, 1),
        default_output_tokens=number("default_output_tokens", int, 1),
        tool_seconds=number("tool_seconds", float, 0),
        preload=names("preload"),
        keep_s=number("keep_days", float, 0) * 86_400,
        tenants=tenants(),
        prices=prices,
        budgets=budgets,
        hold_limit_s=queued_timeout_s / 2,
    )
