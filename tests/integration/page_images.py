"""Pictures of the page for the docs, while runs of the demo go on and after: ``make page-images``."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import expect

from airflow_fate.demo.passes import LocalFleetProcess
from airflow_fate.demo.stack import AirflowStack
from airflow_fate.demo.workload import DAG_IDS, DAGS, document
from tests.browser import chromium, view

IMAGES = Path(__file__).parents[2] / "docs" / "images"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="fate-images-") as name:
        folder = Path(name)
        fleet = LocalFleetProcess(folder / "fleet")
        settings = {"fate__fleet_dir": str(fleet.folder)}
        try:
            fleet.start(devices=3)
            with AirflowStack(folder / "airflow", DAGS, settings=settings) as stack:
                stack.migrate()
                stack.start("api-server", "dag-processor", "scheduler")
                stack.wait_healthy()
                _take(stack)
        finally:
            fleet.stop()


def _take(stack: AirflowStack) -> None:
    for dag_id in DAG_IDS:
        stack.api.wait_dag(dag_id)
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        runs = [(dag_id, stack.api.trigger(dag_id, {"document": document(dag_id)})) for dag_id in DAG_IDS]
        page.goto(f"{stack.url}/plugin/fate-fleet")
        fleet = view(page, "Fleet")
        for name in ("prefixes", "running"):
            expect(fleet.locator(f"[data-figure='{name}']")).to_contain_text(re.compile("[1-9]"), timeout=120_000)
        page.screenshot(path=IMAGES / "fleet.png")
        for dag_id, run_id in runs:
            stack.api.wait_run(dag_id, run_id)
        run = f"{stack.url}/dags/{DAG_IDS[0]}/runs/{quote(runs[0][1])}"
        for path, title in (("plugin/fate-placements", "Placements"), ("tasks/summary/plugin/fate-receipt", "Receipt")):
            page.goto(f"{run}/{path}")
            bar = view(page, title).get_by_role("img").last
            # What was measured comes a moment after the end.
            expect(bar).to_have_attribute("title", re.compile("^measured"), timeout=60_000)
            page.screenshot(path=IMAGES / f"{title.lower()}.png")


if __name__ == "__main__":
    main()
