"""Which lines guard a promise of docs/guarantees.md, and which test notices when one is gone?"""

from __future__ import annotations

from typing import NamedTuple


class Guard(NamedTuple):
    """A guard and its test.

    :param text: as it stands in the file, once.
    :param without: what stands there when the guard is taken out.
    :param test: the test that must fail then.
    """

    name: str
    file: str
    text: str
    without: str
    test: str


_LEDGER = "airflow_fate/state/ledger.py"
_FENCES = "airflow_fate/gateway/serving/fences.py"
_AUTH = "airflow_fate/gateway/http/auth.py"
_QUEUE = "airflow_fate/gateway/serving/queue.py"
_HANDOVER = "airflow_fate/executor/heartbeat/handover.py"
_PLANNER = "airflow_fate/executor/planning/planner.py"
_BUDGETS_TEST = "tests/unit/executor/heartbeat/test_budgets.py"
_LEDGER_TEST = "tests/unit/state/test_ledger.py"
_AUTH_TEST = "tests/unit/gateway/test_auth.py"

GUARDS = (
    Guard(
        "a claim is granted where there is room",
        _LEDGER,
        ", device.c.used + share.sequences <= device.c.capacity)",
        ")",
        f"{_LEDGER_TEST}::test_room_is_given_no_more_often_than_there_is",
    ),
    Guard(
        "a lost share loses the whole claim",
        _LEDGER,
        "if granted.rowcount != 1:",
        "if False:",
        f"{_LEDGER_TEST}::test_a_group_is_claimed_as_a_whole_or_not_at_all",
    ),
    Guard(
        "a try has one live reservation",
        "airflow_fate/state/tables.py",
        'Index("fate_reservation_live_try", "live_ti_id", unique=True)',
        'Index("fate_reservation_live_try", "live_ti_id")',
        f"{_LEDGER_TEST}::test_a_try_holds_one_live_reservation",
    ),
    Guard(
        "room is given back once",
        _LEDGER,
        "if ended.rowcount != 1:",
        "if False:",
        f"{_LEDGER_TEST}::test_a_release_gives_room_back_once",
    ),
    Guard(
        "only what lives is ended",
        _LEDGER,
        ".where(reservation.c.id == reservation_id, reservation.c.ended_at.is_(None))",
        ".where(reservation.c.id == reservation_id)",
        f"{_LEDGER_TEST}::test_a_release_gives_room_back_once",
    ),
    Guard(
        "fences are newer than before a restore",
        _LEDGER,
        "return case((device.c.fence >= now_ms, device.c.fence + 1), else_=now_ms)",
        "return device.c.fence + 1",
        f"{_LEDGER_TEST}::test_after_a_restore_of_the_database_fences_are_newer_than_any_that_gateways_have_seen",
    ),
    Guard(
        "numbers that JSON can't hold reach no table",
        _LEDGER,
        "    _check_json(row)\n",
        "",
        f"{_LEDGER_TEST}::test_no_number_that_json_cannot_hold_reaches_a_table",
    ),
    Guard(
        "pruning leaves what ended lately",
        _LEDGER,
        " & (reservation.c.ended_at < self._clock() - older_than_s)",
        "",
        f"{_LEDGER_TEST}::test_pruning_forgets_only_what_ended_long_ago",
    ),
    Guard(
        "a stale fence is refused",
        _FENCES,
        "claims.fence < self.newest and claims.fence not in self.live",
        "False",
        "tests/unit/gateway/test_fences.py::test_no_reservation_is_served_after_a_newer_token_told_that_it_ended",
    ),
    Guard(
        "a live reservation of an older fence is served",
        _FENCES,
        " and claims.fence not in self.live",
        "",
        "tests/unit/gateway/test_fences.py",
    ),
    Guard(
        "an explicit end is final",
        _FENCES,
        "if claims.jti in self._ended:",
        "if False:",
        "tests/unit/gateway/test_fences.py::test_an_explicit_end_is_final",
    ),
    Guard(
        "an older token teaches nothing",
        _FENCES,
        "if claims.fence > self.newest:",
        "if True:",
        "tests/unit/gateway/test_fences.py::test_an_older_token_teaches_nothing",
    ),
    Guard(
        "only the executor ends reservations",
        _AUTH,
        "if role is Role.EXECUTOR and claims.sub != EXECUTOR_SUBJECT:",
        "if False:",
        f"{_AUTH_TEST}::test_only_the_executor_ends_reservations",
    ),
    Guard(
        "a stored output is read with its own token",
        _AUTH,
        "if reads_one is not (role is Role.ARTIFACT) and (reads_one or claims.aud == self._device):",
        "if False:",
        "tests/unit/gateway/test_artifacts.py::test_nobody_else_reads_it_and_its_token_opens_nothing_else",
    ),
    Guard(
        "no start with a short key",
        _AUTH,
        "if len(secret.encode()) < MIN_SECRET_BYTES:",
        "if False:",
        f"{_AUTH_TEST}::test_no_start_without_a_key",
    ),
    Guard(
        "a reservation is served as many requests as it has sequences",
        _QUEUE,
        " or requests.admitted >= sequences:",
        ":",
        "tests/unit/gateway/test_sharing.py::test_as_many_are_served_at_once_as_the_token_says",
    ),
    Guard(
        "the queue is bounded",
        _QUEUE,
        "if self.queued >= self._limits.queued:",
        "if False:",
        "tests/unit/gateway/test_sharing.py::test_the_whole_queue_is_bounded",
    ),
    Guard(
        "what one task queues is bounded",
        _QUEUE,
        "if len(requests.waiting) >= self._limits.queued_of_one:",
        "if False:",
        "tests/unit/gateway/test_sharing.py::test_too_many_of_one_are_refused_and_others_are_not",
    ),
    Guard(
        "facts are of the reservation and its devices",
        _HANDOVER,
        "if fact.reservation == reservation.id and fact.device in devices",
        "if True",
        "tests/unit/executor/heartbeat/test_handover.py::test_facts_of_a_device_that_the_reservation_never_had_are_not_used",
    ),
    Guard(
        "a task whose budget fails it takes no device",
        _PLANNER,
        "elif over is not None and over.action is Action.FAIL:",
        "elif False:",
        f"{_BUDGETS_TEST}::test_fail_lets_the_task_fail_with_the_reason_and_without_a_device",
    ),
    Guard(
        "a task whose budget holds it takes no device",
        _PLANNER,
        "elif over is not None and over.action is Action.HOLD:",
        "elif False:",
        f"{_BUDGETS_TEST}::test_hold_keeps_the_task_in_the_frontier_and_says_why",
    ),
    Guard(
        "nobody spends of a budget of which nothing is known",
        "airflow_fate/executor/accounts/accounts.py",
        "and (payer not in by_run or (payer.dag_id, payer.run_id) in spent.runs)",
        "",
        "tests/unit/executor/accounts/test_accounts.py::test_a_new_run_waits_until_its_past_is_known",
    ),
    Guard(
        "a load is its causer's alone",
        "airflow_fate/costs/sharing.py",
        "if self.loading:",
        "if False:",
        "tests/unit/costs/test_sharing.py::test_a_load_is_its_causers_alone_also_while_others_hold_the_device",
    ),
)
