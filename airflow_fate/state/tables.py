"""What do we remember? FATE's own tables, all with the prefix ``fate_``, beside Airflow's in its database."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
)

metadata = MetaData()

device = Table(
    "fate_device",
    metadata,
    Column("id", String(253), primary_key=True),
    Column("capacity", Integer, nullable=False),
    Column("used", Integer, nullable=False, server_default="0"),
    Column("fence", BigInteger, nullable=False),
)
"""Sequences that a device can take and that live reservations hold; ``fence`` grows with its claims.

It begins at the time of registration, so that a gateway which outlives a database finds the next one's fences newer."""

reservation = Table(
    "fate_reservation",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("ti_id", String(36), nullable=False),
    Column("dag_id", String(250), nullable=False),
    Column("run_id", String(250), nullable=False),
    Column("task_id", String(250), nullable=False),
    Column("map_index", Integer, nullable=False),
    Column("try_number", Integer, nullable=False),
    Column("stage", String(300), nullable=False),
    Column("model", String(250), nullable=False),
    Column("policy", String(40), nullable=False),
    Column("claimed_at", Float, nullable=False),
    Column("prefill_end_at", Float, nullable=False),
    Column("finish_at", Float, nullable=False),
    Column("ended_at", Float),
    Column("outcome", String(40)),
    Column("reason", Text, nullable=False, server_default=""),
    Column("chain", JSON, nullable=False),
    Column("conversation", String(64), nullable=False, server_default=""),
    Column("evict", JSON, nullable=False),
    Column("cost", JSON, nullable=False),
    Column("facts", JSON),
    Index("fate_reservation_run", "dag_id", "run_id"),
    # One try holds at most one live reservation, whoever plans.
    Index(
        "fate_reservation_live",
        "ti_id",
        unique=True,
        postgresql_where=text("ended_at IS NULL"),
        sqlite_where=text("ended_at IS NULL"),
    ),
)
"""A try's hold on devices: live while ``ended_at`` is null, kept afterwards as the record of what was placed where and
why.
"""

reservation_device = Table(
    "fate_reservation_device",
    metadata,
    Column("reservation_id", String(36), ForeignKey("fate_reservation.id", ondelete="CASCADE"), primary_key=True),
    Column("device_id", String(253), primary_key=True),
    Column("place", String(253), nullable=False),
    Column("node", String(253), nullable=False),
    Column("sequences", Integer, nullable=False),
    Column("prompts", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Index("fate_reservation_device_device", "device_id"),
)

history = Table(
    "fate_history",
    metadata,
    Column("dag_id", String(250), primary_key=True),
    Column("task_id", String(250), primary_key=True),
    Column("runs", Integer, nullable=False),
    Column("prompt_tokens", Float, nullable=False),
    Column("output_tokens", Float, nullable=False),
    Column("duration_s", Float, nullable=False),
)
"""Running means per task, from which the next estimate is made."""
