"""What did the facts teach? Speeds, token counts and overheads, corrected after every try that reports them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_fate.messages import Facts
from airflow_fate.physics.calibration import observe
from airflow_fate.physics.costs import CostModel, CostParts
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
    """Compare with what the model says for the very tokens that were computed.

    Where the engine doesn't tell prefill and decode apart, both are taken to be off by the same factor.
    """
    device, model = fleet.devices.get(fact.device), fleet.models.get(fact.model)
    if device is None or model is None or device.gpu not in model.prefill_tps or device.gpu not in model.decode_tps:
        return costs
    predicted = CostParts(
        load_s=costs.read_s(model, device.gpu, in_host_memory=True) if fact.load_s else 0.0,
        prefill_s=(fact.prompt_tokens - fact.cached_tokens) / costs.prefill_tps(model, device.gpu),
        decode_s=fact.completion_tokens / costs.decode_tps(model, device.gpu),
    )
    slowness = fact.engine_s / (predicted.prefill_s + predicted.decode_s or 1.0)
    realized = CostParts(
        load_s=fact.load_s,
        prefill_s=fact.prefill_s + slowness * predicted.prefill_s,
        decode_s=fact.decode_s + slowness * predicted.decode_s,
    )
    return observe(costs, device.gpu, fact.model, predicted, realized)
