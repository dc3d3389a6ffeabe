"""What does the child process run that holds one llama.cpp model? llama.cpp's own HTTP server, on a free loopback port.

The API key comes as the first line of stdin, so that it shows in no process list. When stdin ends the process exits:
an engine never outlives its gateway, even one that was killed.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading


def main() -> None:
    arguments = _parse()
    api_key = sys.stdin.readline().strip()
    threading.Thread(target=_exit_with_stdin, daemon=True).start()

    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = arguments.model_file
    params.model_alias = {arguments.alias}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [api_key]
    params.n_parallel = arguments.slots
    params.n_ctx = arguments.context_tokens * arguments.slots
    params.n_batch = arguments.batch_tokens
    params.cache_ram_mib = arguments.cache_ram_mib
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = arguments.threads
    params.warmup = False
    params.verbosity = 0
    server = xllamacpp.Server(params)
    print(f"listening {server.listening_address}", flush=True)
    # Nobody reads on: without this, a chatty library would fill the pipe and block.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    threading.Event().wait()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-file", required=True)
    parser.add_argument("--alias", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--context-tokens", type=int, required=True)
    parser.add_argument("--batch-tokens", type=int, required=True)
    parser.add_argument("--cache-ram-mib", type=int, required=True)
    return parser.parse_args()


def _exit_with_stdin() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
