"""``python fake_vllm.py MODEL --served-model-name=NAME --host=HOST --port=PORT``: what a gateway sees of a vLLM server.

It says in the folder MODEL what was done with it, and has a worker process of its own, as vLLM has.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

folder = Path(sys.argv[1])
options = dict(argument.removeprefix("--").split("=") for argument in sys.argv[2:])
awake = 1


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if (folder / "slow").exists():
            time.sleep(2)
        if self.path == "/health":
            self.answer("")
        elif self.path == "/metrics":
            self.answer(f'vllm:engine_sleep_state{{sleep_state="awake"}} {awake}\nprocess_start_time_seconds 1\n')
        else:
            self.answer(json.dumps({"data": [{"id": options["served-model-name"]}]}))

    def do_POST(self) -> None:
        global awake
        if self.path.startswith(("/sleep", "/wake_up")):
            awake = int(self.path == "/wake_up")
            tell(self.path)
            self.answer("")
            return
        self.rfile.read(int(self.headers["Content-Length"]))
        while (folder / "thinks").exists():
            time.sleep(0.01)
        is_ours = self.headers["Authorization"] == f"Bearer {os.environ['VLLM_API_KEY']}"
        self.answer(json.dumps({"choices": [{"message": {"content": f"{is_ours}"}}]}))

    def answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


def tell(text: str) -> None:
    with (folder / "told").open("a") as file:
        file.write(f"{text}\n")


if (folder / "broken").exists():
    sys.exit(3)
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
tell(f"{os.getpid()} {worker.pid}")
ThreadingHTTPServer((options["host"], int(options["port"])), Handler).serve_forever()
