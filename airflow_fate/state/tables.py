"""What do we remember? FATE's own tables, all with the prefix ``fate_``, beside Airflow's in its database."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
)

from airflow_fate.state.types import name

metadata = MetaData()

device = Table(
    "fate_device",
    metadata,
    Column("id", name(253), primary_key=True),
    Column("capacity", Integer, nullable=False),
    Column("used", Integer, nullable=False, server_default="0"),
    Column("fence", BigInteger, nullable=False),
)
"""Sequences that a device can take and that live reservations hold; ``fence`` grows with its claims.

It begins at the time of registration, so that a gateway which outlives a database finds the next one's fences newer."""

reservation = Table(
    "fate_reservation",
    metadata,
    Column("id", name(36), primary_key=True),
    Column("ti_id", name(36), nullable=False),
    Column("dag_id", name(250), nullable=False),
    Column("run_id", name(250), nullable=False),
    Column("task_id", name(250), nullable=False),
    Column("map_index", Integer, nullable=False),
    Column("try_number", Integer, nullable=False),
    Column("stage", name(300), nullable=False),
    Column("model", name(250), nullable=False),
    Column("policy", name(40), nullable=False),
    Column("claimed_at", Double, nullable=False),
    Column("prefill_end_at", Double, nullable=False),
    Column("finish_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("outcome", name(40)),
    Column("reason", Text, nullable=False),
    Column("chain", JSON, nullable=False),
    Column("conversation", name(64), nullable=False, server_default=""),
    Column("evict", JSON, nullable=False),
    Column("cost", JSON, nullable=False),
    # Null in rows of releases that kept no record of it.
    Column("future_s", Double),
    Column("facts", JSON),
    Column("tenant", name(250), nullable=False, server_default=""),
    Index("fate_reservation_run", "dag_id", "run_id"),
    # Null for the few that live among the many that have ended. What held a device in a range of time ended after its
    # start and was claimed before its end: both stand in the index.
    Index("fate_reservation_span", "ended_at", "claimed_at"),
    # One try holds at most one live reservation, whoever plans: ``ti_id`` while it lives, and null equals nothing.
    Column("live_ti_id", name(36)),
    Index("fate_reservation_live_try", "live_ti_id", unique=True),
)
"""A try's hold on devices: live while ``ended_at`` is null, kept afterwards as the record of what was placed where and
why.
"""

reservation_device = Table(
    "fate_reservation_device",
    metadata,
    Column("reservation_id", name(36), ForeignKey("fate_reservation.id", ondelete="CASCADE"), primary_key=True),
    Column("device_id", name(253), primary_key=True),
    Column("place", name(253), nullable=False),
    Column("node", name(253), nullable=False),
    Column("sequences", Integer, nullable=False),
    Column("prompts", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("gpu", name(253), nullable=False, server_default=""),
    # When the device loaded the model for this reservation; null where it did not, or nobody told.
    Column("load_start_at", Double),
    Column("load_end_at", Double),
)
"""Which devices a reservation holds, with each device's product at that time, by which it is priced."""

presence = Table(
    "fate_presence",
    metadata,
    Column("device_id", name(253), primary_key=True),
    Column("from_at", Double, primary_key=True),
    Column("until_at", Double, nullable=False),
    Index("fate_presence_until", "until_at"),
)
"""When each device was there, whether anybody used it or not. Rows of one device may overlap."""

history = Table(
    "fate_history",
    metadata,
    Column("dag_id", name(250), primary_key=True),
    Column("task_id", name(250), primary_key=True),
    Column("runs", Integer, nullable=False),
    Column("prompt_tokens", Double, nullable=False),
    Column("output_tokens", Double, nullable=False),
    Column("duration_s", Double, nullable=False),
)
"""Running means per task, from which the next estimate is made."""

law = Table(
    "fate_law",
    metadata,
    Column("gpu", name(253), primary_key=True),
    Column("model", name(250), primary_key=True),
    Column("document", JSON, nullable=False),
)
"""How fast a model proved to be on a GPU, as the executor writes it."""

slowness = Table(
    "fate_slowness",
    metadata,
    Column("device_id", name(253), primary_key=True),
    Column("factor", Double, nullable=False),
)
"""How many times longer a device takes than others of its GPU."""
