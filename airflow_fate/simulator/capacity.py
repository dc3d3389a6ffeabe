"""How long is a fleet busy with given work, however it is shared out? The optimum of a linear program.

Every stage may be split at will over the places that can hold its model. A place has one prefill slot; its sequences
together decode no faster than with the best number of them at once. Places that are alike are taken together, and a
group occupies all of its devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_array, hstack, vstack

from airflow_fate.physics import terms
from airflow_fate.physics.world.arrays import World

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Work:
    """Work of one model that no policy can avoid.

    :param prefill_tokens: that a prefill slot computes.
    :param decode_tokens: of output, of all prompts together.
    :param prompts: that may decode at once.
    :param head_s: it can't begin before.
    :param tail_s: what must follow it takes at least as long.
    """

    model: int
    prefill_tokens: float
    decode_tokens: float
    prompts: int
    head_s: float
    tail_s: float


class Capacity:
    """The fleet of a world, as places and devices of a kind."""

    def __init__(self, world: World) -> None:
        members = [
            tuple(world.member_indices[world.member_indptr[p] : world.member_indptr[p + 1]].tolist())
            for p in range(len(world.places))
        ]
        looks = [
            (
                *(table[:, p].tobytes() for table in (world.prefill_tps, world.decode_tps, world.decode_slowdown)),
                int(world.places[p].max_seqs),
            )
            for p in range(len(world.places))
        ]
        # The first places are the devices themselves.
        device_kinds, of_device = _kinds(looks[: len(world.devices)])
        self._devices: Floats = np.bincount(of_device, minlength=device_kinds).astype(np.float64)
        needs = [tuple(np.bincount(of_device[list(m)], minlength=device_kinds).tolist()) for m in members]
        _, of_place = _kinds(list(zip(looks, needs, strict=True)))
        first = np.unique(of_place, return_index=True)[1]
        self._devices_of_place: Floats = np.array([needs[p] for p in first], dtype=np.float64)
        self._prefill_tps: Floats = world.prefill_tps[:, first]
        self._decode_tps: Floats = world.decode_tps[:, first]
        self._max_seqs = [int(world.places[p].max_seqs) for p in first]
        self._slowdown: Floats = world.decode_slowdown[:, first]

    def least_s(self, work: Sequence[Work]) -> float:
        """Seconds in which the fleet can do the work, at best."""
        return self._solve(*self._times(work))

    def no_less_than_least_s(self, work: Sequence[Work]) -> float:
        """The same if each model's work must be shared out as a whole: at least as long, and found sooner."""
        item, kind, prefill_s, decode_s = self._times(work)
        kinds = len(self._devices_of_place)
        pair = np.array([piece.model for piece in work])[item] * kinds + kind
        pairs, at = np.unique(pair, return_inverse=True)
        _, model = np.unique(pairs // kinds, return_inverse=True)
        return self._solve(model, pairs % kinds, _summed(prefill_s, at), _summed(decode_s, at))

    def _solve(self, item: Ints, kind: Ints, prefill_s: Floats, decode_s: Floats) -> float:
        """Share each item out over its kinds of places so that all ends soonest."""
        shares, items = len(item), int(item.max()) + 1
        columns = np.arange(shares)
        limits: list[Any] = []
        # Each kind of device is busy no longer than the time that is looked for, the last variable.
        for seconds in (prefill_s, decode_s):
            busy = coo_array((self._devices_of_place[kind] * seconds[:, None]).T)
            limits.append(hstack([busy, coo_array(-self._devices[:, None])]))
        whole: Any = coo_array((np.ones(shares), (item, columns)), shape=(items, shares + 1))
        price = np.zeros(shares + 1)
        price[-1] = 1.0
        solved = linprog(
            price,
            A_ub=vstack(limits),
            b_ub=np.zeros(2 * len(self._devices)),
            A_eq=whole,
            b_eq=np.ones(items),
            method="highs",
        )
        if not solved.success or solved.fun is None:
            raise RuntimeError(f"the bound's linear program was not solved: {solved.message}")
        return float(solved.fun)

    def _times(self, work: Sequence[Work]) -> tuple[Ints, Ints, Floats, Floats]:
        """Each piece of work on each kind of place that can do it: seconds of prefill and of decoding."""
        models = np.array([piece.model for piece in work])
        item, kind = np.nonzero(self._prefill_tps[models] > 0)
        model = models[item]
        prefill_s = np.array([piece.prefill_tokens for piece in work])[item] / self._prefill_tps[model, kind]
        speed = np.array(
            [
                [self._together(piece.prompts, *limits) for limits in zip(self._max_seqs, slowdowns, strict=True)]
                for piece, slowdowns in zip(work, self._slowdown[models].tolist(), strict=True)
            ]
        )
        decode_s = (
            np.array([piece.decode_tokens for piece in work])[item] / self._decode_tps[model, kind] / speed[item, kind]
        )
        return item, kind, prefill_s, decode_s

    @staticmethod
    def _together(prompts: int, max_seqs: int, slowdown: float) -> float:
        """How much faster than a lone sequence all that decode beside these prompts are together, at best.

        A batch with more prompts than there are sequence slots decodes alone.
        """
        most = max(prompts, max_seqs)
        # It grows with their number as long as the slowdown is below 1, and falls beyond.
        return max(1.0, most / terms.step(slowdown, most, 0.0, 0.0))


def _kinds(looks: Sequence[object]) -> tuple[int, Ints]:
    known = {look: number for number, look in enumerate(dict.fromkeys(looks))}
    return len(known), np.array([known[look] for look in looks])


def _summed(values: Floats, at: Ints) -> Floats:
    sums: Floats = np.zeros(int(at.max()) + 1)
    np.add.at(sums, at, values)
    return sums
