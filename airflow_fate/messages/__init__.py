"""The small messages by which operators, executor and gateways know each other, and nothing else of each other."""

from airflow_fate.messages.binding import (
    BINDING_KEY,
    FLEET_AUDIENCE,
    STATS_KEY,
    UNFENCED,
    Binding,
    Claims,
    Share,
    TokenError,
    reader_token,
    sign,
    verify,
)
from airflow_fate.messages.report import DEFAULT_LABEL_PREFIX, DeviceReport, Facts, ModelReport
from airflow_fate.messages.spec import (
    DEFAULT_CONN_ID,
    SPEC_KEY,
    SegmentSpec,
    SpecError,
    StageSpec,
    digest,
    explain,
    read_spec,
)

__all__ = [
    "BINDING_KEY",
    "DEFAULT_CONN_ID",
    "DEFAULT_LABEL_PREFIX",
    "FLEET_AUDIENCE",
    "SPEC_KEY",
    "STATS_KEY",
    "UNFENCED",
    "Binding",
    "Claims",
    "DeviceReport",
    "Facts",
    "ModelReport",
    "SegmentSpec",
    "Share",
    "SpecError",
    "StageSpec",
    "TokenError",
    "digest",
    "explain",
    "read_spec",
    "reader_token",
    "sign",
    "verify",
]
