"""Attention and Transformer layers beside PyTorch: milliseconds, shares of the FMA peak, ratios.

Both sides get the same weights and data, their results are compared first, and they run in turn; before each turn
there is a pause, in which the other side's threads stop spinning. Figures are medians.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import fastrnn as fr
from fastrnn import _core

try:
    import torch
except ImportError:
    raise SystemExit("this benchmark needs PyTorch: pip install torch") from None

PAUSE = 0.01  # seconds
Sides = tuple[Callable[[], Any], Callable[[], Any]]


def peak() -> float:
    """FMA peak of one core, float32, operations a second."""
    rates = []
    for _ in range(5):
        start = time.perf_counter()
        rates.append(_core.fma_peak(np.float32, 2_000_000) / (time.perf_counter() - start))
    return max(rates)


def medians(sides: Sides, repeat: int) -> list[float]:
    """Seconds of each side, in turn."""
    for side in sides:
        side()
    times: list[list[float]] = [[], []]
    for _ in range(repeat):
        for side, found in zip(sides, times, strict=True):
            time.sleep(PAUSE)
            start = time.perf_counter()
            side()
            found.append(time.perf_counter() - start)
    return [float(np.median(found)) for found in times]


def steps(layer: Any, peer: Any, arrays: list[Any], options: dict[str, Any], peer_call: Any) -> tuple[Sides, Sides]:
    """(inference, training) of a layer and a module on the same arrays; their results must agree."""
    peers = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = layer(*arrays, **options)
    with torch.no_grad():
        expected = peer_call(*peers).numpy()
    assert np.abs(y - expected).max() <= 1e-4 * np.abs(expected).max()
    dy = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
    peer_dy = torch.tensor(dy)

    def train() -> None:
        layer.vjp(*arrays, **options)[1](dy)

    def peer_train() -> None:
        for value in (*peer.parameters(), *peers):
            value.grad = None
        peer_call(*peers).backward(peer_dy)

    def peer_infer() -> None:
        with torch.no_grad():
            peer_call(*peers)

    return (lambda: layer(*arrays, **options), peer_infer), (train, peer_train)


def normal(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def dot(T: int, S: int, B: int, N: int, D: int, causal: bool) -> tuple[float, Sides, Sides]:
    """Scaled dot products alone, PyTorch's in the layout that suits it best."""
    q, k, v = normal(T, B, N * D), normal(S, B, N * D), normal(S, B, N * D)
    heads = [torch.tensor(a.reshape(-1, B, N, D).transpose(1, 2, 0, 3).copy(), requires_grad=True) for a in (q, k, v)]
    dy, peer_dy = normal(T, B, N * D), torch.tensor(normal(B, N, T, D))
    attend = torch.nn.functional.scaled_dot_product_attention
    options: dict[str, Any] = {"num_heads": N, "causal": causal}
    expected = attend(*heads, is_causal=causal).detach().numpy().transpose(2, 0, 1, 3).reshape(q.shape)
    assert np.abs(fr.functional.attention(q, k, v, **options) - expected).max() < 1e-4

    def train() -> None:
        fr.functional.attention_vjp(q, k, v, **options)[1](dy)

    def peer_infer() -> None:
        with torch.no_grad():
            attend(*heads, is_causal=causal)

    def peer_train() -> None:
        for value in heads:
            value.grad = None
        attend(*heads, is_causal=causal).backward(peer_dy)

    flops = 4.0 * T * S * B * N * D / (2 if causal else 1)
    return flops, (lambda: fr.functional.attention(q, k, v, **options), peer_infer), (train, peer_train)


def multi_head(T: int, B: int, F: int, N: int, causal: bool) -> tuple[float, Sides, Sides]:
    peer, layer = torch.nn.MultiheadAttention(F, N), fr.MultiHeadAttention(F, N)
    layer.load_state_dict({name: value.numpy() for name, value in peer.state_dict().items()})
    mask = torch.nn.Transformer.generate_square_subsequent_mask(T) if causal else None
    sides = steps(
        layer, peer, [normal(T, B, F)], {"causal": causal},
        lambda x: peer(x, x, x, need_weights=False, attn_mask=mask, is_causal=causal)[0],
    )  # fmt: skip
    return 8.0 * T * B * F * F + 4.0 * T * T * B * F / (2 if causal else 1), *sides


