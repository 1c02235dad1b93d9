"""Draw docs/scaling.png, and print the table on paper: ``python docs/scaling_figure.py [--output FOLDER]``.

The model that docs/scaling.md explains: a step takes its arithmetic and then an all-reduce of the gradients.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

CORE = 180e9  # FLOP/s of one core in training, measured: 21 GFLOP in 116 ms
BYTES = {"float32": 4, "bf16": 2}
# Gbit/s → (bytes/s that arrive, seconds of a message): Ethernet through TCP twice, InfiniBand
NETS = {1: (0.9 * 125e6, 30e-6), 10: (0.9 * 1.25e9, 20e-6), 100: (0.9 * 12.5e9, 2e-6)}


def all_reduce(size: float, ranks: int, rate: float, latency: float) -> float:
    """Seconds: reduce-scatter and all-gather, each with every byte but a rank's own once over the wire.

    In a ring that takes 2 (n − 1) messages one after another, by halves 2 log₂ n; MPI chooses what is quicker.
    """
    if ranks == 1:
        return 0.0
    messages = min(2 * (ranks - 1), 2 * math.ceil(math.log2(ranks)))
    return messages * latency + 2 * (ranks - 1) / ranks * size / rate


def compute(params: float, tokens: float, cores: int) -> float:
    """Seconds of a step's arithmetic: 2 operations forward and 4 backward for each weight and token."""
    return 6 * params * tokens / (cores * CORE)


def efficiency(params: float, tokens: float, cores: int, ranks: int, net: int, kind: str, hidden: float = 0.0) -> float:
    """The share of a step that is arithmetic; `hidden` of the arithmetic can hide the all-reduce."""
    work = compute(params, tokens, cores)
    wire = all_reduce(BYTES[kind] * params, ranks, *NETS[net])
    return work / (work + max(0.0, wire - hidden * work))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    output = parser.parse_args().output
    print("ranks   net  float32    bf16   (32 million weights, 16 cores and 16,384 tokens a rank; nothing hidden)")
    for ranks in (2, 10, 100, 1000):
        for net in NETS:
            shares = [efficiency(32e6, 16384, 16, ranks, net, kind) for kind in BYTES]
            print(f"{ranks:5} {net:5}  " + "  ".join(f"{100 * share:6.1f}%" for share in shares))

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 4.0), layout="constrained", dpi=110)
    colours = {1: "#d94801", 10: "#2171b5", 100: "#238b45"}
    panels = [
        ("0.9 million weights, 1 core and 2,048 tokens a rank", 0.9e6, 2048, 1),
        ("32 million weights, 16 cores and 16,384 tokens a rank", 32e6, 16384, 16),
    ]
    counts = sorted({round(10 ** (k / 20)) for k in range(61)})
    for axes, (title, params, tokens, cores) in zip(figure.subplots(1, 2, sharey=True), panels, strict=True):
        for net, colour in colours.items():
            for kind, style in (("float32", "-"), ("bf16", "--")):
                shares = [100 * efficiency(params, tokens, cores, n, net, kind) for n in counts]
                axes.plot(counts, shares, style, color=colour, label=f"{net} Gbit/s, {kind}")
        axes.set_xscale("log")
        axes.set_xlim(1, 1000)
        axes.set_ylim(0, 102)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("ranks, each with a network card of its own")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("share of a step that is arithmetic, %")
    figure.axes[0].legend(frameon=False, fontsize=9, loc="lower right")
    figure.savefig(output / "scaling.png")


if __name__ == "__main__":
    main()
