"""What PyTorch's own kernels have to do, and how that is said."""

from __future__ import annotations

import warnings
from typing import Any

import torch

PLAIN = (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)  # and no subclass with a mind of its own
DTYPES = (torch.float32, torch.float64)
CHOICES = ("warn", "error", "ignore")


def choice(unsupported: Any) -> str:
    """The argument of that name, checked."""
    if not isinstance(unsupported, str) or unsupported not in CHOICES:
        raise ValueError(f"unsupported: expected 'warn', 'error' or 'ignore', got {unsupported!r}")
    return unsupported


def say(unsupported: str, what: str, reason: str) -> None:
    """Warn, raise or keep silent; Python shows a warning once."""
    if unsupported == "error":
        raise NotImplementedError(f"fastrnn: {what} can't run on fastrnn's kernels: {reason}")
    if unsupported == "warn":
        warnings.warn(f"fastrnn: {what} runs on PyTorch's own kernels: {reason}", UserWarning, stacklevel=4)


def _of_tensor(name: str, tensor: Any) -> str | None:
    if not isinstance(tensor, torch.Tensor):
        return None
    if type(tensor) not in PLAIN:
        return f"{name} is a {type(tensor).__name__}, a subclass of torch.Tensor"
    if not tensor.is_cpu:
        return f"{name} is on the device {str(tensor.device)!r}, fastrnn runs on the CPU"
    if tensor.layout is not torch.strided:
        return f"{name} has the layout {tensor.layout}"
    if tensor.dtype not in DTYPES:
        return f"{name} is {tensor.dtype}, fastrnn computes in torch.float32 and torch.float64"
    return None


def elsewhere() -> str | None:
    """Why calls must go to PyTorch just now, whatever their arguments; None if they needn't."""
    if torch._C._are_functorch_transforms_active():
        return "a transform of torch.func is active (grad, vmap, jvp …)"
    if torch.autograd.forward_ad._current_level >= 0:
        return "forward-mode automatic differentiation is on"
    if torch._C._len_torch_dispatch_stack():
        return "a TorchDispatchMode is active"
    return None


def reason(data: Any, hx: Any, weights: list[Any]) -> str | None:
    """Why a call must go to PyTorch; None if nothing is known against it."""
    states = hx if isinstance(hx, tuple | list) else (hx,)
    tensors = [("the input", data), *(("the initial state", state) for state in states)]
    for name, tensor in (*tensors, *(("a weight", weight) for weight in weights)):
        found = _of_tensor(name, tensor)
        if found is not None:
            return found
    return elsewhere()
