"""What is true of arrays that compiled code gets as one?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from airflow_fate.physics.jit.bundle import Bundle
from airflow_fate.physics.jit.compiled import compiled


@dataclass(frozen=True)
class Pair(Bundle):
    rows: Any
    table: NDArray[np.float64]


ROW = np.dtype([("number", "i8"), ("share", "f8")])


def pair(rows: int = 3, columns: int = 2) -> Pair:
    table = np.arange(float(2 * rows * columns)).reshape(2, rows, columns)
    return Pair(np.zeros(rows, ROW).view(np.recarray), table)


@compiled
def scale(bundle: Pair, factor: float) -> float:
    total = 0.0
    for k in range(bundle.rows.shape[0]):
        bundle.rows[k].number += 1
        bundle.rows[k].share = factor * bundle.table[1, k, bundle.table.shape[2] - 1]
        total += bundle.rows[k].share
    return total


def test_compiled_code_reads_and_writes_its_arrays_whatever_their_lengths() -> None:
    for bundle in (pair(3, 2), pair(5, 4), pair(0, 1)):
        expected = 2.0 * bundle.table[1, :, -1]
        assert scale(bundle, 2.0) == pytest.approx(expected.sum())
        assert bundle.rows["share"].tolist() == expected.tolist()
        assert (bundle.rows["number"] == 1).all()


def test_a_bundle_with_another_array_has_only_that_one_changed() -> None:
    bundle = pair()
    other = replace(bundle, table=bundle.table * 10.0)
    assert scale(other, 1.0) == 10.0 * scale(bundle, 1.0)
    assert other.rows is bundle.rows


@pytest.mark.parametrize(
    "table",
    [
        np.zeros((2, 3)),
        np.zeros((2, 3, 2), dtype=np.float32),
        np.zeros((2, 2, 3)).transpose(0, 2, 1),
        [[1.0]],
    ],
)
def test_what_compiled_code_would_misread_is_refused_by_name(table: Any) -> None:
    with pytest.raises(TypeError, match=r"Pair\.table"):
        replace(pair(), table=table)
