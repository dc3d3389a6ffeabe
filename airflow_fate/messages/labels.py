"""How does a device report travel on a pod? As one versioned JSON annotation, and as labels of what seldom changes.

The labels are for people and selectors (``kubectl get pods -l fate.airflow/model.llama=ready``); programs read the
annotation. Network plugins such as Cilium make an identity of each set of labels: what changes with every request is
none, unless it is asked for.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping

from pydantic import ValidationError
from pydantic_core import to_json

from airflow_fate.messages.report import DEFAULT_LABEL_PREFIX, REPORT_VERSION, DeviceReport

LABEL_LIMIT = 63
# Kubernetes allows 256 KiB for all annotations of an object together; others need room too.
ANNOTATION_LIMIT_BYTES = 240 * 1024
HOT_PREFIXES = 16
REPORT = "report"
HEARTBEAT = "heartbeat"
"""Annotation that changes with each sign of life."""

_ALLOWED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_KEY_DIGITS = re.compile(r"[0-9a-f]{16}")
_log = logging.getLogger(__name__)


def encode(
    report: DeviceReport, prefix: str = DEFAULT_LABEL_PREFIX, *, prefix_labels: bool = False
) -> tuple[dict[str, str], dict[str, str]]:
    """Labels and annotations that say what the report says.

    :param prefix_labels: whether the hottest prefixes are labels too.
    """
    labels = {f"{prefix}/device": slug(report.device)}
    for name, model in report.models.items():
        labels[f"{prefix}/{_fact('model', name)}"] = model.state
    if prefix_labels:
        for key, *_ in report.prefixes[-HOT_PREFIXES:]:
            labels[f"{prefix}/prefix.{_short(key)}"] = "1"
    return labels, {f"{prefix}/{REPORT}": _fitting(report)}


def decode(
    labels: Mapping[str, str], annotations: Mapping[str, str], prefix: str = DEFAULT_LABEL_PREFIX
) -> DeviceReport | None:
    """The report that a pod carries, or None when it carries none that this code can read (with a warning)."""
    text = annotations.get(f"{prefix}/{REPORT}")
    if text is None:
        return None
    try:
        raw = json.loads(text)
        version = raw.get("version") if isinstance(raw, dict) else None
        if version != REPORT_VERSION:
            _log.warning("device report of version %r ignored: this release reads version %s", version, REPORT_VERSION)
            return None
        report = DeviceReport.model_validate(raw)
    except (ValueError, ValidationError) as error:
        _log.warning("device report ignored: %s", str(error).partition("\n")[0])
        return None
    if labels.get(f"{prefix}/device") != slug(report.device):
        _log.warning("device report of %r ignored: its device label says otherwise", report.device)
        return None
    return report


def slug(name: str, limit: int = LABEL_LIMIT) -> str:
    """A name as Kubernetes allows it in labels; names that had to change end in a hash, so that they stay distinct."""
    if len(name) <= limit and _ALLOWED.fullmatch(name):
        return name
    mark = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
    readable = re.sub(r"[^A-Za-z0-9_.]+", "-", name)[: limit - len(mark) - 1].strip("-_.")
    return f"{readable}-{mark}" if readable else mark


def _fact(kind: str, name: str) -> str:
    return f"{kind}.{slug(name, LABEL_LIMIT - len(kind) - 1)}"


def _short(key: str) -> str:
    digits = _KEY_DIGITS.match(key)
    return digits.group() if digits else hashlib.blake2b(key.encode(), digest_size=8).hexdigest()


def _fitting(report: DeviceReport) -> str:
    """The report as JSON, without its coldest prefixes where it would be too long."""
    text = report.model_dump_json()
    if len(text.encode()) <= ANNOTATION_LIMIT_BYTES:
        return text
    bare = report.model_copy(update={"prefixes": ()}).model_dump_json()
    room_bytes = ANNOTATION_LIMIT_BYTES - len(bare.encode())
    if room_bytes < 0:
        raise ValueError(f"device report of {report.device!r} doesn't fit into {ANNOTATION_LIMIT_BYTES} bytes")
    kept = 0
    for prefix in reversed(report.prefixes):
        room_bytes -= len(to_json(prefix)) + len(",")
        if room_bytes < 0:
            break
        kept += 1
    return report.model_copy(update={"prefixes": report.prefixes[len(report.prefixes) - kept :]}).model_dump_json()
