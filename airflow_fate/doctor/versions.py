"""Do the installed parts go together?"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from platform import python_version

from airflow_fate.doctor.finding import Finding, failure, ok

OTHERS = ("apache-airflow-providers-common-ai", "ortools", "numba")
AIRFLOW = (3, 3)


def check_versions() -> Finding:
    versions = {name: _version(name) for name in ("airflow-fate", "apache-airflow", *OTHERS)}
    seen = (
        ", ".join(f"{name} {known or 'missing'}" for name, known in versions.items()) + f", Python {python_version()}"
    )
    if missing := [name for name, known in versions.items() if not known]:
        return failure("versions", seen, f"pip install {' '.join(missing)}")
    if tuple(int(part) for part in versions["apache-airflow"].split(".")[:2]) != AIRFLOW:
        return failure("versions", seen, f"install apache-airflow {'.'.join(map(str, AIRFLOW))}")
    return ok("versions", seen)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
