"""How is a prompt asked of a gateway, and what did it take? One request with its reservation's token."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

import httpx

from airflow_fate.gateway.engines import openai_api
from airflow_fate.gateway.engines.base import EngineError, Usage, read_usage
from airflow_fate.messages import DeviceReport, Facts, Share, reader_token
from airflow_fate.messages.binding import TokenError

TELL_PHASES = ("llamacpp", "simulated")
"""Engines that say how long prompt and answer took; of others a stream shows when the answer began."""
IGNORE_EOS = ("llamacpp", "simulated", "vllm", "vllm-managed")
"""Engines that can be told to write as much as they may."""
SHORT_S = 30.0
"""For what no engine has to compute."""
SUBJECT = "executor"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as its asker saw it. Times are Unix seconds."""

    asked_s: float
    ended_s: float
    text: str
    usage: Usage


class Gateways:
    """Asks the gateways of a fleet. One set of connections for all of them.

    :param secret: the fleet's key.
    :param clock: Unix seconds.
    """

    def __init__(self, secret: str, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._clock = clock
        self._transport = httpx.AsyncHTTPTransport(limits=openai_api.LIMITS, trust_env=False)

    async def close(self) -> None:
        await self._transport.aclose()

    async def ask(self, share: Share, engine: str, model: str, prompt: str, output_tokens: int) -> Answer:
        """Have a prompt answered.

        :param engine: kind of the device's engine, as it reports it.
        :param output_tokens: how many the answer shall have: where the engine takes ``ignore_eos`` exactly so many,
            elsewhere at most.
        :raises EngineError: when there is no answer.
        """
        body = {
            "model": model,
            "prompt": prompt,
            "max_tokens": max(1, output_tokens),
            "temperature": 0,
            "stream": engine not in TELL_PHASES,
        }
        if engine in IGNORE_EOS:
            body["ignore_eos"] = True
        asked_s = self._clock()
        pieces, usage = [], Usage()
        client = self._client(share.url, share.token)
        async with aclosing(openai_api.ask(client, model, "completions", body)) as documents:
            async for document in documents:
                pieces += [str(choice.get("text") or "") for choice in document.get("choices") or ()]
                usage = read_usage(document) or usage
        return Answer(asked_s, self._clock(), "".join(pieces), usage)

    async def facts(self, share: Share) -> Facts:
        """What the device measured for the reservation.

        :raises EngineError: when it doesn't say.
        """
        return Facts.model_validate_json(await self._call("GET", share.url, "/fate/v1/facts", share.token))

    async def report(self, url: str) -> DeviceReport:
        """The device's state.

        :raises EngineError: when it doesn't say.
        """
        return DeviceReport.model_validate_json(await self._call("GET", url, "/fate/v1/report"))

    async def end(self, url: str, reservation: str) -> None:
        """Have a reservation refused from now on, and what it has in flight broken off.

        :raises EngineError: when the gateway can't be told.
        """
        await self._call("POST", url, f"/fate/v1/reservations/{reservation}/end")

    async def load(self, url: str, model: str) -> None:
        """Begin to load a model.

        :raises EngineError: when the gateway won't.
        """
        await self._call("POST", url, f"/fate/v1/models/{model}/load")

    async def unload(self, url: str, model: str) -> None:
        """Begin to unload a model.

        :raises EngineError: when the gateway won't.
        """
        await self._call("POST", url, f"/fate/v1/models/{model}/unload")

    def _client(self, url: str, token: str) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.AsyncClient(
            base_url=url, headers=headers, timeout=None, trust_env=False, transport=self._transport
        )

    async def _call(self, method: str, url: str, path: str, token: str = "") -> bytes:
        try:
            client = self._client(url, token or reader_token(self._secret, SUBJECT))
            answer = await client.request(method, path, timeout=SHORT_S)
        except (httpx.HTTPError, TokenError) as error:
            raise EngineError(f"{url}{path}: {error!r}") from error
        if answer.is_error:
            raise openai_api.failure(answer.status_code, answer.content)
        return answer.content
