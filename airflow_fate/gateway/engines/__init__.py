"""Engine drivers, and ``FakeEngine`` for tests of whoever uses a gateway."""

from airflow_fate.gateway.engines.base import (
    Engine,
    EngineDied,
    EngineError,
    KeyRefused,
    LoadFailed,
    RequestRefused,
    Usage,
    read_usage,
)
from airflow_fate.gateway.engines.simulated import FakeEngine, SimulatedEngine, Speeds

__all__ = [
    "Engine",
    "EngineDied",
    "EngineError",
    "FakeEngine",
    "KeyRefused",
    "LoadFailed",
    "RequestRefused",
    "SimulatedEngine",
    "Speeds",
    "Usage",
    "read_usage",
]