class Additive(torch.nn.Module):
    def __init__(self, layer: fr.Attention) -> None:
        super().__init__()
        for name, value in layer.params.items():
            setattr(self, name, torch.nn.Parameter(torch.tensor(value)))

    def forward(self, query: Any, source: Any) -> Any:
        q, k = query @ self.weight_query.T, source @ self.weight_source.T
        scores = torch.tanh(q[:, None] + k[None]) @ self.v
        return torch.einsum("tsb,sbk->tbk", torch.softmax(scores, 1), source)


def additive(T: int, S: int, B: int, Q: int, K: int) -> tuple[float, Sides, Sides]:
    layer = fr.Attention(Q, K, kind="additive", seed=0)
    peer = Additive(layer)
    flops = 2.0 * T * B * Q * Q + 2.0 * S * B * K * Q + 2.0 * T * S * B * (Q + K)
    return flops, *steps(layer, peer, [normal(T, B, Q), normal(S, B, K)], {}, peer)


def encoder_layer(T: int, B: int, F: int, N: int, H: int) -> tuple[float, Sides, Sides]:
    peer, layer = torch.nn.TransformerEncoderLayer(F, N, H, 0.0), fr.TransformerEncoderLayer(F, N, H, 0.0)
    layer.load_state_dict({name: value.numpy() for name, value in peer.state_dict().items()})
    return T * B * (8.0 * F * F + 4.0 * F * H + 4.0 * T * F), *steps(layer, peer, [normal(T, B, F)], {}, peer)


CASES: dict[str, Callable[[], tuple[float, Sides, Sides]]] = {
    "dot 128×128, B 32, 8 heads of 64": lambda: dot(128, 128, 32, 8, 64, False),
    "the same, causal": lambda: dot(128, 128, 32, 8, 64, True),
    "dot 512×512, B 4, 8 heads of 64": lambda: dot(512, 512, 4, 8, 64, False),
    "dot 30×30, B 64, 8 heads of 64": lambda: dot(30, 30, 64, 8, 64, False),
    "dot 1×128, B 32, 8 heads of 64": lambda: dot(1, 128, 32, 8, 64, False),
    "dot 512×512, B 1, one head of 64": lambda: dot(512, 512, 1, 1, 64, False),
    "multi-head 128, B 32, F 512, 8 heads": lambda: multi_head(128, 32, 512, 8, False),
    "multi-head 64, B 16, F 256, 4 heads": lambda: multi_head(64, 16, 256, 4, False),
    "the same, causal ": lambda: multi_head(64, 16, 256, 4, True),
    "multi-head 16, B 1, F 64, 4 heads": lambda: multi_head(16, 1, 64, 4, False),
    "additive 30×30, B 64, 256 over 512": lambda: additive(30, 30, 64, 256, 512),
    "additive 30×30, B 1, 256 over 512": lambda: additive(30, 30, 1, 256, 512),
    "additive 1×30, B 64, 256 over 512": lambda: additive(1, 30, 64, 256, 512),
    "encoder layer 64, B 32, F 256, 4 heads, 1024": lambda: encoder_layer(64, 32, 256, 4, 1024),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", default="1,2", help="numbers of threads, separated by commas")
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--only", default="", help="part of a case's name")
    parser.add_argument("--json", help="a file for everything measured")
    options = parser.parse_args()
    results = []
    for threads in map(int, options.threads.split(",")):
        fr.set_num_threads(threads)
        torch.set_num_threads(threads)
        best = peak() * threads
        for name, prepare in CASES.items():
            if options.only not in name:
                continue
            flops, *modes = prepare()
            line = f"{threads}  {name:45}"
            for mode, sides, times in zip(("inference", "training"), modes, (1, 3), strict=True):
                ours, theirs = medians(sides, options.repeat)
                share = times * flops / ours / best
                line += f"  {mode} {ours * 1e3:8.2f} ms {share:4.0%} of peak, {theirs / ours:5.2f}×"
                results.append(
                    {"case": name.strip(), "threads": threads, "mode": mode, "seconds": ours, "torch": theirs}
                )
            print(line, flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
