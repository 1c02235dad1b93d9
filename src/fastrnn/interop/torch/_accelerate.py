"""`accelerate` and `restore`: another class for modules that are there."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.utils.parametrize import is_parametrized

from fastrnn.interop.torch import _unsupported
from fastrnn.interop.torch._modules import GRU, LSTM, RNN, Fast

_FAST = {torch.nn.RNN: RNN, torch.nn.LSTM: LSTM, torch.nn.GRU: GRU}
_PLAIN = {fast: plain for plain, fast in _FAST.items()}


def accelerate(model: Any, *, unsupported: str = "warn") -> Any:
    for module in model.modules():
        if type(module) in _FAST:
            module.__class__ = _FAST[type(module)]
            module._fastrnn_unsupported = unsupported
    return model


def restore(model: Any) -> Any:
    for module in model.modules():
        if type(module) in _PLAIN:
            module.__class__ = _PLAIN[type(module)]
            module.__dict__.pop("_fastrnn_unsupported", None)
    return model
