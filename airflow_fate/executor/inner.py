"""Which executor runs the tasks? The one that ``[fate] inner_executor`` names, or an error that says how to get it."""

from __future__ import annotations

from airflow._shared.module_loading import import_string
from airflow.executors.base_executor import BaseExecutor
from airflow.executors.executor_loader import ExecutorLoader

from airflow_fate.executor.settings import SECTION, SettingsError

_PACKAGES = {
    "airflow.providers.celery.": ("apache-airflow-providers-celery", "celery"),
    "airflow.providers.cncf.kubernetes.": ("apache-airflow-providers-cncf-kubernetes", "kubernetes"),
}


def load_inner(name: str, parallelism: int) -> BaseExecutor:
    """The inner executor, constructed.

    :param name: a core name such as ``CeleryExecutor``, or the path of a class.
    :raises SettingsError: when it can't be imported, naming the package that is missing where that is known.
    """
    path = ExecutorLoader.executors.get(name, name)
    try:
        executor = import_string(path)(parallelism)
    except ImportError as error:
        raise SettingsError(
            f"[{SECTION}] inner_executor {name!r} can't be loaded ({error}): {_remedy(path)}"
        ) from error
    if not isinstance(executor, BaseExecutor):
        raise SettingsError(f"[{SECTION}] inner_executor must name an executor, {path!r} makes {type(executor)}")
    return executor


def _remedy(path: str) -> str:
    for prefix, (package, extra) in _PACKAGES.items():
        if path.startswith(prefix):
            return f"install {package}, as `pip install 'airflow-fate[{extra}]'` does"
    return f"it must be one of {', '.join(ExecutorLoader.executors)}, or the path of an executor's class"
