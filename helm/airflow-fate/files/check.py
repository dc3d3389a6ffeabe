"""Is the release whole? Airflow is healthy, each pool has a ready pod, no gateway answers without a token.

What is missing may come within half a minute: a busy scheduler's heartbeat is late, a probe fails once.
"""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
WAIT_S = 30


def fetch(url: str, token: str = "", tls: ssl.SSLContext | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls))
    try:
        with opener.open(request, timeout=20) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError as error:
        return 0, str(error).encode()


def engine_pods() -> list:
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    path = f"/api/v1/namespaces/{os.environ['NAMESPACE']}/pods?labelSelector={quote(os.environ['SELECTOR'])}"
    tls = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    status, body = fetch(f"https://{host}:{port}{path}", (ACCOUNT / "token").read_text(), tls)
    if status != 200:
        sys.exit(f"pods can't be listed: {status} {body.decode(errors='replace')}")
    return json.loads(body)["items"]


def is_ready(pod: dict) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def faults() -> Iterator[str]:
    if url := os.environ["AIRFLOW_URL"]:
        status, body = fetch(f"{url}/api/v2/monitor/health")
        health = json.loads(body) if status == 200 else {}
        for part in ("metadatabase", "scheduler"):
            if health.get(part, {}).get("status") != "healthy":
                yield f"Airflow's {part} is not healthy: {status} {body.decode(errors='replace')}"
    # The workers of a group have no gateway.
    served = [pod for pod in engine_pods() if pod["metadata"]["labels"]["app.kubernetes.io/component"] == "engine"]
    ready = [pod for pod in served if is_ready(pod)]
    for pool in os.environ["POOLS"].split():
        if not any(pod["metadata"]["labels"]["fate-pool"] == pool for pod in ready):
            yield f"pool {pool} has no ready pod"
    for pod in ready:
        address = pod["status"]["podIP"]
        host = f"[{address}]" if ":" in address else address
        status, _ = fetch(f"http://{host}:{os.environ['GATEWAY_PORT']}/v1/models")
        if status != 401:
            yield f"the gateway of {pod['metadata']['name']} answers {status} without a token, not 401"


if __name__ == "__main__":
    until_s = time.monotonic() + WAIT_S
    while (missing := "\n".join(faults())) and time.monotonic() < until_s:
        time.sleep(1)
    sys.exit(missing or 0)
