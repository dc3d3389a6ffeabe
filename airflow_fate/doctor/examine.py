"""What does the whole examination find? Every check, in the order of the way."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_fate.doctor.cluster import check_cluster
from airflow_fate.doctor.configuration import check_executor, check_inner_executor, check_keys, given_keys
from airflow_fate.doctor.connection import check_connection, of_type_fate
from airflow_fate.doctor.database import check_database
from airflow_fate.doctor.finding import Finding, failure, not_checked
from airflow_fate.doctor.fleet import check_fleet
from airflow_fate.doctor.gateways import check_gateways
from airflow_fate.doctor.versions import check_versions
from airflow_fate.executor.database import connect
from airflow_fate.executor.settings import Settings, SettingsError
from airflow_fate.executor.sources import open_source
from airflow_fate.kube.credentials import Credentials, CredentialsError, find_credentials
from airflow_fate.provider_info import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_fate.state.source import FleetView

KNOWN_WITHIN_S = 15.0
"""A cluster of a thousand pods is listed in less than a second."""
_POLL_S = 0.1


def examine(settings: Settings) -> list[Finding]:
    """Look at everything; changes nothing."""
    from airflow.configuration import conf

    findings = [
        check_versions(),
        check_executor(conf.get("core", "executor")),
        check_keys(given_keys(conf.as_dict(display_source=True)), OPTIONS),
        check_inner_executor(settings.inner_executor),
        *check_database(connect),
        check_connection(of_type_fate),
    ]
    in_cluster = settings.state_source == "kubernetes"
    if in_cluster:
        findings += asyncio.run(check_cluster(_credentials(settings), settings.namespace))
    with fleet_of(settings) as view:
        if in_cluster:
            start = f"install a pool, or see whether pods match [fate] pod_selector ({settings.pod_selector})"
        else:
            start = f"fate fleet up --dir {settings.fleet_dir} --file FLEET.yaml"
        limit_s = settings.pod_stale_after_s if in_cluster else settings.stale_after_s
        findings += check_fleet(view, limit_s, start)
        try:
            secret = settings.secret()
        except SettingsError as error:
            return [*findings, failure("signing key", str(error), start), not_checked("gateways", "no key")]
        return [*findings, *asyncio.run(check_gateways(view.urls, secret))]


@contextmanager
def fleet_of(settings: Settings) -> Iterator[FleetView]:
    """The fleet as the scheduler sees it, once it is known."""
    source = open_source(settings)
    source.start()
    try:
        deadline_s = time.monotonic() + KNOWN_WITHIN_S
        while not (view := source.snapshot()).fleet.devices and time.monotonic() < deadline_s:
            if settings.state_source == "local":
                break
            time.sleep(_POLL_S)
        yield view
    finally:
        source.stop()


def _credentials(settings: Settings) -> Credentials | CredentialsError:
    try:
        return find_credentials(settings.kubeconfig)
    except CredentialsError as error:
        return error
