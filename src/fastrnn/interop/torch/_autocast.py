"""Inside `torch.autocast("cpu")`: computed in float32, returned in the type that PyTorch returns."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence

_LOW = (torch.float32, torch.bfloat16, torch.float16)


def can(data: Any, hx: Any, weights: list[Any]) -> bool:
    """Whether autocast takes these arguments, as far as types go."""
    tensors = [data, *(hx if isinstance(hx, tuple | list) else () if hx is None else (hx,)), *weights]
    return all(isinstance(t, torch.Tensor) and t.is_cpu and t.dtype in _LOW for t in tensors)


def _returned(module: Any, packed: bool, data: Any, hx: Any) -> Any:
    """The type of PyTorch's outputs: its operations in the lower type, and what they are combined with."""
    low = torch.get_autocast_dtype("cpu")
    if module.mode.startswith("RNN") or (module.mode == "LSTM" and not packed):
        return low
    state = data if hx is None else hx[1] if module.mode == "LSTM" else hx
    return torch.promote_types(low, state.dtype)


def _float(value: Any) -> Any:
    return tuple(part.float() for part in value) if isinstance(value, tuple | list) else value.float()


def forward(module: Any, input: Any, hx: Any) -> Any:
    """`module.forward`, without autocast."""
    packed = isinstance(input, PackedSequence)
    data = input.data if packed else input
    dtype = _returned(module, packed, data, hx)
    given = input._replace(data=data.float()) if packed else data.float()
    with torch.autocast("cpu", enabled=False):
        y, state = module.forward(given, None if hx is None else _float(hx))
    y = y._replace(data=y.data.to(dtype)) if packed else y.to(dtype)
    return y, (tuple(part.to(dtype) for part in state) if isinstance(state, tuple) else state.to(dtype))
