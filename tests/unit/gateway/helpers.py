"""A gateway over a fake engine, and tokens for it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx

from airflow_fate.gateway.artifacts import Artifacts
from airflow_fate.gateway.core import DeviceTraits, Gateway
from airflow_fate.gateway.engines import FakeEngine
from airflow_fate.gateway.http.app import create_app
from airflow_fate.gateway.http.auth import Guard
from airflow_fate.gateway.serving.host_cache import HostCache
from airflow_fate.gateway.settings import LimitSettings
from airflow_fate.messages import FLEET_AUDIENCE, Claims, sign

SECRET = "s" * 32
DEVICE = "gpu-0"
CONTEXT_TOKENS = 4096
WEIGHTS_BYTES = {"small": 1e9, "other": 1e9, "third": 1e9, "huge": 9e9}


class Bench:
    """One gateway under test."""

    def __init__(self, folder: Path, *, memory_bytes: float = 1e9, max_seqs: int = 1, **limits: float) -> None:
        self.engine = FakeEngine(*WEIGHTS_BYTES)
        self.gateway = Gateway(
            DeviceTraits(DEVICE, "cpu", "fake", memory_bytes, 8192, max_seqs, WEIGHTS_BYTES, CONTEXT_TOKENS),
            self.engine,
            Artifacts(folder, budget_bytes=1000),
            HostCache(2e9, WEIGHTS_BYTES),
            LimitSettings.model_validate(limits),
        )
        self.app = create_app(self.gateway, Guard(SECRET, DEVICE))
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://gateway")

    async def chat(self, token: str, model: str = "small", text: str = "Hello there", **more: Any) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 4, **more}
        return await self.client.post("/v1/chat/completions", json=body, headers=bearer(token))

    async def store(self, key: str, content: Any, token: str, name: str = "output") -> httpx.Response:
        return await self.client.put(
            f"/fate/v1/artifacts/{key}", params={"name": name}, content=content, headers=bearer(token)
        )


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def token(reservation: str = "r1", fence: int = 1, *, model: str = "small", secret: str = SECRET, **more: Any) -> str:
    claims = {"aud": DEVICE, "sub": "try", "exp": int(time.time()) + 60, "live": (fence,), **more}
    return sign(Claims(jti=reservation, fence=fence, model=model, **claims), secret)


def executor_token(**more: Any) -> str:
    return token("executor", 0, aud=FLEET_AUDIENCE, sub="executor", **more)
