"""The figure of memory: one training step in a fresh process."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

from fastrnn.bench.cases import Shape
from fastrnn.bench.figures.base import Figure, Outcome
from fastrnn.bench.peers import choose
from fastrnn.bench.remote import python_of

__all__ = ["MemoryFigure", "peak_bytes"]

# Sizes T, B, I, H, threads, checkpoint (0: none) in; bytes of the peak above that of the import out. VmHWM belongs
# to this program alone, while ru_maxrss may be inherited from the one that started it.
_PEAK = """
import sys, resource
T, B, I, H, threads, checkpoint = map(int, sys.argv[1:])
def peak():
    try:
        lines = open('/proc/self/status').read().splitlines()
        return next(int(l.split()[1]) * 1024 for l in lines if l.startswith('VmHWM'))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
"""
_OURS = """
import numpy as np, fastrnn as fr
fr.set_num_threads(threads)
rng = np.random.default_rng(0)
before = peak()
x, dy = (rng.standard_normal((T, B, n), np.float32) for n in (I, H))
layer = fr.LSTM(I, H, seed=0)
(y, _), pullback = layer.vjp(x, checkpoint=checkpoint or None)
pullback(dy)
print(peak() - before)
"""
_TORCH = """
import numpy as np, torch
torch.set_num_threads(threads)
rng = np.random.default_rng(0)
before = peak()
x, dy = (torch.from_numpy(rng.standard_normal((T, B, n), np.float32)) for n in (I, H))
x.requires_grad_()
layer = torch.nn.LSTM(I, H)
y, _ = layer(x)
y.backward(dy)
print(peak() - before)
"""


def peak_bytes(side: str, shape: Shape, threads: int = 1, checkpoint: int = 0) -> int:
    """Return by how much one LSTM training step raises the peak of a fresh process above that of the import.

    Examples
    --------
    >>> peak_bytes("fastrnn", Shape(2, 1, 3, 4)) >= 0
    True
    """
    code = _PEAK + {"fastrnn": _OURS, "torch": _TORCH}[side]
    python = python_of(side) or sys.executable
    command = [python, "-c", code, *map(str, (*shape, threads, checkpoint))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{side} failed: {done.stderr.strip()[-500:]}")
    return int(done.stdout)


@dataclass(frozen=True, kw_only=True)
class MemoryFigure(Figure):
    """Peak memory of one training step over PyTorch's."""

    shape: Shape
    checkpoint: int = 0

    def measure(self, threads: int | None = None, repeat: int = 15) -> Outcome:
        peers, skipped = choose(["fastrnn", "torch"])
        count = threads or self.threads
        mb = {
            peer.name: peak_bytes(peer.name, self.shape, count, self.checkpoint if peer.name == "fastrnn" else 0) / 1e6
            for peer in peers
        }
        parts = [f"{name} {value:,.0f} MB" for name, value in mb.items()] + list(skipped.values())
        value = mb["fastrnn"] / mb["torch"] if "torch" in mb else None
        return Outcome(value, ", ".join(parts), {"megabytes": mb, "threads": count})
