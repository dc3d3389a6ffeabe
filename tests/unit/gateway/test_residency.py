from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from airflow_fate.gateway.serving.residency import ModelState, Residency, Resident, Serve, Swap, Wait

WEIGHTS_BYTES = {"a": 4.0, "b": 3.0, "c": 2.0, "d": 6.0, "e": 10.0}
MEMORY_BYTES = 10.0
MODELS = st.sampled_from(sorted(WEIGHTS_BYTES))


def _with(*models: str) -> Residency:
    residency = Residency(MEMORY_BYTES, WEIGHTS_BYTES)
    for number, model in enumerate(models):
        residency.begin(model, (), number)
        residency.loaded(model, number)
    return residency


def test_what_is_ready_serves() -> None:
    assert _with("a").decide("a") == Serve()


def test_the_least_recently_used_go_first_and_only_as_many_as_needed() -> None:
    assert _with("a", "b", "c").decide("d") == Swap(("a", "b"))
    residency = _with("a", "b", "c")
    residency.release(residency.acquire("a", 9.0), 9.0)
    assert residency.decide("d") == Swap(("b", "c"))


def test_the_tokens_list_goes_before_the_least_recently_used() -> None:
    assert _with("a", "b", "c").decide("d", ["c", "b"]) == Swap(("c", "b"))


def test_what_is_listed_stays_when_there_is_room() -> None:
    assert _with("a", "b").decide("c", ["a"]) == Swap(())


def test_what_serves_is_drained_first() -> None:
    residency = _with("a")
    sequence_slot = residency.acquire("a", 1.0)
    assert residency.decide("e") == Wait()
    assert not residency.begin_unload("a")
    residency.release(sequence_slot, 2.0)
    assert residency.decide("e") == Swap(("a",))


def test_a_request_that_outlives_its_model_does_not_release_the_next_stay() -> None:
    residency = _with("a")
    first = residency.acquire("a", 1.0)
    residency.gone("a")
    residency.begin("a", (), 2.0)
    residency.loaded("a", 2.0)
    residency.acquire("a", 3.0)
    residency.release(first, 4.0)
    assert residency.residents["a"].serving == 1


class Device(RuleBasedStateMachine):
    """Any order of requests, unloads, loads, ends and deaths; ``loading`` starts when its victims are really gone."""

    def __init__(self) -> None:
        super().__init__()
        self.residency = Residency(MEMORY_BYTES, WEIGHTS_BYTES)
        self.swaps: list[tuple[str, list[str]]] = []
        self.slots: list[Resident] = []
        self.now_s = 0.0

    @rule(model=MODELS, evict=st.lists(MODELS, unique=True))
    def ask(self, model: str, evict: list[str]) -> None:
        self.now_s += 1
        match self.residency.decide(model, evict):
            case Serve():
                self.slots.append(self.residency.acquire(model, self.now_s))
            case Swap(victims):
                assert all(not self.residency.residents[victim].serving for victim in victims)
                self.residency.begin(model, victims, self.now_s)
                self.swaps.append((model, list(victims)))

    @precondition(lambda self: self.swaps)
    @rule(which=st.integers(0, 9), fails=st.booleans())
    def swap_goes_on(self, which: int, fails: bool) -> None:
        swap = self.swaps[which % len(self.swaps)]
        model, victims = swap
        if victims:
            self.residency.gone(victims.pop())
            return
        self.swaps.remove(swap)
        if fails:
            self.residency.gone(model)
        else:
            self.residency.loaded(model, self.now_s)

    @precondition(lambda self: self.slots)
    @rule(which=st.integers(0, 9))
    def request_ends(self, which: int) -> None:
        self.residency.release(self.slots.pop(which % len(self.slots)), self.now_s)

    @rule(model=MODELS)
    def engine_dies(self, model: str) -> None:
        resident = self.residency.residents.get(model)
        if resident and resident.state is ModelState.READY:
            self.residency.gone(model)

    @invariant()
    def memory_is_enough(self) -> None:
        """What is really there: everything but models whose victims have not all gone."""
        waiting = {model for model, victims in self.swaps if victims}
        held = [model for model in self.residency.residents if model not in waiting]
        assert sum(WEIGHTS_BYTES[model] for model in held) <= MEMORY_BYTES

    @invariant()
    def what_serves_stays(self) -> None:
        assert all(r.state is ModelState.READY for r in self.residency.residents.values() if r.serving)


TestDevice = Device.TestCase
TestDevice.settings = settings(max_examples=60, deadline=None)
