"""``python -m tests.cluster.kubelet``: plays the nodes until SIGTERM."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
import yaml

from tests.cluster.api import Api
from tests.cluster.kubelet.agent import Agent
from tests.cluster.kubelet.config import KubeletConfig
from tests.cluster.kubelet.environment import Machine
from tests.cluster.kubelet.launching import PROGRAM
from tests.cluster.kubelet.sandbox import Launch


def main(
    kubeconfig: Annotated[Path, typer.Option(help="who it is for the API server")],
    config: Annotated[Path, typer.Option(help="its nodes")],
    network: Annotated[str, typer.Option(help="the loopback network of its pods")],
    folder: Annotated[Path, typer.Option(help="for files and logs of pods")],
) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # One line for each request would hide all else.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    check_sandbox()
    server = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    host, _, port = server.removeprefix("https://").partition(":")
    asyncio.run(_run(kubeconfig, config, Machine(host, int(port)), ipaddress.IPv4Network(network), folder))


def check_sandbox() -> None:
    """:raises SystemExit: when this machine allows no sandbox, with what it said."""
    with tempfile.TemporaryDirectory() as root:
        asked = Launch(root, ("true",), {"PATH": "/usr/bin:/bin"}).to_json()
        done = subprocess.run(PROGRAM, input=asked, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"containers can't be played here: {done.stderr}")


async def _run(kubeconfig: Path, config: Path, machine: Machine, network: ipaddress.IPv4Network, folder: Path) -> None:
    async with Api.of(kubeconfig) as api:
        agent = asyncio.create_task(Agent(api, KubeletConfig.read(config), machine, network, folder).run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, agent.cancel)
        with suppress(asyncio.CancelledError):
            await agent


typer.run(main)
