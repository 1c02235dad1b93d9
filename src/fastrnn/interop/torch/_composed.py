"""The gradients in PyTorch's own operations, so that they have gradients themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fastrnn import _core
from fastrnn.interop.torch._run import Spec

_FUNCTIONS = {
    "RNN_TANH": torch._VF.rnn_tanh,
    "RNN_RELU": torch._VF.rnn_relu,
    "LSTM": torch._VF.lstm,
    "GRU": torch._VF.gru,
}


def _outputs(spec: Spec, x: Any, h_0: Any, c_0: Any, lengths: Any, weights: list[Any]) -> tuple[Any, ...]:
    """(y, h_n[, c_n]), a layer a call, for the masks between layers are ours."""
    if spec.unbatched:
        x = x.unsqueeze(1)
        h_0, c_0 = (None if s is None else s.unsqueeze(1) for s in (h_0, c_0))
    n, D = spec.per_direction, spec.directions
    per_layer, ends = n * D, []
    B = x.shape[0 if spec.batch_first else 1]
    for layer in range(len(weights) // per_layer):
        flat = weights[layer * per_layer : (layer + 1) * per_layer]
        rows = slice(layer * D, (layer + 1) * D)
        h = x.new_zeros(D, B, flat[1].shape[1]) if h_0 is None else h_0[rows]
        start: Any = h
        if spec.mode == "LSTM":
            start = (h, x.new_zeros(D, B, flat[1].shape[0] // 4) if c_0 is None else c_0[rows])
        if layer and spec.rate:
            x = x * _mask(spec, layer, x)
        options = (spec.bias, 1, 0.0, True, D == 2)
        if lengths is None:
            found = _FUNCTIONS[spec.mode](x, start, flat, *options, spec.batch_first)
            x = found[0]
        else:
            data, sizes = torch._VF._pack_padded_sequence(x, lengths, spec.batch_first)
            found = _FUNCTIONS[spec.mode](data, sizes, start, flat, *options)
            x = torch._VF._pad_packed_sequence(found[0], sizes, spec.batch_first, 0.0, x.shape[0])[0]
        ends.append(found[1:])
    states = [torch.cat(parts) for parts in zip(*ends, strict=True)]
    if spec.unbatched:
        return x.squeeze(1), *(state.squeeze(1) for state in states)
    return x, *states


def _mask(spec: Spec, layer: int, x: Any) -> Any:
    """What the core multiplied this layer's input with."""
    ones = np.ones(tuple(x.shape), np.float32 if x.dtype is torch.float32 else np.float64)
    _core.dropout(ones, spec.rate, spec.seed + layer, ones)
    return torch.from_numpy(ones)


def composed(
    spec: Spec, x: Any, h_0: Any, c_0: Any, lengths: Any, weights: list[Any], gradients: Any, wanted: tuple[bool, ...]
) -> list[Any]:
    """Gradients of x, h_0, c_0 and the weights where `wanted`, else None; they can be differentiated again."""
    inputs = [x, h_0, c_0, *weights]
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        if not again:
            inputs = [
                t if t is None else t.detach().requires_grad_(want) for t, want in zip(inputs, wanted, strict=True)
            ]
        outputs = _outputs(spec, inputs[0], inputs[1], inputs[2], lengths, inputs[3:])
        pairs = [(y, dy) for y, dy in zip(outputs, gradients, strict=False) if dy is not None]
        found = iter(
            torch.autograd.grad(
                [y for y, _ in pairs],
                [t for t, want in zip(inputs, wanted, strict=True) if want],
                [dy for _, dy in pairs],
                create_graph=again,
                allow_unused=True,
            )
        )
    return [next(found) if want else None for want in wanted]
