"""What may who read? The routes of the page, each with its own guard: Airflow asks nobody at a plugin's door."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView, DagAccessEntity
from airflow.api_fastapi.core_api.security import get_user, requires_access_dag, requires_access_view
from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.responses import FileResponse

from airflow_fate.costs import Prices
from airflow_fate.executor.database import connect
from airflow_fate.executor.settings import SettingsError, configured, configured_prices
from airflow_fate.plugin.fleet import DeviceState, FleetPage, fleet_page
from airflow_fate.plugin.instances import has_spec, timeline
from airflow_fate.plugin.receipt import Receipt, receipts
from airflow_fate.plugin.runs import RunPlacements, run_placements
from airflow_fate.plugin.watch import FleetWatch
from airflow_fate.state.costs import placement_costs
from airflow_fate.state.ledger import Ledger

MOST_DEVICES = 200
"""On one page."""
FILES = {path.name: path for path in (Path(__file__).parent / "www").glob("*.js")}

# A route that forgets its guard still asks for a login. The schema would be a route without one.
app = FastAPI(title="FATE", dependencies=[Depends(get_user)], openapi_url=None)
watch = FleetWatch(configured)
sees_fleet = Depends(requires_access_view(AccessView.JOBS))
sees_tasks = Depends(requires_access_dag("GET", DagAccessEntity.TASK_INSTANCE))


@app.get("/static/{name}")
def static(name: str) -> FileResponse:
    """A file of the front end, which holds nobody's data: whoever is logged in may read it."""
    if name not in FILES:
        raise HTTPException(404, f"the page has no file {name!r}")
    # Asked for again each time, and not sent again unless it has changed: a new release shows at once.
    return FileResponse(FILES[name], media_type="text/javascript", headers={"Cache-Control": "no-cache"})


@app.get("/api/fleet", dependencies=[sees_fleet])
def fleet(
    text: str = "",
    state: DeviceState | None = None,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_DEVICES)] = 50,
) -> FleetPage:
    """Sums over the fleet, and a page of its devices."""
    try:
        view, stale_after_s = watch.look()
    except SettingsError as error:
        raise HTTPException(503, str(error)) from error
    return fleet_page(view, stale_after_s, text=text, state=state, offset=offset, limit=limit)


@dataclass(frozen=True, slots=True)
class TaskReceipts:
    """What is known of a task instance.

    :param is_placed_by_fate: whether its task has a stage spec; None where the task instance is gone.
    :param receipts: of all its tries, oldest first.
    """

    is_placed_by_fate: bool | None
    receipts: tuple[Receipt, ...]


@app.get("/api/dags/{dag_id}/receipts", dependencies=[sees_tasks])
def task_receipts(dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> TaskReceipts:
    """The receipts of one task instance."""
    placed = receipts(Ledger(connect).of_runs([(dag_id, run_id)]), task_id, map_index)
    return TaskReceipts(bool(placed) or has_spec(dag_id, run_id, task_id, map_index), placed)


@app.get("/api/dags/{dag_id}/placements", dependencies=[sees_tasks])
def placements(dag_id: str, run_id: str) -> RunPlacements:
    """All placements of a run, and what they cost."""
    now = time.time()
    reservations = Ledger(connect).of_runs([(dag_id, run_id)])
    costs = placement_costs(connect, _prices(), reservations, now)
    return run_placements(receipts(reservations), timeline(dag_id, run_id, now), costs)


def _prices() -> Prices:
    """None where they can't be read: the scheduler says what is wrong, and costs are told in seconds."""
    try:
        return configured_prices()
    except SettingsError:
        return Prices()
