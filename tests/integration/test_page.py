"""FATE's views in Airflow's pages, in a real browser, on a real run, behind a path prefix, for who may see them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from urllib.parse import quote

import httpx
import pytest
from fastapi.routing import APIRoute
from playwright.sync_api import Browser, Locator, Page, expect

from airflow_fate.cluster import Fleet
from airflow_fate.demo.api import AirflowApi
from airflow_fate.demo.stack import AirflowStack
from airflow_fate.plugin.app import app
from airflow_fate.plugin.fleet import fleet_page
from airflow_fate.state.ledger import Reservation
from airflow_fate.state.local import LocalFleet
from airflow_fate.state.source import FleetView
from tests.browser import PROGRAM, chromium, view
from tests.commands import fate
from tests.integration.auth import GUEST, GUESTS_DAG
from tests.integration.conftest import World
from tests.servers import without
from tests.unit.plugin.builders import fleet_of

pytestmark = [pytest.mark.more, pytest.mark.integration, pytest.mark.engine]
BOSS = "boss"
PREFIX = "/some/where"
BEHIND = """element => {
    const colour = (part) => getComputedStyle(part).backgroundColor;
    while (element.parentElement && colour(element) === "rgba(0, 0, 0, 0)") element = element.parentElement;
    return colour(element);
}"""
DOCUMENT = "The ferry leaves at noon. " * 20


@dataclass(frozen=True)
class Server:
    """An API server behind a path prefix, where people must log in."""

    url: str
    tokens: dict[str, str]

    def get(self, path: str, user: str, **params: object) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tokens[user]}"}
        return httpx.get(self.url + path, params=params, headers=headers, timeout=60, trust_env=False)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def server(on_sqlite: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """It reads the database and the fleet of the Airflow that has the run."""
    home = tmp_path_factory.mktemp("page")
    settings = {
        "core__auth_manager": "tests.integration.auth.GuestAuthManager",
        "core__simple_auth_manager_all_admins": "False",
        "core__simple_auth_manager_users": f"{BOSS}:admin,{GUEST}:viewer",
        "fate__fleet_dir": str(on_sqlite.fleet.folder),
    }
    passwords = {user: f"{user}'s password" for user in (BOSS, GUEST)}
    (home / "simple_auth_manager_passwords.json.generated").write_text(json.dumps(passwords))
    with AirflowStack(home, on_sqlite.stack.dags, on_sqlite.stack.database, settings, path=PREFIX) as stack:
        stack.start("api-server")
        stack.wait_healthy()
        yield Server(stack.url, {user: AirflowApi(stack.url, user, word).log_in() for user, word in passwords.items()})


@pytest.fixture(scope="module")
def run(on_sqlite: World) -> str:
    """A run that has every kind of task."""
    on_sqlite.stack.api.wait_dag("kinds")
    run_id = on_sqlite.stack.api.trigger("kinds", {"document": DOCUMENT})
    assert on_sqlite.finished("kinds", run_id, timeout_s=240) == "success"
    return run_id


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if PROGRAM is None:
        without("chromium")
    with chromium() as browser:
        yield browser


Open = Callable[..., Page]


@pytest.fixture
def look(browser: Browser, server: Server) -> Iterator[Open]:
    """Opens a path of Airflow's page; in the end, nothing of ours may have failed in it.

    ``answers`` stand for those of the plugin's routes, by their last part.
    """
    failed: list[str] = []
    contexts = []

    def opens(path: str, user: str = BOSS, theme: str = "light", answers: Mapping[str, object] | None = None) -> Page:
        context = browser.new_context(color_scheme=theme, viewport={"width": 1280, "height": 1000})  # type: ignore[arg-type]
        contexts.append(context)
        context.add_cookies([{"name": "_token", "value": server.tokens[user], "url": server.url}])
        page = context.new_page()
        for route, answer in (answers or {}).items():
            page.route(f"**/fate/api/**{route}?*", lambda asked, _, said=answer: asked.fulfill(json=said))
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.goto(server.url + path)
        return page

    yield opens
    for context in contexts:
        context.close()
    assert failed == []


def figure(within: Locator, name: str) -> Locator:
    return within.locator(f"[data-figure='{name}']")


def cells(row: Locator) -> list[str]:
    return [text.strip() for text in row.locator("th, td").all_inner_texts()]


def receipt_path(run_id: str, task_id: str, dag_id: str = "kinds") -> str:
    return f"/dags/{dag_id}/runs/{quote(run_id)}/tasks/{task_id}/plugin/fate-receipt"


def placements_path(run_id: str, dag_id: str = "kinds") -> str:
    return f"/dags/{dag_id}/runs/{quote(run_id)}/plugin/fate-placements"


def of_task(world: World, run_id: str, task_id: str) -> list[Reservation]:
    return [reservation for reservation in world.reservations("kinds", run_id) if reservation.task_id == task_id]


@pytest.mark.parametrize("route", app.routes, ids=lambda route: route.path)
def test_no_route_answers_without_a_login(server: Server, route: APIRoute) -> None:
    path = route.path.replace("{name}", "fleet.js").replace("{dag_id}", "kinds")
    asked = {"run_id": "r", "task_id": "batch"}
    answer = httpx.get(f"{server.url}/fate{path}", params=asked, timeout=60, trust_env=False)
    assert answer.status_code == 401


def test_a_viewer_of_one_dag_sees_no_others_and_no_fleet(server: Server, run: str) -> None:
    asked = {"run_id": run, "task_id": "batch"}
    own = server.get(f"/fate/api/dags/{GUESTS_DAG}/receipts", GUEST, **asked)
    assert [receipt["dag_id"] for receipt in own.json()["receipts"]] == [GUESTS_DAG]
    for path in ("/fate/api/dags/report/receipts", "/fate/api/dags/~/receipts", "/fate/api/fleet"):
        assert server.get(path, GUEST, **asked).status_code == 403, path
        assert server.get(path, BOSS, **asked).status_code == 200, path


def test_who_may_not_see_the_fleet_is_told_so(look: Open) -> None:
    shown = view(look("/plugin/fate-fleet", GUEST), "Fleet")
    expect(shown.get_by_role("alert")).to_contain_text("You may not see this")


def test_the_fleet_has_the_numbers_of_its_devices(look: Open, server: Server, on_sqlite: World, run: str) -> None:
    known = LocalFleet(on_sqlite.fleet.folder).snapshot()
    shown = view(look("/plugin/fate-fleet"), "Fleet")
    expect(figure(shown, "devices")).to_contain_text(str(len(known.fleet.devices)))
    expect(figure(shown, "prefixes")).to_contain_text(
        str(sum(len(report.prefixes) for report in known.reports.values()))
    )
    answer = server.get("/fate/api/fleet", BOSS).json()
    for device in answer["devices"]:
        report = known.reports[device["device"]]
        assert device["resident"] == sorted(name for name, model in report.models.items() if model.state == "ready")
        row = cells(shown.locator(f"[data-row='{device['device']}']"))
        assert row[0] == device["device"]
        assert row[3] == "ready"
        assert all(model in row[4] for model in device["resident"])
        assert row[5] == f"{len(report.prefixes)} ({sum(prefix[1] for prefix in report.prefixes):,} tokens)"
        assert row[6:8] == [f"{report.running} of {report.max_seqs}", str(report.queued)]


def test_the_fleet_is_live(look: Open, on_sqlite: World) -> None:
    """What a gateway publishes is on the page without anybody loading it again."""
    shown = view(look("/plugin/fate-fleet"), "Fleet")
    expect(shown.get_by_role("button", name="ready: 3")).to_be_visible()
    victim = on_sqlite.gateway("gpu-2")
    victim.suspend()
    try:
        expect(shown.get_by_role("button", name="stale: 1")).to_be_visible(timeout=30_000)
        expect(shown.locator("[data-row='gpu-2']")).to_contain_text("silent for more than")
    finally:
        victim.resume()
    expect(shown.get_by_role("button", name="ready: 3")).to_be_visible(timeout=30_000)


def test_an_empty_fleet_says_what_to_do(look: Open) -> None:
    nothing = fleet_page(FleetView(Fleet({}, {}, {})), 10.0, offset=0, limit=50)
    shown = view(look("/plugin/fate-fleet", answers={"fleet": asdict(nothing)}), "Fleet")
    expect(shown).to_contain_text("No device is known yet")
    expect(shown).to_contain_text("fate fleet up --file fleet.yaml")
    expect(shown).to_contain_text("fate doctor")


def test_of_a_thousand_devices_a_page_is_shown(look: Open) -> None:
    first = fleet_page(fleet_of(1000, per_node=8), 10.0, offset=0, limit=50)
    shown = view(look("/plugin/fate-fleet", answers={"fleet": asdict(first)}), "Fleet")
    expect(figure(shown, "devices")).to_contain_text("1,000")
    expect(shown.locator("[data-row^='gpu-']")).to_have_count(50)
    expect(shown.get_by_role("navigation", name="Pages")).to_contain_text("1 to 50 of 1,000")
    expect(shown.get_by_role("button", name="Next")).to_be_enabled()


def test_devices_are_found_by_keyboard_alone(look: Open) -> None:
    page = look("/plugin/fate-fleet")
    shown = view(page, "Fleet")
    reach(page, "Find devices")
    page.keyboard.type("gpu-1")
    expect(shown.locator("[data-row^='gpu-']")).to_have_count(1)
    reach(page, "ready: 3")
    page.keyboard.press("Enter")
    expect(shown.get_by_role("button", name="ready: 3")).to_have_attribute("aria-pressed", "true")


def reach(page: Page, what: str) -> None:
    """Press Tab until what has that text or label has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if what in page.evaluate("document.activeElement.ariaLabel || document.activeElement.innerText"):
            return
    pytest.fail(f"Tab never reaches {what}")


