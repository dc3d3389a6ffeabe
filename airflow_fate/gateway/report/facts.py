"""What happened to the requests of a reservation? Sums of what was measured here, for the last few thousand of them."""

from __future__ import annotations

from collections import OrderedDict

from airflow_fate.gateway.engines.base import Usage
from airflow_fate.gateway.report.company import Beside
from airflow_fate.messages import Facts

REMEMBERED_RESERVATIONS = 4096


class FactsBook:
    """Facts by reservation."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._facts: OrderedDict[str, Facts] = OrderedDict()

    def of(self, reservation: str) -> Facts:
        """What is known; zeros when nothing is."""
        return self._facts.get(reservation) or Facts(reservation=reservation, device=self._device, model="")

    def add(
        self,
        reservation: str,
        model: str,
        usage: Usage,
        beside: Beside,
        *,
        wait_s: float,
        load_s: float,
        load_end_at: float,
        engine_s: float,
        first_byte_s: float,
    ) -> None:
        """Add one answered request.

        Tokens and work add up. Wait and first byte are those of the request that was served first: what later requests
        of a batch wait is their siblings' work.

        :param engine_s: from the question to the end of the answer; it counts where the engine tells no phases.
        """
        old = self.of(reservation)
        self._keep(
            old,
            model=model,
            requests=old.requests + 1,
            prompt_tokens=old.prompt_tokens + usage.prompt_tokens,
            cached_tokens=old.cached_tokens + (usage.cached_tokens or 0),
            completion_tokens=old.completion_tokens + usage.completion_tokens,
            load_s=old.load_s + load_s,
            load_end_at=max(old.load_end_at, load_end_at),
            wait_s=min(old.wait_s, wait_s) if old.requests else wait_s,
            prefill_s=old.prefill_s + (usage.prefill_s or 0.0),
            decode_s=old.decode_s + (usage.decode_s or 0.0),
            tokens_beside=old.tokens_beside + usage.completion_tokens * beside.sequences,
            context_tokens=old.context_tokens + usage.completion_tokens * beside.context_tokens,
            prompt_tokens_with=old.prompt_tokens_with + beside.with_prompt,
            prompt_tokens_beside=old.prompt_tokens_beside + beside.prompt_tokens,
            engine_s=old.engine_s + (engine_s if usage.prefill_s is None else 0.0),
            first_byte_s=min(old.first_byte_s, first_byte_s) if old.requests else first_byte_s,
        )

    def fault(self, reservation: str, kind: str) -> None:
        """A request of it was refused, and it was this device's fault."""
        self._keep(self.of(reservation), fault=kind)

    def _keep(self, old: Facts, **changes: object) -> None:
        self._facts[old.reservation] = old.model_copy(update=changes)
        self._facts.move_to_end(old.reservation)
        if len(self._facts) > REMEMBERED_RESERVATIONS:
            self._facts.popitem(last=False)
