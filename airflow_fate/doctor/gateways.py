"""Does each gateway answer, refuse strangers, and know our key?"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import httpx

from airflow_fate.doctor.clock import ahead_s, check_clock
from airflow_fate.doctor.finding import Finding, failure, not_checked, ok
from airflow_fate.messages import reader_token

TIMEOUT_S = 10.0
AT_ONCE = 32
REPORT = "/fate/v1/report"


async def check_gateways(urls: Mapping[str, str], secret: str) -> list[Finding]:
    """:param urls: device -> base URL."""
    if not urls:
        return [not_checked(name, "no gateway is known") for name in ("gateways", "gateways' clocks")]
    token = {"Authorization": f"Bearer {reader_token(secret, 'doctor')}"}
    limit = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:

        async def look(url: str) -> tuple[str, float | None]:
            async with limit:
                try:
                    stranger = await client.get(f"{url}{REPORT}")
                    friend = await client.get(f"{url}{REPORT}", headers=token)
                except httpx.HTTPError as error:
                    return f"can't be reached ({type(error).__name__})", None
            date_s = ahead_s(friend.headers.get("date"))
            if stranger.status_code != httpx.codes.UNAUTHORIZED:
                return f"answers strangers with {stranger.status_code}", date_s
            if not friend.is_success:
                return f"refuses our key ({friend.status_code})", date_s
            return "", date_s

        answers = dict(zip(urls, await asyncio.gather(*(look(url) for url in urls.values())), strict=True))
    troubles = {device: trouble for device, (trouble, _) in answers.items() if trouble}
    clocks = check_clock("gateways' clocks", {device: seconds for device, (_, seconds) in answers.items()})
    if not troubles:
        return [ok("gateways", f"{len(answers)} answer, refuse strangers and know our key"), clocks]
    device, trouble = next(iter(sorted(troubles.items())))
    remedies = {
        "can't": "see its log, and whether a NetworkPolicy or firewall stands between",
        "refuses": "give scheduler and gateways the same [fate] gateway_secret",
        "answers": "something else listens there; see [fate] gateway_port",
    }
    more = f", and {len(troubles) - 1} more" if len(troubles) > 1 else ""
    return [failure("gateways", f"{device} {trouble}{more}", remedies[trouble.split()[0]]), clocks]
