"""What torch.compile sees: one custom operator a call, and one for its gradients."""

from __future__ import annotations

from typing import Any


def forward(module: Any, input: Any, hx: Any) -> Any:
    raise NotImplementedError
