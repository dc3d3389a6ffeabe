"""``python -m tests.unit.gateway.fake_llamacpp``: what a gateway sees of its llama.cpp child.

A request's body says how this one behaves: ``pings`` are the questions to the core that come before its answer, and
in a stream before each part of it; with ``deaf`` none of them is answered; with ``hangs`` all but ``/health`` hangs.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

pings = threading.Semaphore(0)
behaviour: dict[str, Any] = {}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path != "/health":
            self.hang()
            pings.release()
            if behaviour.get("deaf"):
                return
        self.answer("{}")

    def do_POST(self) -> None:
        behaviour.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.hang()
        if behaviour.get("stream"):
            self.send_response(200)
            self.end_headers()
        for _ in range(behaviour.get("pings", 0)):
            pings.acquire()
            if behaviour.get("stream"):
                self.wfile.write(b'data: {"choices": []}\n\n')
        if behaviour.get("stream"):
            self.wfile.write(b"data: [DONE]\n\n")
        else:
            self.answer(json.dumps({"choices": [{"message": {"content": self.headers["Authorization"]}}]}))

    def hang(self) -> None:
        if behaviour.get("hangs"):
            threading.Event().wait()

    def answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    sys.stdin.readline()
    if "slow" in sys.argv:
        sys.stdin.read()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"listening http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()