def test_both_themes_are_those_of_the_page_around_it(look: Open) -> None:
    def colours(theme: str) -> tuple[str, str]:
        shown = view(look("/plugin/fate-fleet", theme=theme), "Fleet")
        heading = shown.get_by_role("heading", name="Fleet")
        return heading.evaluate("element => getComputedStyle(element).color"), heading.evaluate(BEHIND)

    light, dark = colours("light"), colours("dark")
    assert light[0] != dark[0]
    assert light[1] != dark[1]
    assert light[0] != light[1]
    assert dark[0] != dark[1]


def test_a_receipt_has_the_numbers_of_the_ledger(look: Open, server: Server, on_sqlite: World, run: str) -> None:
    (row,) = of_task(on_sqlite, run, "batch")
    asked = {"run_id": run, "task_id": "batch"}
    (receipt,) = server.get("/fate/api/dags/kinds/receipts", BOSS, **asked).json()["receipts"]
    assert row.ended_at is not None
    assert row.future_s is not None
    assert receipt["future_s"] == row.future_s
    shown = view(look(receipt_path(run, "batch")), "Receipt").locator(f"[data-receipt='{row.id}']")
    expect(shown).to_contain_text(row.reason)
    for name, expected_s in row.cost.items():
        (part,) = (part for part in receipt["parts"] if part["name"] == name)
        assert part["expected_s"] == expected_s
        measured = "–" if part["measured_s"] is None else f"{part['measured_s']:.2f} s"
        assert cells(shown.locator(f"[data-row='{name}']")) == [name, f"{expected_s:.2f} s", measured]
    expect(figure(shown, "device held")).to_contain_text(f"{row.ended_at - row.claimed_at:.2f} s")
    cached, prompt = (sum(fact[key] for fact in row.facts) for key in ("cached_tokens", "prompt_tokens"))
    expect(figure(shown, "tokens cached")).to_contain_text(f"{cached:,} of {prompt:,}")


