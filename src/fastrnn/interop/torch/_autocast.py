"""Inside `torch.autocast("cpu")`: computed in float32, returned in the types that PyTorch returns."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence

_LOW = (torch.float32, torch.bfloat16, torch.float16)


def can(data: Any, hx: Any, weights: list[Any]) -> bool:
    """Whether autocast takes these arguments, as far as types go."""
    tensors = [data, *(hx if isinstance(hx, tuple | list) else () if hx is None else (hx,)), *weights]
    return all(isinstance(t, torch.Tensor) and t.is_cpu and t.dtype in _LOW for t in tensors)


def _returned(module: Any, input: Any, hx: Any) -> tuple[Any, Any]:
    """The types of PyTorch's h and c.

    Products are in autocast's type. What they are added to or multiplied with, the state before, may lift it; not in
    the RNN, where nothing is, in projections, and in oneDNN's LSTM, which runs where all rows have one length.
    """
    low = torch.get_autocast_dtype("cpu")
    if module.mode.startswith("RNN"):
        return low, low
    packed = isinstance(input, PackedSequence)
    before = (input.data if packed else input) if hx is None else hx[1] if module.mode == "LSTM" else hx
    lifted = torch.promote_types(low, before.dtype)
    if module.mode == "GRU":
        return lifted, lifted
    if module.proj_size:
        return low, lifted
    ragged = packed and int(input.batch_sizes[0]) != int(input.batch_sizes[-1])
    return (lifted, lifted) if ragged else (low, low)


def _float(value: Any) -> Any:
    return tuple(part.float() for part in value) if isinstance(value, tuple | list) else value.float()


def forward(module: Any, input: Any, hx: Any) -> Any:
    """`module.forward`, without autocast."""
    packed = isinstance(input, PackedSequence)
    for_h, for_c = _returned(module, input, hx)
    given = input._replace(data=input.data.float()) if packed else input.float()
    with torch.autocast("cpu", enabled=False):
        y, state = module.forward(given, None if hx is None else _float(hx))
    y = y._replace(data=y.data.to(for_h)) if packed else y.to(for_h)
    return y, ((state[0].to(for_h), state[1].to(for_c)) if isinstance(state, tuple) else state.to(for_h))
