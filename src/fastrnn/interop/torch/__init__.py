"""PyTorch."""

from __future__ import annotations

from fastrnn.interop import needed

needed("torch", "PyTorch", "torch")

from fastrnn.interop.torch import _threads  # noqa: E402
from fastrnn.interop.torch._accelerate import accelerate, restore  # noqa: E402
from fastrnn.interop.torch._modules import GRU, LSTM, RNN  # noqa: E402

__all__ = ["GRU", "LSTM", "RNN", "accelerate", "restore"]

_threads.borrow()