def test_each_try_has_a_receipt_newest_first(look: Open, on_sqlite: World, run: str) -> None:
    tries = of_task(on_sqlite, run, "retried")
    shown = view(look(receipt_path(run, "retried")), "Receipt").locator("[data-receipt]")
    expect(shown).to_have_count(2)
    assert [receipt.get_attribute("data-receipt") for receipt in shown.all()] == [held.id for held in reversed(tries)]


def test_a_mapped_task_shows_its_own_receipt(look: Open, on_sqlite: World, run: str) -> None:
    (second,) = (reservation for reservation in of_task(on_sqlite, run, "mapped") if reservation.map_index == 1)
    path = receipt_path(run, "mapped").replace("/plugin/", "/mapped/1/plugin/")
    expect(view(look(path), "Receipt").locator("[data-receipt]")).to_have_attribute("data-receipt", second.id)


@pytest.mark.parametrize(
    ("task_id", "says"), [("plain", "not placed by FATE"), ("unknown_model", "has no receipt yet")]
)
def test_a_task_without_a_receipt_says_why(look: Open, run: str, task_id: str, says: str) -> None:
    expect(view(look(receipt_path(run, task_id)), "Receipt")).to_contain_text(says)


def test_a_runs_placements_are_those_of_the_ledger(look: Open, server: Server, on_sqlite: World, run: str) -> None:
    rows = on_sqlite.reservations("kinds", run)
    answer = server.get("/fate/api/dags/kinds/placements", BOSS, run_id=run).json()
    assert [placed["receipt"]["reservation"] for placed in answer["placements"]] == [held.id for held in rows]
    assert answer["start_at"] == rows[0].claimed_at
    shown = view(look(placements_path(run)), "Placements")
    expect(figure(shown, "placements")).to_contain_text(str(len(rows)))
    expect(shown.locator("[data-row]")).to_have_count(len(rows))
    for reservation in rows:
        row = shown.locator(f"[data-row='{reservation.id}']")
        assert cells(row)[1] == ", ".join(share.device for share in reservation.shares)
        bar = row.get_by_role("img").get_attribute("title")
        assert bar is not None
        assert bar.endswith(reservation.reason)
        assert {"load", "prefill", "decode"} & {phase.split()[0] for phase in bar.partition(": ")[2].split(", ")}


