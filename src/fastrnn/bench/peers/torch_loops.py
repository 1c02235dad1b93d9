"""Recurrent layers as PyTorch's users write them when `nn.LSTM` hasn't what they want: a loop over time steps.

Written as well as that goes: the input's product is hoisted out of the loop, a step has one product for all gates,
whose sigmoids are one call, slices of the input come from `unbind` (indexing costs an array of zeros a step in the
backward pass), and masks are drawn before the loop. Equations and parameters are those of `fr.LSTM`, `fr.GRU` and
`fr.RNN`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TorchLoop", "Variation"]


@dataclass(frozen=True)
class Variation:
    """What is different from the plain cell, by the names of the layers' arguments."""

    layer_norm: bool = False
    peephole: bool = False
    coupled: bool = False
    clip: float | None = None
    zoneout: float = 0.0
    recurrent_dropout: float = 0.0
    input_dropout: float = 0.0
    weight_dropout: float = 0.0


class TorchLoop:
    """One layer of one direction.

    Parameters
    ----------
    cell : {"lstm", "gru", "rnn"}
    weights : mapping
        fastrnn's parameters of the first layer.
    variation : Variation
    threads : int
    """

    def __init__(
        self, cell: str, weights: Mapping[str, NDArray[Any]], variation: Variation | None = None, threads: int = 1
    ) -> None:
        self.torch: Any = importlib.import_module("torch")
        self.torch.set_num_threads(threads)
        self.cell, self.variation = cell, variation or Variation()
        self.H = weights["weight_hh_l0"].shape[1]
        # The loop's own order of an LSTM's gates, (i f o g or i o g), has the sigmoids side by side.
        self._order = [0, 2, 1] if self.variation.coupled else [0, 1, 3, 2]
        self.p = {name.removesuffix("_l0"): self._leaf(name, array) for name, array in weights.items()}

    def __call__(
        self, x: Any, reset_mask: Any = None, *, training: bool = True
    ) -> tuple[Any, tuple[Any, ...], list[Any]]:
        """From x [T, B, I], and the bool mask [T, B] of resets, to y, the states at the end, and every c of an LSTM."""
        run: Callable[..., Any] = {"lstm": self._lstm, "gru": self._gru, "rnn": self._rnn}[self.cell]
        keep = None if reset_mask is None else (~reset_mask).to(x.dtype)[:, :, None].unbind(0)
        found: tuple[Any, tuple[Any, ...], list[Any]] = run(x, keep, training)
        return found

    def zero_grad(self) -> None:
        """Forget the gradients, as `zero_grad(set_to_none=True)` does."""
        for p in self.p.values():
            p.grad = None

    def grads(self) -> dict[str, NDArray[Any]]:
        """Gradients under fastrnn's names, in its order."""
        found = {}
        for name, p in self.p.items():
            grad = p.grad.numpy()
            back = self._gates(name, grad, np.argsort(self._order).tolist())
            found[f"{name}_l0"] = grad if back is None else back
        return found

    # ---- parameters ----------------------------------------------------------------------------------------

    def _leaf(self, name: str, array: NDArray[Any]) -> Any:
        ordered = self._gates(name.removesuffix("_l0"), array, self._order)
        return self.torch.tensor(array if ordered is None else ordered, requires_grad=True)

    def _gates(self, name: str, array: NDArray[Any], order: list[int]) -> NDArray[Any] | None:
        """An LSTM's array with its gates in another order, None where that changes nothing."""
        if self.cell != "lstm" or len(array) != len(order) * self.H or name == "peephole":
            return None
        return np.concatenate([np.split(array, len(order))[g] for g in order])

    def _limited(self) -> Callable[[Any], Any]:
        clip = self.variation.clip
        return (lambda z: z) if clip is None else (lambda z: z.clamp(-clip, clip))

    # ---- what doesn't change from step to step -------------------------------------------------------------

    def _mask(self, p: float, *shape: int, like: Any) -> Any:
        """0 with probability p, else 1/(1 − p)."""
        return self.torch.empty(shape, dtype=like.dtype).bernoulli_(1 - p).div_(1 - p)

    def _input(self, x: Any, training: bool) -> Any:
        p = self.variation.input_dropout
        return x * self._mask(p, *x.shape[1:], like=x) if p and training else x

    def _turned(self, training: bool) -> Any:
        """Rᵀ."""
        R, p = self.p["weight_hh"], self.variation.weight_dropout
        return (R * self._mask(p, *R.shape, like=R) if p and training else R).t()

    def _read(self, x: Any, training: bool) -> Callable[[Any], Any]:
        """From h to what R reads."""
        p = self.variation.recurrent_dropout
        if not p or not training:
            return lambda h: h
        mask = self._mask(p, x.shape[1], self.H, like=x)
        return lambda h: h * mask

    def _zoned(self, x: Any, training: bool) -> Callable[[int, Any, Any], Any]:
        """From the step, the old and the new value to the one that is taken."""
        torch, p = self.torch, self.variation.zoneout
        if not p:
            return lambda t, old, new: new
        if not training:
            return lambda t, old, new: torch.lerp(new, old, p)
        masks = (torch.rand(*x.shape[:2], self.H, dtype=x.dtype) < p).unbind(0)
        return lambda t, old, new: torch.where(masks[t], old, new)

    # ---- cells ---------------------------------------------------------------------------------------------

    def _lstm(self, x: Any, keep: Any, training: bool) -> Any:
        torch, p, v, H = self.torch, self.p, self.variation, self.H
        functional, sigmoids = torch.nn.functional, (2 if v.coupled else 3) * H
        R, limited, read = self._turned(training), self._limited(), self._read(x, training)
        of_h, of_c = self._zoned(x, training), self._zoned(x, training)
        x = self._input(x, training)
        if v.layer_norm:
            wx = functional.layer_norm(functional.linear(x, p["weight_ih"]), R.shape[1:], p["gain_ih"], p["bias_ih"])
        else:
            wx = functional.linear(x, p["weight_ih"], p["bias_ih"] + p["bias_hh"])
        peepholes = p["peephole"].view(-1, H) if v.peephole else None
        h = c = x.new_zeros(x.shape[1], H)
        h_all, c_all = [], []
        for t, z in enumerate(wx.unbind(0)):
            if keep is not None:
                h, c = h * keep[t], c * keep[t]
            if v.layer_norm:
                z = z + functional.layer_norm(read(h) @ R, R.shape[1:], p["gain_hh"], p["bias_hh"])
            else:
                z = torch.addmm(z, read(h), R)
            if peepholes is None:
                z = limited(z)
                *early, o = torch.sigmoid(z[:, :sigmoids]).chunk(sigmoids // H, 1)
                g = torch.tanh(z[:, sigmoids:])
            else:
                seen = z[:, : sigmoids - H].view(len(z), -1, H)  # of the gates that see the old c
                early = torch.sigmoid(limited(torch.addcmul(seen, peepholes[:-1], c[:, None]))).unbind(1)
                g = torch.tanh(limited(z[:, sigmoids:]))
            new = torch.lerp(c, g, early[0]) if v.coupled else torch.addcmul(early[1] * c, early[0], g)
            if peepholes is not None:
                o = torch.sigmoid(limited(torch.addcmul(z[:, sigmoids - H : sigmoids], peepholes[-1], new)))
            shown = functional.layer_norm(new, (H,), p["gain_c"], p["bias_c"]) if v.layer_norm else new
            h, c = of_h(t, h, o * torch.tanh(shown)), of_c(t, c, new)
            h_all.append(h)
            c_all.append(c)
        return torch.stack(h_all), (h, c), c_all

    def _gru(self, x: Any, keep: Any, training: bool) -> Any:
        torch, p, v, H = self.torch, self.p, self.variation, self.H
        functional, norm = torch.nn.functional, self._norm_gru
        R, limited, read = self._turned(training), self._limited(), self._read(x, training)
        zoned = self._zoned(x, training)
        x = self._input(x, training)
        h = x.new_zeros(x.shape[1], H)
        if v.layer_norm:
            of_rz, of_n = norm(functional.linear(x, p["weight_ih"]), "ih")
        else:
            of_rz, of_n = functional.linear(x, p["weight_ih"], p["bias_ih"]).split([2 * H, H], -1)
        y = []
        for t, (wx_rz, wx_n) in enumerate(zip(of_rz.unbind(0), of_n.unbind(0), strict=True)):
            if keep is not None:
                h = h * keep[t]
            if v.layer_norm:
                rh_rz, rh_n = norm(read(h) @ R, "hh")
            else:
                rh_rz, rh_n = torch.addmm(p["bias_hh"], read(h), R).split([2 * H, H], 1)
            r, z = torch.sigmoid(limited(wx_rz + rh_rz)).chunk(2, 1)
            n = torch.tanh(limited(torch.addcmul(wx_n, r, rh_n)))
            h = zoned(t, h, torch.lerp(n, h, z))
            y.append(h)
        return torch.stack(y), (h,), []

    def _norm_gru(self, z: Any, side: str) -> tuple[Any, ...]:
        """r and z are normalised together, n alone."""
        sizes = [2 * self.H, self.H]
        parts = (a.split(sizes, -1) for a in (z, self.p[f"gain_{side}"], self.p[f"bias_{side}"]))
        return tuple(
            self.torch.nn.functional.layer_norm(part, (size,), gain, bias)
            for size, part, gain, bias in zip(sizes, *parts, strict=True)
        )

    def _rnn(self, x: Any, keep: Any, training: bool) -> Any:
        torch, p, v = self.torch, self.p, self.variation
        functional = torch.nn.functional
        R, limited, read = self._turned(training), self._limited(), self._read(x, training)
        zoned = self._zoned(x, training)
        x = self._input(x, training)
        h = x.new_zeros(x.shape[1], self.H)
        if v.layer_norm:
            wx = functional.layer_norm(functional.linear(x, p["weight_ih"]), (self.H,), p["gain_ih"], p["bias_ih"])
        else:
            wx = functional.linear(x, p["weight_ih"], p["bias_ih"] + p["bias_hh"])
        y = []
        for t, z in enumerate(wx.unbind(0)):
            if keep is not None:
                h = h * keep[t]
            if v.layer_norm:
                z = z + functional.layer_norm(read(h) @ R, (self.H,), p["gain_hh"], p["bias_hh"])
            else:
                z = torch.addmm(z, read(h), R)
            h = zoned(t, h, torch.tanh(limited(z)))
            y.append(h)
        return torch.stack(y), (h,), []
