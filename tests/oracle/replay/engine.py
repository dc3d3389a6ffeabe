"""What does a place do with the shards that are bound to it? Prefill one after another, then decode together."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from airflow_fate.cluster import Fleet, ModelSpec
from airflow_fate.workflow import StageRef, Workflow
from tests.oracle.replay.caches import conversation
from tests.oracle.replay.clock import SAME_TIME_S, Clock
from tests.oracle.replay.state import Place, Shard, Weights
from tests.oracle.replay.weights import Loader


class Engine:
    """All places at work.

    :param ended: called with each shard that has ended.
    """

    def __init__(
        self,
        fleet: Fleet,
        workflows: Mapping[str, Workflow],
        output_tokens: Mapping[StageRef, int],
        clock: Clock,
        ended: Callable[[Shard], None],
    ) -> None:
        self.fleet, self.workflows, self.output_tokens, self.clock = fleet, workflows, output_tokens, clock
        self.loader = Loader(fleet, clock, self._let_all_in)
        self._ended = ended

    def bind(self, shard: Shard) -> None:
        place = shard.place
        place.unfinished.append(shard)
        place.waiting.append(shard)
        self._try(shard)
        if shard.inputs_s > self.clock.now_s:
            self.clock.at(shard.inputs_s, self._try, shard)

    def settle(self, places: Mapping[str, Place]) -> None:
        """Start the loads that can start, and let in whom they kept waiting."""
        while self.loader.start():
            for place in places.values():
                self._let_all_in(place)

    def _let_all_in(self, place: Place) -> None:
        for shard in list(place.waiting):
            self._try(shard)

    def _try(self, shard: Shard) -> None:
        """Let the shard in, and into the prefill queue if it is able to start."""
        place, model = shard.place, shard.stage.model
        if not shard.let_in and self._may_come_in(shard):
            shard.let_in = True
            if model not in place.residents:
                self.loader.ask(place, model, "demand")
            place.residents[model].users += 1
        if (
            shard.let_in
            and shard in place.waiting
            and place.residents[model].state is Weights.LOADED
            and shard.inputs_s <= self.clock.now_s + SAME_TIME_S
        ):
            place.waiting.remove(shard)
            if place.prefill_queue:
                place.prefill_queue.append(shard)
                return
            if _shares_steps(place):
                self._progress(place)
            place.prefill_queue.append(shard)
            self._prefill(shard)
            if _shares_steps(place):
                self._expect(place)

    def _may_come_in(self, shard: Shard) -> bool:
        place = shard.place
        if any(other.let_in or other.order < shard.order for near in place.sharing for other in near.unfinished):
            return False
        resident = place.residents.get(shard.stage.model)
        is_coming = resident is not None and resident.state is not Weights.LOADED
        return is_coming or not self.loader.waits_for_room(place)

    def _prefill(self, shard: Shard) -> None:
        stage, place = shard.stage, shard.place
        shard.held = place.leader.cache.leading(shard.links)
        place.leader.cache.hold(shard.held)
        cached = max(0, min(sum(link.tokens for link in shard.held), stage.prompt_tokens - 1))
        common = max(cached, self._shared_tokens(shard))
        tokens = max(1, stage.prompt_tokens - cached)
        tokens += (shard.prompts - 1) * max(1, stage.prompt_tokens - common)
        shard.tokens, shard.tokens_left, shard.cached, shard.prefill_s = tokens, tokens, cached, self.clock.now_s
        if not _shares_steps(place):
            seconds = tokens / self._prefill_tps(shard)
            self._note("prefill", shard, tokens=tokens, cached=cached, seconds=seconds)
            self.clock.at(self.clock.now_s + seconds, self._prefilled, shard)

    def _shared_tokens(self, shard: Shard) -> int:
        """Leading tokens that all prompts of the batch have in common."""
        stage, workflow = shard.stage, self.workflows[shard.ref.workflow]
        tokens = sum(segment.tokens for segment in stage.prefix)
        if stage.continues is not None:
            tokens += conversation(workflow, stage.continues, shard.place.id, self.output_tokens).tokens
        return max(0, min(tokens, stage.prompt_tokens - 1))

    def _prefilled(self, shard: Shard) -> None:
        place, now_s = shard.place, self.clock.now_s
        self._progress(place)
        if _shares_steps(place):
            seconds = now_s - shard.prefill_s
            self._note("prefill", shard, shard.prefill_s, tokens=shard.tokens, cached=shard.cached, seconds=seconds)
        self._keep_segments(shard)
        place.prefill_queue.remove(shard)
        if place.prefill_queue:
            self._prefill(place.prefill_queue[0])
        place.standing.append(shard)
        self._decode_on(place)

    def _keep_segments(self, shard: Shard) -> None:
        cache = shard.place.leader.cache
        if shard.stage.continues is not None and not shard.held:
            return
        for link in shard.links[len(shard.held) :]:
            if not cache.keep(link):
                break
            cache.hold([link])
            shard.held.append(link)
        for link in reversed(shard.held):
            cache.keep(link)

    def _decode_on(self, place: Place) -> None:
        """Bring the progress up to now; who is done leaves, who waits takes a slot."""
        self._progress(place)
        for shard in list(place.decoding):
            if shard.tokens_left <= SAME_TIME_S * self._lone_tps(shard):
                self._decoded(shard)
        while place.standing:
            first = place.standing[0]
            if place.decoding and place.sequences + first.prompts > place.leader.spec.max_seqs:
                break
            place.standing.remove(first)
            place.decoding.append(first)
            first.decode_s, first.tokens_left = self.clock.now_s, self.output_tokens[first.ref]
        self._expect(place)

    def _progress(self, place: Place) -> None:
        """Bring all that is computed there up to now."""
        seconds = self.clock.now_s - place.progress_at_s
        for shard in place.decoding:
            shard.tokens_left -= seconds / self._token_s(shard)
        if _shares_steps(place) and place.prefill_queue:
            reading = place.prefill_queue[0]
            reading.tokens_left -= seconds * self._chunk_tokens(reading) / self._token_s(reading)
        place.progress_at_s = self.clock.now_s

    def _expect(self, place: Place) -> None:
        """Foresee what ends next."""
        place.version += 1
        if _shares_steps(place) and place.prefill_queue:
            reading = place.prefill_queue[0]
            left_s = max(0.0, reading.tokens_left) / self._chunk_tokens(reading) * self._token_s(reading)
            self.clock.at(self.clock.now_s + left_s, self._read, reading, place.version)
        if place.decoding:
            left_s = min(max(0.0, shard.tokens_left) * self._token_s(shard) for shard in place.decoding)
            self.clock.at(self.clock.now_s + left_s, self._expected, place, place.version)

    def _read(self, shard: Shard, version: int) -> None:
        if version == shard.place.version:
            self._prefilled(shard)

    def _token_s(self, shard: Shard) -> float:
        """Seconds of a step, as the shard's model has them: what is decoded, and the chunk of a prompt beside it."""
        place = shard.place
        seconds = self._slowed(place) / self._lone_tps(shard) if place.decoding else 0.0
        if _shares_steps(place) and place.prefill_queue:
            reading = place.prefill_queue[0]
            chunk_s = self._chunk_tokens(reading) / self._prefill_tps(reading)
            seconds += chunk_s * self._lone_tps(reading) / self._lone_tps(shard)
        return seconds

    def _chunk_tokens(self, shard: Shard) -> float:
        place = shard.place
        return max(1, min(place.leader.spec.batch_tokens - place.sequences, shard.tokens))

    def _expected(self, place: Place, version: int) -> None:
        if version == place.version:
            self._decode_on(place)

    def _decoded(self, shard: Shard) -> None:
        place, cache = shard.place, shard.place.leader.cache
        place.decoding.remove(shard)
        place.unfinished.remove(shard)
        self._note("decode", shard, t_s=shard.decode_s, seconds=self.clock.now_s - shard.decode_s)
        cache.release(shard.held)
        workflow = self.workflows[shard.ref.workflow]
        cache.keep(conversation(workflow, shard.ref.stage, place.id, self.output_tokens))
        place.residents[shard.stage.model].users -= 1
        for near in place.sharing:
            self._let_all_in(near)
        self._ended(shard)

    def _slowed(self, place: Place) -> float:
        """How many times slower each of those who decode there is than one alone without context."""
        gpu, models = place.leader.spec.gpu, [self._model(shard) for shard in place.decoding]
        further = max(model.decode_slowdown.get(gpu, self.fleet.decode_slowdown) for model in models)
        each_1000 = max(model.context_slowdown.get(gpu, 0.0) for model in models)
        context = sum(
            shard.prompts * (shard.stage.prompt_tokens + self.output_tokens[shard.ref] / 2) for shard in place.decoding
        )
        return 1 + further * (place.sequences - 1) + each_1000 * context / 1000

    def _model(self, shard: Shard) -> ModelSpec:
        return self.fleet.models[shard.stage.model]

    def _prefill_tps(self, shard: Shard) -> float:
        return self._model(shard).prefill_tps[shard.place.leader.spec.gpu]

    def _lone_tps(self, shard: Shard) -> float:
        return self._model(shard).decode_tps[shard.place.leader.spec.gpu]

    def _note(self, event: str, shard: Shard, t_s: float | None = None, **fields: float) -> None:
        workflow, stage = shard.ref
        self.clock.note(
            event,
            t_s,
            workflow=workflow,
            stage=stage,
            shard=shard.number,
            device=shard.place.id,
            model=shard.stage.model,
            **fields,
        )


def _shares_steps(place: Place) -> bool:
    """Whether prompts are computed in the steps of those who decode."""
    return place.leader.spec.batch_tokens > 0