def test_the_critical_path_is_one_that_the_run_has_gone(server: Server, on_sqlite: World, run: str) -> None:
    answer = server.get("/fate/api/dags/kinds/placements", BOSS, run_id=run).json()["placements"]
    critical = [placement["receipt"] for placement in answer if placement["is_critical"]]
    assert critical, "what was placed took longer than anything else of this run"
    assert len({receipt["task_id"] for receipt in critical}) < len(
        {placement["receipt"]["task_id"] for placement in answer}
    )
    api = on_sqlite.stack.api
    (last,) = (ti for ti in api.task_instances("kinds", run) if ti["task_id"] == "last")
    ends = {(ti["task_id"], ti["map_index"]): ti["end_date"] for ti in api.task_instances("kinds", run)}
    assert all(ends[receipt["task_id"], receipt["map_index"]] <= last["start_date"] for receipt in critical)


def test_a_run_without_placements_says_so(look: Open, run: str) -> None:
    nothing: dict[str, object] = {"start_at": None, "end_at": None, "placements": []}
    shown = view(look(placements_path(run), answers={"placements": nothing}), "Placements")
    expect(shown).to_contain_text("FATE has placed nothing of this run yet")


def test_the_command_tells_the_receipts_of_the_page(server: Server, on_sqlite: World, run: str) -> None:
    answer = server.get("/fate/api/dags/kinds/placements", BOSS, run_id=run).json()["placements"]
    environment = on_sqlite.stack.environment()
    assert fate(f"explain kinds {run}", environment) == (
        0,
        {"receipts": [placement["receipt"] for placement in answer]},
    )
    code, of_one = fate(f"explain kinds {run} retried", environment)
    assert (code, [receipt["try_number"] for receipt in of_one["receipts"]]) == (0, [1, 2])


def test_it_works_without_a_path_prefix_too(browser: Browser, on_sqlite: World) -> None:
    page = browser.new_page()
    page.goto(f"{on_sqlite.stack.url}/plugin/fate-fleet")
    expect(figure(view(page, "Fleet"), "devices")).to_contain_text("3")
    page.close()
