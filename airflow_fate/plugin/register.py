"""Where does it hang in Airflow's pages? The plugin that Airflow loads."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

PREFIX = "fate"


class Page:
    """The page's ASGI app, imported when first asked: each task's process loads this plugin, and serves nobody."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from airflow_fate.plugin.app import app

        await app(scope, receive, send)


def _view(name: str, destination: str, file: str) -> dict[str, Any]:
    """A view's entry.

    :param name: what its tab says; Airflow also keeps the view under it, so no other plugin's may be the same.
    :param file: an ES module that leaves its component in ``globalThis.AirflowPlugin``. Airflow imports it relative to
        the page's base, which knows of the path prefix.
    """
    route = name.lower().replace(" ", "-")
    return {
        "name": name,
        "destination": destination,
        "url_route": route,
        "bundle_url": f"{PREFIX}/static/{file}",
    }


class FatePlugin(AirflowPlugin):
    """FATE's page: see docs/page.md."""

    name = "fate"
    fastapi_apps = [{"name": "fate", "app": Page(), "url_prefix": f"/{PREFIX}"}]  # noqa: RUF012
    react_apps = [  # noqa: RUF012
        _view("FATE Fleet", "nav", "fleet.js"),
        _view("FATE Placements", "dag_run", "placements.js"),
        _view("FATE Receipt", "task_instance", "receipt.js"),
    ]
