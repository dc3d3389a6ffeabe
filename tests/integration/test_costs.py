"""What real runs cost is what their devices were held for, in the page, on a terminal, and against budgets."""

from __future__ import annotations

import json
from itertools import chain

import httpx
import pytest
from sqlalchemy import create_engine, text

from tests.commands import fate
from tests.integration.conftest import World

pytestmark = [pytest.mark.integration, pytest.mark.engine]
TICK_S = 0.001
PRICE = "3600"


@pytest.fixture(scope="module")
def run(on_sqlite: World) -> str:
    on_sqlite.stack.api.wait_dag("short_answers")
    run_id = on_sqlite.stack.api.trigger("short_answers")
    assert on_sqlite.finished("short_answers", run_id) == "success"
    return run_id


def busy_s(world: World, dag_id: str = "%", run_id: str = "%") -> float:
    """The time in which anybody held each device, from the rows as they are, counted tick by tick."""
    engine = create_engine(world.stack.database)
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT d.device_id, r.claimed_at, r.ended_at FROM fate_reservation r "
                "JOIN fate_reservation_device d ON d.reservation_id = r.id "
                "WHERE r.ended_at IS NOT NULL AND r.dag_id LIKE :dag_id AND r.run_id LIKE :run_id"
            ),
            {"dag_id": dag_id, "run_id": run_id},
        ).all()
    engine.dispose()
    ticks = set(
        chain.from_iterable(
            ((device, tick) for tick in range(round(start / TICK_S), round(end / TICK_S)))
            for device, start, end in rows
        )
    )
    return len(ticks) * TICK_S


def test_the_costs_of_all_runs_add_up_to_the_fleets_busy_time(on_sqlite: World, run: str) -> None:
    code, found = fate("cost --by run", on_sqlite.stack.environment(), AIRFLOW__FATE__PRICE_PER_GPU_HOUR=PRICE)
    assert code == 0
    cost_s = sum(row["gpu_s"] for row in found["rows"])
    assert cost_s == pytest.approx(busy_s(on_sqlite), rel=0.01)
    assert found["total"]["money"] == pytest.approx(cost_s)
    fleet = found["fleet"]
    assert fleet["busy_gpu_s"] == pytest.approx(cost_s)
    assert fleet["busy_gpu_s"] + fleet["idle_gpu_s"] == pytest.approx(fleet["fleet_gpu_s"])
    engine = create_engine(on_sqlite.stack.database)
    with engine.connect() as connection:
        noted = set(connection.scalars(text("SELECT device_id FROM fate_presence")))
    engine.dispose()
    assert noted == {"gpu-0", "gpu-1", "gpu-2"}, "of others, idle time would not be told"


def test_a_run_costs_what_its_tasks_cost_and_more_than_its_engines_worked(on_sqlite: World, run: str) -> None:
    address = f"{on_sqlite.stack.url}/fate/api/dags/short_answers/placements"
    headers = {"Authorization": f"Bearer {on_sqlite.stack.api.log_in()}"}
    answer = httpx.get(address, params={"run_id": run}, headers=headers, timeout=60, trust_env=False).json()
    costs = {placement["receipt"]["reservation"]: placement["cost"] for placement in answer["placements"]}
    assert answer["cost"]["gpu_s"] == pytest.approx(sum(cost["gpu_s"] for cost in costs.values()))
    assert answer["cost"]["gpu_s"] == pytest.approx(busy_s(on_sqlite, "short_answers", run), rel=0.01)
    for reservation in on_sqlite.reservations("short_answers", run):
        (fact,) = reservation.facts
        worked_s = fact["load_s"] + fact["prefill_s"] + fact["decode_s"]
        assert costs[reservation.id]["gpu_s"] > worked_s
        assert costs[reservation.id]["load_s"] == pytest.approx(fact["load_s"], abs=0.01)


@pytest.mark.more
def test_a_run_whose_budget_is_used_up_fails_before_it_takes_a_device(on_sqlite: World) -> None:
    world = on_sqlite
    world.stack.api.wait_dag("beside")
    budgets = json.dumps([{"dag": "beside", "per": "run", "gpu_seconds": 0, "action": "fail"}])
    with world.scheduler_with(fate__budgets=budgets):
        run_id = world.stack.api.trigger("beside")
        assert world.finished("beside", run_id) == "failed"
    assert world.reservations("beside", run_id) == []
    log = world.stack.api.task_log("beside", run_id, "ours")
    assert "has spent 0.00 of the 0 GPU-seconds of [fate] budgets; it gets no device" in log
