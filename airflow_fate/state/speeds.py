"""How fast did engines prove to be? What schedulers have learned, kept as they write it, for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Table, insert, select, update

from airflow_fate.state.ledger import Connect
from airflow_fate.state.tables import law, slowness


@dataclass(frozen=True)
class KeptSpeeds:
    """What is kept.

    :param laws: (gpu, model) -> the law of the engine, as a document.
    :param slowness: device -> how many times longer it takes than its like.
    """

    laws: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    slowness: Mapping[str, float] = field(default_factory=dict)


class LearnedSpeeds:
    """Reads and writes them. Of two schedulers that learn at once the later one's is kept: both have learned."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    def read(self) -> KeptSpeeds:
        """All that is kept; a fleet has few models and kinds of devices."""
        with self._connect() as connection:
            laws = connection.execute(select(law)).all()
            factors = connection.execute(select(slowness)).all()
        return KeptSpeeds(
            {(row.gpu, row.model): row.document for row in laws}, {row.device_id: row.factor for row in factors}
        )

    def record_law(self, gpu: str, model: str, document: Mapping[str, Any]) -> None:
        """Keep what is known of a model on a GPU."""
        self._put(law, {"gpu": gpu, "model": model}, {"document": dict(document)})

    def record_slowness(self, device: str, factor: float) -> None:
        """Keep what is known of a device beside its like."""
        self._put(slowness, {"device_id": device}, {"factor": factor})

    def _put(self, table: Table, key: Mapping[str, str], values: Mapping[str, Any]) -> None:
        mine = [table.c[name] == value for name, value in key.items()]
        with self._connect() as connection:
            if connection.execute(update(table).where(*mine).values(**values)).rowcount == 0:
                connection.execute(insert(table).values(**key, **values))
