from __future__ import annotations

import json
import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_fate.messages import DeviceReport, ModelReport
from airflow_fate.messages.labels import ANNOTATION_LIMIT_BYTES, decode, encode, slug

NAMES = st.text(min_size=1, max_size=120)
KEYS = st.text("0123456789abcdef", min_size=16, max_size=16)
TIMES = st.floats(0, 4e9)
COUNTS = st.integers(0, 10**9)
REPORTS = st.builds(
    DeviceReport,
    version=st.just(1),
    device=NAMES,
    gpu=NAMES,
    memory_bytes=st.floats(0, 1e12),
    kv_tokens=COUNTS,
    max_seqs=st.integers(1, 512),
    engine=NAMES,
    gateway_started=TIMES,
    models=st.dictionaries(
        NAMES,
        st.builds(ModelReport, state=st.sampled_from(["ready", "loading"]), since=TIMES, last_used=TIMES),
        max_size=5,
    ),
    engine_started=st.dictionaries(NAMES, TIMES, max_size=5),
    prefixes=st.lists(st.tuples(KEYS, COUNTS, TIMES, st.just("m")), max_size=30).map(tuple),
    artifact_count=COUNTS,
    artifact_bytes=COUNTS,
    host_models=st.lists(NAMES, max_size=3).map(tuple),
    draining=st.booleans(),
)
LABEL_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


def _report(**more: object) -> DeviceReport:
    fixed = {
        "device": "gpu-0",
        "gpu": "cpu",
        "memory_bytes": 1e9,
        "kv_tokens": 100,
        "max_seqs": 1,
        "engine": "e",
        "gateway_started": 1.0,
    }
    return DeviceReport.model_validate(fixed | more)


@given(REPORTS)
def test_a_report_comes_back_as_it_went(report: DeviceReport) -> None:
    labels, annotations = encode(report, "my.prefix")
    assert decode(labels, annotations, "my.prefix") == report
    assert decode(labels, annotations, "another.prefix") is None
    for key, value in labels.items():
        assert LABEL_NAME.fullmatch(key.removeprefix("my.prefix/")), key
        assert LABEL_NAME.fullmatch(value), value


MODELS = {"smol-a": {"state": "ready", "since": 1.0}, "org/model": {"state": "loading", "since": 1.0}}
LABELS = {
    "fate.airflow/device": "gpu-0",
    "fate.airflow/model.smol-a": "ready",
    f"fate.airflow/model.{slug('org/model')}": "loading",
}


def test_what_is_served_and_stored_leaves_the_labels_as_they_are() -> None:
    """Each set of labels is an identity of its own to a network plugin."""
    for number in range(20):
        prefixes = [[f"{number:016x}", 5, 1.0, "m"]]
        report = _report(models=MODELS, prefixes=prefixes, artifact_count=number, served_requests=number)
        assert encode(report)[0] == LABELS


def test_who_asks_for_it_gets_the_hottest_prefixes_as_labels() -> None:
    prefixes = [[f"{number:016x}", 5, 1.0, "m"] for number in range(20)]
    labels, _ = encode(_report(models=MODELS, prefixes=prefixes), prefix_labels=True)
    assert labels == LABELS | {f"fate.airflow/prefix.{number:016x}": "1" for number in range(4, 20)}


@given(NAMES, NAMES)
def test_different_names_have_different_slugs(name: str, other: str) -> None:
    assert (slug(name) == slug(other)) == (name == other)


def test_what_does_not_fit_loses_its_coldest_prefixes() -> None:
    prefixes = [(f"{number:016x}", 512, 1e9 + number, "m") for number in range(10_000)]
    labels, annotations = encode(_report(prefixes=prefixes))
    assert len(annotations["fate.airflow/report"].encode()) <= ANNOTATION_LIMIT_BYTES
    report = decode(labels, annotations)
    assert report is not None
    assert 3000 < len(report.prefixes) < 10_000
    assert report.prefixes == tuple(prefixes[-len(report.prefixes) :])


def test_stored_outputs_leave_the_prefixes_their_room() -> None:
    prefixes = tuple((f"{number:016x}", 512, 1e9 + number, "m") for number in range(4_000))
    full = encode(_report(prefixes=prefixes, artifact_count=10**6, artifact_bytes=10**15))
    report = decode(*full)
    assert report is not None
    assert report.prefixes == prefixes


def test_as_many_prefixes_are_kept_as_fit() -> None:
    prefixes = [(f"{number:016x}", 512, 1e9 + number, 'm"],["') for number in range(10_000)]
    labels, annotations = encode(_report(prefixes=prefixes))
    report = decode(labels, annotations)
    assert report is not None
    one_more = _report(prefixes=prefixes[-len(report.prefixes) - 1 :])
    assert len(one_more.model_dump_json()) > ANNOTATION_LIMIT_BYTES - 1


def test_a_report_with_a_list_of_artifacts_is_an_older_gateways() -> None:
    older = json.dumps(_report().model_dump() | {"artifacts": [["b" * 64, 9]]})
    report = decode({"fate.airflow/device": "gpu-0"}, {"fate.airflow/report": older})
    assert report == _report()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (json.dumps({"version": 2}), "version 2"),
        ("[]", "version None"),
        ("{", "ignored"),
        (json.dumps({"version": 1}), "ignored"),
        (_report(device="gpu-1").model_dump_json(), "device label"),
    ],
)
def test_what_can_not_be_read_is_ignored_with_a_warning(text: str, says: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert decode({"fate.airflow/device": "gpu-0"}, {"fate.airflow/report": text}) is None
    assert says in caplog.text


def test_a_foreign_pod_is_no_reason_to_warn(caplog: pytest.LogCaptureFixture) -> None:
    assert decode({"app": "web"}, {}) is None
    assert caplog.text == ""


@pytest.mark.parametrize(
    "fields",
    [
        {"memory_bytes": float("inf")},
        {"kv_tokens": -1},
        {"max_seqs": 10**12},
        {"gateway_started": float("nan")},
        {"models": {"m": {"state": "ready", "since": -1e300}}},
        {"prefixes": [["k", -5, 1.0, "m"]]},
        {"prefixes": [["k", 10**30, 1.0, "m"]]},
        {"host_models": ["x" * 1000]},
    ],
    ids=str,
)
def test_a_report_out_of_bounds_costs_its_own_device_alone(
    fields: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    base = {"version": 1, "device": "d", "gpu": "g", "memory_bytes": 1.0, "kv_tokens": 1, "max_seqs": 1}
    text = json.dumps(base | {"engine": "e", "gateway_started": 1.0} | fields)
    assert decode({"fate.airflow/device": "d"}, {"fate.airflow/report": text}) is None
    assert "device report ignored" in caplog.text
