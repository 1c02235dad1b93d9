"""The step into PyTorch's autograd, and back."""

from __future__ import annotations

from typing import Any

import torch

from fastrnn.interop.torch import _run, _unsupported
from fastrnn.interop.torch._composed import composed


def _is_batched(*gradients: Any) -> bool:
    """Whether vmap, the new or the old one, runs the backward pass for many gradients at once."""
    f = torch._C._functorch
    return any([t is not None and (f.is_batchedtensor(t) or f.is_legacy_batchedtensor(t)) for t in gradients])


class Recurrent(torch.autograd.Function):
    """(y, h_n) or (y, h_n, c_n) of a stack of recurrent layers."""

    @staticmethod
    def forward(
        ctx: Any, spec: _run.Spec, lengths: Any, unsupported: str, x: Any, h_0: Any, c_0: Any, *weights: Any
    ) -> Any:
        y, h_n, c_n, ctx.saved = _run.forward(spec, x, h_0, c_0, lengths, weights, True)
        ctx.save_for_backward(x, h_0, c_0, *weights)  # and PyTorch sees when they are changed in place
        ctx.set_materialize_grads(False)
        ctx.spec, ctx.lengths, ctx.unsupported = spec, lengths, unsupported
        ctx.y = y.detach()  # shares the version of y
        ctx.version = ctx.y._version
        return (y, h_n) if c_n is None else (y, h_n, c_n)

    @staticmethod
    def backward(ctx: Any, dy: Any, dh_n: Any, dc_n: Any = None) -> Any:
        x, h_0, c_0, *weights = ctx.saved_tensors
        spec, saved, wanted = ctx.spec, ctx.saved, ctx.needs_input_grad[3:]
        if torch.is_grad_enabled() or _is_batched(dy, dh_n, dc_n):
            why = "a gradient of its gradient is asked for (create_graph=True)" if torch.is_grad_enabled() else ""
            _unsupported.say(ctx.unsupported, f"the backward pass of this {spec.mode}", why or "it is vectorised")
            return None, None, None, *composed(spec, x, h_0, c_0, ctx.lengths, weights, (dy, dh_n, dc_n), wanted)
        # Backward overwrites what was saved, and reads y: a second time (retain_graph=True), or where y was changed in
        # place, what to PyTorch is nothing wrong, the forward pass runs again.
        if saved.kept is None or ctx.y._version != ctx.version:
            saved = _run.forward(spec, x, h_0, c_0, ctx.lengths, weights, True)[3]
        return None, None, None, *_run.backward(spec, saved, dy, dh_n, dc_n, weights, wanted)
