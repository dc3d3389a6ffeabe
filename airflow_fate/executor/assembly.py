"""What is a heartbeat made of? Its parts, put together as the settings say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_fate.executor.accounts.accounts import Accounts
from airflow_fate.executor.database import connect
from airflow_fate.executor.heartbeat.edges import Edges
from airflow_fate.executor.heartbeat.ends import Ends
from airflow_fate.executor.heartbeat.heartbeat import Heartbeat
from airflow_fate.executor.planning.decider import Decider, SearchSettings
from airflow_fate.executor.planning.planner import Planner
from airflow_fate.executor.planning.solver import SolverProcess
from airflow_fate.executor.runs.run_cache import RunCache
from airflow_fate.executor.runs.specs import Specs
from airflow_fate.executor.sources import open_source
from airflow_fate.state.history import History
from airflow_fate.state.holds import Holds
from airflow_fate.state.ledger import Ledger
from airflow_fate.state.presence import Presence
from airflow_fate.state.speeds import LearnedSpeeds
from airflow_fate.state.store import Store

if TYPE_CHECKING:
    from airflow_fate.executor.frontier import Frontier
    from airflow_fate.executor.heartbeat.heartbeat import Outlet
    from airflow_fate.executor.runs.connections import Connections
    from airflow_fate.executor.settings import Settings


def edges_of(settings: Settings) -> Edges:
    """What a scheduler's heartbeat reaches."""
    store = Store(connect)
    solver = SolverProcess() if settings.solver == "search" and settings.policy == "fate" else None
    return Edges(
        store=store,
        ledger=Ledger(store.connect),
        history=History(store.connect),
        speeds=LearnedSpeeds(store.connect),
        presence=Presence(store.connect),
        # Not by way of the store: its tables in memory are the heartbeat's alone, and this reads in a thread.
        accounts=Accounts(settings.budgets, settings.prices, Holds(connect)),
        source=open_source(settings),
        decider=Decider(settings.policy, solver, SearchSettings(settings.objective, settings.search_s)),
    )


def assemble(
    settings: Settings, frontier: Frontier, outlet: Outlet, connections: Connections, edges: Edges
) -> Heartbeat:
    """A heartbeat, not started yet.

    :param outlet: where tasks go from the frontier.
    :param connections: what is known of the tasks' connections.
    """
    specs = Specs()
    run_cache = RunCache(settings, edges.ledger, edges.history, edges.speeds, connections, specs, edges.read_runs)
    planner = Planner(settings, specs, connections, run_cache, edges.decider, edges.accounts)
    ends = Ends(settings, edges.ledger, run_cache, edges.notifier, edges.accounts.counter)
    return Heartbeat(settings, frontier, outlet, edges, specs, run_cache, planner, ends)
