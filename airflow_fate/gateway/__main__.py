"""How does one gateway start and end? ``python -m airflow_fate.gateway --fleet-dir DIR --device ID``.

SIGTERM drains it: it says so where it publishes, and ends when nobody has asked for a while.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path

from airflow_fate.gateway.log_limit import RepeatFilter

LOOPBACK = "127.0.0.1"


def main() -> None:
    # The first process of a container ignores a signal that it doesn't handle, and the imports below take a while.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    parser = argparse.ArgumentParser(prog="python -m airflow_fate.gateway", description=__doc__)
    parser.add_argument("--fleet-dir", type=Path, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument(
        "--host", default=LOOPBACK, help="address to listen on; in a pod, where others ask, 0.0.0.0 or ::"
    )
    parser.add_argument("--own-pod", action="store_true", help="publish on the pod of POD_NAMESPACE, _NAME, _UID")
    parser.add_argument("--exit-with-stdin", action="store_true", help="end when stdin does: with whoever started this")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s {arguments.device} %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.addFilter(RepeatFilter())

    from airflow_fate.gateway.child import CANNOT_START
    from airflow_fate.gateway.http.auth import NoSecret
    from airflow_fate.gateway.process import run
    from airflow_fate.gateway.settings import SettingsError
    from airflow_fate.kube.credentials import CredentialsError

    try:
        run(
            arguments.fleet_dir,
            arguments.device,
            arguments.host,
            own_pod=arguments.own_pod,
            exit_with_stdin=arguments.exit_with_stdin,
        )
    except (SettingsError, NoSecret, CredentialsError) as error:
        print(f"gateway of {arguments.device}: {error}", file=sys.stderr)
        sys.exit(CANNOT_START)


if __name__ == "__main__":
    main()
