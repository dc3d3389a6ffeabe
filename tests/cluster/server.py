"""What runs in the tests' pods: a server that tells what it finds there, and dies or drains when asked.

Python's standard library only, for it comes into its pod as a ConfigMap. Paths: ``/env/NAME``, ``/file/PATH``,
``/append/PATH`` (an x), ``/api/PATH`` (the status that the API server answers to this pod's ServiceAccount),
``/get/URL``, ``/die`` (exit status 3), and ``/drain``, which answers once SIGTERM has come.
"""

from __future__ import annotations

import os
import pwd
import signal
import socket
import ssl
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
terminated = threading.Event()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        what, _, rest = self.path[1:].partition("/")
        if what == "die":
            os._exit(3)
        try:
            content = getattr(self, f"tell_{what or 'ready'}")(rest)
        except OSError as error:
            content = repr(error)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(content.encode())

    def tell_ready(self, _: str) -> str:
        return "ready"

    def tell_env(self, name: str) -> str:
        return os.environ.get(name, "")

    def tell_file(self, path: str) -> str:
        return Path("/", path).read_text()

    def tell_append(self, path: str) -> str:
        with Path("/", path).open("a") as file:
            file.write("x")
        return self.tell_file(path)

    def tell_user(self, _: str) -> str:
        return f"{os.getuid()} {pwd.getpwuid(os.getuid()).pw_name} {os.getpid()}"

    def tell_host(self, _: str) -> str:
        return f"{socket.gethostname()} {socket.gethostbyname(socket.gethostname())}"

    def tell_drain(self, _: str) -> str:
        terminated.wait()
        return "drained"

    def tell_get(self, url: str) -> str:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())

    def tell_api(self, path: str) -> str:
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        token = (ACCOUNT / "token").read_text()
        request = urllib.request.Request(f"https://{host}:{port}/{path}", headers={"Authorization": f"Bearer {token}"})
        trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
        try:
            with urllib.request.urlopen(request, context=trust, timeout=5) as answer:
                return str(answer.status)
        except urllib.error.HTTPError as error:
            return str(error.code)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: terminated.set())
    server = ThreadingHTTPServer((os.environ["POD_IP"], int(os.environ.get("PORT", "8080"))), Handler)
    threading.Thread(target=server.serve_forever).start()
    terminated.wait()
    server.shutdown()
    # Waits for requests that are still being answered.
    server.server_close()
