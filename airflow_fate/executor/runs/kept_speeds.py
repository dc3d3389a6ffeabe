"""What is kept of learned speeds, and when? Laws as documents, read back as carefully as anybody else's."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from airflow_fate.physics.costs import CostModel
from airflow_fate.physics.law import Law

if TYPE_CHECKING:
    from airflow_fate.state.speeds import KeptSpeeds

EVERY = 5
"""A law is kept after so many more answers: the others are soon learned again."""
_MOVED = 1.1
"""A device's slowness is kept when it has moved by such a factor."""
_LAW: TypeAdapter[Law] = TypeAdapter(with_config(ConfigDict(allow_inf_nan=False))(Law))
log = logging.getLogger(__name__)


def costs_of(kept: KeptSpeeds) -> CostModel:
    """The cost model that was kept; what makes no sense is said and left out."""
    laws: dict[tuple[str, str], Law] = {}
    for (gpu, model), document in kept.laws.items():
        try:
            laws[gpu, model] = _sensible(_LAW.validate_python(document))
        except (ValidationError, ValueError) as error:
            log.warning("The learned speeds of %s on %s make no sense and begin anew: %s", model, gpu, error)
    factors = {device: factor for device, factor in kept.slowness.items() if 0.0 < factor < math.inf}
    return CostModel(laws=laws, slowness=factors)


def laws_to_keep(before: CostModel, after: CostModel) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    """(gpu and model, document) of the laws that have had enough answers since they were kept."""
    for key, law in after.laws.items():
        known = before.laws.get(key)
        if known is None or law.answers // EVERY > known.answers // EVERY:
            yield key, _LAW.dump_python(law, mode="json")


def slowness_to_keep(before: CostModel, after: CostModel) -> Iterator[tuple[str, float]]:
    """(device, factor) of those that have moved over a step since they were kept."""
    for device, factor in after.slowness.items():
        known = before.slowness.get(device, 1.0)
        if _step(known) != _step(factor):
            yield device, factor


def _step(factor: float) -> int:
    return round(math.log(factor) / math.log(_MOVED))


def _sensible(law: Law) -> Law:
    """:raises ValueError: where it can't be a law."""
    if (len(law.coefficients), len(law.deviations)) != (4, 4):
        raise ValueError(f"4 coefficients and their deviations are expected, got {law.coefficients}, {law.deviations}")
    if min(law.described.prefill_tps, law.described.decode_tps, *law.coefficients[:2]) <= 0.0:
        raise ValueError("speeds must be greater than 0")
    if min(*law.coefficients, *(measured.seconds for measured in law.latest)) < 0.0:
        raise ValueError("seconds must not be negative")
    return law
