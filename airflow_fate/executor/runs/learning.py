"""What did the facts teach? Speeds, token counts and overheads, corrected after every try that reports them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_fate.messages import Facts
from airflow_fate.physics.calibration import observe, observe_load
from airflow_fate.physics.costs import CostModel, described
from airflow_fate.physics.law import Measured, described_law
from airflow_fate.state.history import TaskHistory

if TYPE_CHECKING:
    from airflow_fate.cluster import Fleet
    from airflow_fate.state.ledger import Reservation

RATE = 0.2
START_OVERHEAD_S = 1.0
MAX_OVERHEAD_S = 60.0


@dataclass(frozen=True)
class Learned:
    """Everything that experience corrects.

    :param overhead_s: seconds of a try in which its device is held and its engine does nothing for it: start-up of
        the task's process, and the time until its end is known.
    :param history: (dag id, task id) -> tokens and seconds of earlier tries.
    """

    costs: CostModel = field(default_factory=CostModel)
    overhead_s: float = START_OVERHEAD_S
    history: Mapping[tuple[str, str], TaskHistory] = field(default_factory=dict)

    def of(self, reservation: Reservation) -> TaskHistory:
        return self.history.get((reservation.dag_id, reservation.task_id), TaskHistory())

    def after(self, reservation: Reservation, facts: Iterable[Facts], fleet: Fleet, now: float) -> Learned:
        """What is known once a try has ended.

        :param facts: one for each device that served it.
        """
        known = [fact for fact in facts if fact.requests]
        if not known:
            return self
        costs = self.costs
        for fact in known:
            costs = _calibrated(costs, fact, fleet)
        requests = sum(fact.requests for fact in known)
        duration_s = now - reservation.claimed_at
        served_s = max(fact.wait_s + fact.load_s + fact.prefill_s + fact.decode_s + fact.engine_s for fact in known)
        spare_s = min(max(duration_s - served_s, 0.0), MAX_OVERHEAD_S)
        past = self.of(reservation).with_run(
            sum(fact.prompt_tokens for fact in known) / requests,
            sum(fact.completion_tokens for fact in known) / requests,
            duration_s,
        )
        return replace(
            self,
            costs=costs,
            overhead_s=self.overhead_s + RATE * (spare_s - self.overhead_s),
            history={**self.history, (reservation.dag_id, reservation.task_id): past},
        )


def _calibrated(costs: CostModel, fact: Facts, fleet: Fleet) -> CostModel:
    """Hold what was measured against what is known of the model on this GPU."""
    device, model = fleet.devices.get(fact.device), fleet.models.get(fact.model)
    if device is None or model is None or not model.has_speeds(device.gpu):
        return costs
    key = (device.gpu, model.name)
    if fact.load_s:
        read_s = costs.read_s(model, device.gpu, in_host_memory=True)
        costs = observe_load(costs, key, read_s, fact.load_s)
    law = described_law(described(model, device.gpu, fleet.decode_slowdown))
    alone = sum(other.gpu == device.gpu for other in fleet.devices.values()) == 1
    for measured in measured_of(fact):
        costs = observe(costs, key, law, device.id, measured, alone)
    return costs


def measured_of(fact: Facts) -> list[Measured]:
    """What the engine did in which time: in both phases apart, where it tells them apart."""
    computed = float(fact.prompt_tokens - fact.cached_tokens)
    decoded = Measured(
        fact.decode_s or fact.engine_s,
        fact.prompt_tokens_beside,
        fact.completion_tokens,
        fact.tokens_beside,
        fact.context_tokens,
    )
    if fact.engine_s:
        # Of a batch some answers may have told their phases: all of it is one time.
        return [
            replace(
                decoded,
                seconds=fact.engine_s + fact.prefill_s + fact.decode_s,
                prompt_tokens=decoded.prompt_tokens + computed,
            )
        ]
    return [Measured(fact.prefill_s, computed + fact.prompt_tokens_with), decoded]
