"""PyTorch's recurrent layers on fastrnn's kernels: `accelerate(model)`, and RNN, LSTM, GRU as modules.

The page ``docs/interop/torch.md`` shows how.
"""

from __future__ import annotations

from fastrnn.interop import needed

needed("torch", "PyTorch", "torch")

from fastrnn.interop.torch import _threads  # noqa: E402
from fastrnn.interop.torch._accelerate import accelerate, report, restore  # noqa: E402
from fastrnn.interop.torch._modules import GRU, LSTM, RNN  # noqa: E402

__all__ = ["GRU", "LSTM", "RNN", "accelerate", "report", "restore"]

for _name in __all__:  # errors and pickles name this module
    globals()[_name].__module__ = __name__

_threads.borrow()
