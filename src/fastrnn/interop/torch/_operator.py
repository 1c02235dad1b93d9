"""What torch.compile sees: one custom operator a call, and one for its gradients.

What forward keeps for backward can't go through a compiled graph, so a token goes: an integer, by which backward finds
it. It lives as long as the memory of the token, that is, as long as the graph keeps it. Where it has gone, or has been
used (a graph may be run backward twice), or where what it points to was moved, backward runs the forward pass again.
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import PackedSequence

from fastrnn.interop.torch import _run, _unsupported

_SPEC = "str mode, int directions, bool bias, bool projected, bool batch_first, bool unbatched, float rate"
_SAVED: weakref.WeakValueDictionary[int, _Kept] = weakref.WeakValueDictionary()
_NUMBERS = itertools.count(1)


class _Kept:
    """What a token stands for."""

    __slots__ = ("__weakref__", "addresses", "saved")

    def __init__(self, saved: _run.Saved, tensors: list[Any]) -> None:
        self.saved, self.addresses = saved, [t.data_ptr() for t in tensors]


class _Token(np.ndarray[Any, Any]):
    """Memory of a token, to which `kept` is tied."""

    kept: _Kept


def _token(saved: _run.Saved, tensors: list[Any]) -> Any:
    token = np.array([next(_NUMBERS)], np.int64).view(_Token)
    token.kept = _SAVED[int(token[0])] = _Kept(saved, tensors)
    return torch.from_numpy(token)


@torch.library.custom_op(
    "fastrnn::recurrent",
    mutates_args=(),
    device_types="cpu",
    schema=f"(Tensor x, Tensor? h_0, Tensor? c_0, Tensor[] weights, Tensor? seed, bool save, {_SPEC})"
    " -> (Tensor, Tensor, Tensor, Tensor)",
)
def recurrent(x: Any, h_0: Any, c_0: Any, weights: Any, seed: Any, save: bool, *spec: Any) -> Any:
    """(y, h_n, c_n, token), the last two empty where there is none."""
    full = _run.Spec._make((*spec, 0 if seed is None else int(seed)))
    y, h_n, c_n, saved = _run.forward(full, x, h_0, c_0, None, weights, save)
    token = x.new_empty(0, dtype=torch.int64) if saved is None else _token(saved, [x, y, *weights])
    return y, h_n, y.new_empty(0) if c_n is None else c_n, token


@recurrent.register_fake
def _(x: Any, h_0: Any, c_0: Any, weights: Any, seed: Any, save: bool, *spec: Any) -> Any:
    full = _run.Spec._make((*spec, 0))
    rows = len(weights) // full.per_direction
    size = weights[1].shape[1]
    middle = [] if full.unbatched else [x.shape[0 if full.batch_first else 1]]
    if full.batch_first and not full.unbatched:
        y = x.new_empty(x.shape[1], x.shape[0], size * full.directions).transpose(0, 1)
    else:
        y = x.new_empty(*x.shape[:-1], size * full.directions)
    c_n = x.new_empty(rows, *middle, weights[1].shape[0] // 4) if full.mode == "LSTM" else x.new_empty(0)
    return y, x.new_empty(rows, *middle, size), c_n, x.new_empty(1 if save else 0, dtype=torch.int64)


@torch.library.custom_op(
    "fastrnn::recurrent_backward",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor token, Tensor y, Tensor? dy, Tensor? dh_n, Tensor? dc_n, Tensor x, Tensor? h_0, Tensor? c_0, "
    f"Tensor[] weights, Tensor? seed, bool[] wanted, {_SPEC}) -> Tensor[]",
)
def recurrent_backward(
    token: Any, y: Any, dy: Any, dh_n: Any, dc_n: Any, x: Any, h_0: Any, c_0: Any, weights: Any, seed: Any,
    wanted: Any, *spec: Any,
) -> Any:  # fmt: skip
    """Gradients of x, h_0, c_0 and the weights, empty where not `wanted`."""
    full = _run.Spec._make((*spec, 0 if seed is None else int(seed)))
    kept = _SAVED.get(int(token[0])) if len(token) else None
    if kept is None or kept.saved.kept is None or kept.addresses != [t.data_ptr() for t in (x, y, *weights)]:
        saved = _run.forward(full, x, h_0, c_0, None, weights, True)[3]
    else:
        saved = kept.saved
    found = _run.backward(full, saved, dy, dh_n, dc_n, weights, tuple(wanted))
    return [x.new_empty(0) if tensor is None else tensor for tensor in found]


@recurrent_backward.register_fake
def _(
    token: Any, y: Any, dy: Any, dh_n: Any, dc_n: Any, x: Any, h_0: Any, c_0: Any, weights: Any, seed: Any,
    wanted: Any, *spec: Any,
) -> Any:  # fmt: skip
    full = _run.Spec._make((*spec, 0))
    dx = x.new_empty(x.shape)
    if full.batch_first and not full.unbatched:
        dx = x.new_empty(x.shape[1], x.shape[0], x.shape[2]).transpose(0, 1)
    rest = [None if t is None else t.new_empty(t.shape) for t in (h_0, c_0, *weights)]
    return [t if t is not None and want else x.new_empty(0) for t, want in zip((dx, *rest), wanted, strict=True)]


def _setup_context(ctx: Any, inputs: Any, output: Any) -> None:
    x, h_0, c_0, weights, seed, _, *ctx.spec = inputs
    y, _, _, token = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(token)
    ctx.save_for_backward(token, y, x, h_0, c_0, seed, *weights)


def _backward(ctx: Any, dy: Any, dh_n: Any, dc_n: Any, _: Any) -> Any:
    token, y, x, h_0, c_0, seed, *weights = ctx.saved_tensors
    wants = ctx.needs_input_grad
    wanted = [*wants[:3], *wants[3]]
    dc_n = dc_n if ctx.spec[0] == "LSTM" else None
    found = torch.ops.fastrnn.recurrent_backward(
        token, y, dy, dh_n, dc_n, x, h_0, c_0, weights, seed, wanted, *ctx.spec
    )
    grads = [tensor if want else None for tensor, want in zip(found, wanted, strict=True)]
    return *grads[:3], grads[3:], None, None, *[None for _ in ctx.spec]


recurrent.register_autograd(_backward, setup_context=_setup_context)


@torch.compiler.disable
def _as_it_is(module: Any, input: Any, hx: Any) -> Any:
    return module.forward(input, hx)


def forward(module: Any, input: Any, hx: Any) -> Any:
    """`module.forward` while PyTorch compiles it."""
    if isinstance(input, PackedSequence):  # its sizes are known when it runs
        return _as_it_is(module, input, hx)
    if torch.is_autocast_enabled("cpu"):
        from fastrnn.interop.torch import _autocast

        return _autocast.forward(module, input, hx)
    weights = [getattr(module, name) for name in module._flat_weights_names]
    rate = module.dropout if module.training and module.num_layers > 1 else 0.0
    if torch.compiler.is_exporting() or rate >= 1 or not module._fastrnn_fits(input, hx, weights):
        reason = None if torch.compiler.is_exporting() else _unsupported.reason(input, hx, weights)
        if reason is not None:
            _unsupported.say(module._fastrnn_unsupported, f"this {module.mode}", reason)
        return module._fastrnn_plain(input, hx)
    is_lstm = module.mode == "LSTM"
    h_0, c_0 = (None, None) if hx is None else hx if is_lstm else (hx, None)
    unbatched = input.dim() == 2
    tensors = (input, h_0, c_0, *weights)
    save = torch.is_grad_enabled() and any([t is not None and t.requires_grad for t in tensors])
    y, h_n, c_n, _ = torch.ops.fastrnn.recurrent(
        input, h_0, c_0, weights, torch.randint(_run.SEEDS, (), device="cpu") if rate else None, save,
        module.mode, 2 if module.bidirectional else 1, module.bias, module.proj_size > 0,
        module.batch_first and not unbatched, unbatched, rate,
    )  # fmt: skip
    return y, ((h_n, c_n) if is_lstm else h_n)
