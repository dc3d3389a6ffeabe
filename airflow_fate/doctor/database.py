"""Can FATE's tables be used, and does what they say hold together?"""

from __future__ import annotations

import time

from sqlalchemy.exc import DBAPIError

from airflow_fate.doctor.finding import Finding, failure, not_checked, ok, warning
from airflow_fate.state.ledger import Connect, Ledger
from airflow_fate.state.store import find_failure

OVERDUE_S = 3600.0
"""A reservation that is expected to have ended so long ago has perhaps been forgotten."""


def check_database(connect: Connect) -> list[Finding]:
    try:
        trouble = find_failure(connect)
    except DBAPIError as error:
        seen = f"Airflow's database can't be reached: {str(error.orig).strip().partition(chr(10))[0]}"
        return [failure("database", seen, "check [database] sql_alchemy_conn"), not_checked("reservations", seen)]
    if trouble:
        return [failure("database", trouble, "airflow db migrate"), not_checked("reservations", "no tables")]
    return [ok("database", "FATE's tables are there"), _check_reservations(Ledger(connect))]


def _check_reservations(ledger: Ledger) -> Finding:
    if wrong := ledger.audit():
        text = ", ".join(f"{device}: {used} taken, {held} held" for device, (used, held) in sorted(wrong.items()))
        return failure("reservations", text, "report it: taken and held must agree at all times")
    live = ledger.live()
    overdue = [reservation for reservation in live if reservation.finish_at < time.time() - OVERDUE_S]
    seen = f"{len(live)} live, on {len({share.device for reservation in live for share in reservation.shares})} devices"
    if overdue:
        late = ", ".join(
            f"{reservation.dag_id} {reservation.run_id} {reservation.task_id}" for reservation in overdue[:5]
        )
        return warning("reservations", f"{seen}; long overdue: {late}", "see whether these tasks still run")
    return ok("reservations", seen)
