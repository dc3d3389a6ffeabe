"""How fast are prefill, decode and loading on a real GPU? The constants of the simulator's physics, measured.

    python benchmarks/gpu_speeds.py            # needs PyTorch and a GPU with 40 GB; prints JSON

A decoder with the shape of an 8B model (Llama 3.1: 32 layers of 4096, 32 heads over 8 pairs of keys and values) and
random weights in bfloat16. Speed depends on shapes, not on what the weights say. Decode steps are replayed as one CUDA
graph, as engines do; each figure is the median of its repetitions.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F

LAYERS, WIDTH, HEADS, PAIRS, HEAD, INNER, VOCABULARY = 32, 4096, 32, 8, 128, 14336, 128256
SEQUENCES = (1, 2, 4, 8, 16, 32)
CONTEXTS = (512, 1024, 2048, 4096)
PROMPTS = (128, 512, 2048, 8192)


def _weights() -> list[dict[str, torch.Tensor]]:
    def random_weights(rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, device="cuda", dtype=torch.bfloat16) * 0.02

    return [
        {
            "attend": random_weights((HEADS + 2 * PAIRS) * HEAD, WIDTH),
            "out": random_weights(WIDTH, HEADS * HEAD),
            "up": random_weights(2 * INNER, WIDTH),
            "down": random_weights(WIDTH, INNER),
        }
        for _ in range(LAYERS)
    ]


def _feed(layer: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    gate, up = F.linear(F.rms_norm(x, (WIDTH,)), layer["up"]).chunk(2, dim=-1)
    return x + F.linear(F.silu(gate) * up, layer["down"])


def _split(layer: dict[str, torch.Tensor], x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values: [tokens, heads or pairs, HEAD]."""
    projected = F.linear(F.rms_norm(x, (WIDTH,)), layer["attend"]).view(-1, HEADS + 2 * PAIRS, HEAD)
    return projected[:, :HEADS], projected[:, HEADS : HEADS + PAIRS], projected[:, HEADS + PAIRS :]


def _decode(
    layers: list[dict[str, torch.Tensor]], head: torch.Tensor, x: torch.Tensor, kept: list[tuple[torch.Tensor, ...]]
) -> torch.Tensor:
    """One token of each sequence. ``kept``: of each layer keys and values, [sequences, PAIRS, context, HEAD]."""
    count = x.shape[0]
    for layer, (keys, values) in zip(layers, kept, strict=True):
        query, key, value = _split(layer, x)
        keys[:, :, -1], values[:, :, -1] = key, value
        scores = query.reshape(count, PAIRS, HEADS // PAIRS, HEAD) @ keys.transpose(2, 3)
        seen = torch.softmax(scores * HEAD**-0.5, dim=-1) @ values
        x = _feed(layer, x + F.linear(seen.reshape(count, HEADS * HEAD), layer["out"]))
    return F.linear(x, head).argmax(dim=-1)


def _prefill(layers: list[dict[str, torch.Tensor]], head: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """All tokens of one prompt."""
    for layer in layers:
        query, key, value = (part.transpose(0, 1)[None] for part in _split(layer, x))
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        x = _feed(layer, x + F.linear(seen[0].transpose(0, 1).reshape(-1, HEADS * HEAD), layer["out"]))
    return F.linear(x[-1:], head).argmax(dim=-1)


def _median_s(work: Callable[[], object], times: int = 20) -> float:
    seconds = []
    for _ in range(times):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        end.synchronize()
        seconds.append(begin.elapsed_time(end) / 1000)
    return statistics.median(seconds)


def _graph(work: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """Warmed up on a stream of its own, as capturing asks for."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph


def _decode_steps(layers: list[dict[str, torch.Tensor]], head: torch.Tensor) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    for context in CONTEXTS:
        lone_s = 0.0
        for count in SEQUENCES:
            shape = (count, PAIRS, context, HEAD)
            kept = [tuple(torch.randn(shape, device="cuda", dtype=torch.bfloat16) for _ in range(2)) for _ in layers]
            x = torch.randn(count, WIDTH, device="cuda", dtype=torch.bfloat16)
            graph = _graph(lambda x=x, kept=kept: _decode(layers, head, x, kept))
            step_s = _median_s(graph.replay)
            lone_s = lone_s or step_s
            each = (step_s / lone_s - 1) / (count - 1) if count > 1 else 0.0
            rows.append({"context_tokens": context, "sequences": count, "step_s": step_s, "slowdown_per_further": each})
            del graph, kept
            torch.cuda.empty_cache()
    return rows


def _prefills(layers: list[dict[str, torch.Tensor]], head: torch.Tensor) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    for tokens in PROMPTS:
        x = torch.randn(tokens, WIDTH, device="cuda", dtype=torch.bfloat16)
        graph = _graph(lambda x=x: _prefill(layers, head, x))
        seconds = _median_s(graph.replay, times=10)
        rows.append({"prompt_tokens": tokens, "seconds": seconds, "tokens_per_s": tokens / seconds})
    return rows


def _load_gb_per_s() -> float:
    """From pinned host memory."""
    host = torch.empty(4 * 10**9, dtype=torch.uint8, pin_memory=True)
    here = torch.empty_like(host, device="cuda")
    return 4.0 / _median_s(lambda: here.copy_(host, non_blocking=True), times=5)


@torch.inference_mode()
def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("gpu_speeds: no GPU that PyTorch can use; the figures are of real ones")
    layers = _weights()
    head = torch.randn(VOCABULARY, WIDTH, device="cuda", dtype=torch.bfloat16) * 0.02
    weights_gb = sum(part.nbytes for layer in layers for part in layer.values()) / 1e9 + head.nbytes / 1e9
    speeds = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "weights_gb": weights_gb,
        "decode": _decode_steps(layers, head),
        "prefill": _prefills(layers, head),
        "load_gb_per_s": _load_gb_per_s(),
    }
    print(json.dumps(speeds, indent=1))


if __name__ == "__main__":
    main()
