"""RNN, LSTM and GRU: PyTorch's modules with another `forward`."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.fx
from torch.nn.utils.rnn import PackedSequence

from fastrnn.interop.torch import _operator, _run, _unsupported
from fastrnn.interop.torch._function import Recurrent

_PLAIN, _DTYPES = _unsupported.PLAIN, _unsupported.DTYPES


class Fast:
    """What the three share. Everything but `forward` is PyTorch's."""

    _fastrnn_unsupported = "warn"  # `accelerate` sets it

    def forward(self: Any, input: Any, hx: Any = None) -> Any:
        """As `forward` of the module of torch.nn, with the same arguments, results and errors."""
        if torch.compiler.is_compiling():
            return _operator.forward(self, input, hx)
        weights = self._fastrnn_weights()
        if isinstance(input, PackedSequence):
            return self._fastrnn_packed(input, hx, weights)
        if not (self._fastrnn_fits(input, hx, weights) and self._fastrnn_free()):
            return self._fastrnn_otherwise(input, hx, input, weights)
        return self._fastrnn_run(input, hx, None, weights)

    def _fastrnn_weights(self: Any) -> list[Any]:
        """The weights as they are now, by their names: parametrisations and pruning put others in their places."""
        own = self._parameters
        found = [own.get(name) for name in self._flat_weights_names]
        if any([weight is None for weight in found]):
            found = [getattr(self, name) for name in self._flat_weights_names]
        return found

    def _fastrnn_fits(self: Any, data: Any, hx: Any, weights: list[Any], batch: int | None = None) -> bool:
        """Whether arguments are what the kernels take: `data` is [T, B, I], [T, I] or (with `batch`) packed."""
        if type(data) not in _PLAIN or not data.is_cpu or data.layout is not torch.strided:
            return False
        dtype, shape = data.dtype, data.shape
        if dtype not in _DTYPES or shape[-1] != self.input_size or 0 in shape:
            return False
        if batch is None and len(shape) == 3:
            batch = shape[0 if self.batch_first else 1]
        elif len(shape) != 2:
            return False
        for weight in weights:
            if type(weight) not in _PLAIN or weight.dtype is not dtype or not weight.is_cpu:
                return False
        return hx is None or self._fastrnn_states_fit(hx, dtype, batch)

    def _fastrnn_states_fit(self: Any, hx: Any, dtype: Any, batch: int | None) -> bool:
        rows = self.num_layers * (2 if self.bidirectional else 1)
        middle = () if batch is None else (batch,)
        sizes = (self.proj_size or self.hidden_size, self.hidden_size)
        if self.mode != "LSTM":
            hx = (hx,)
        elif not isinstance(hx, tuple | list) or len(hx) != 2:
            return False
        return all(
            [
                type(state) in _PLAIN
                and state.shape == (rows, *middle, size)
                and state.dtype is dtype
                and state.is_cpu
                and state.layout is torch.strided
                for state, size in zip(hx, sizes, strict=False)
            ]
        )

    def _fastrnn_free(self: Any) -> bool:
        """Whether nothing else is going on that must see PyTorch's operators."""
        return (
            not torch._C._is_any_autocast_enabled()
            and torch._C._get_tracing_state() is None
            and _unsupported.elsewhere() is None
            and not (self.dropout >= 1 and self.training and self.num_layers > 1)
        )

    def _fastrnn_run(self: Any, x: Any, hx: Any, lengths: Any, weights: list[Any]) -> Any:
        """Arguments that fit, on the kernels; x is padded where there are lengths."""
        is_lstm = self.mode == "LSTM"
        h_0, c_0 = (None, None) if hx is None else hx if is_lstm else (hx, None)
        unbatched = x.dim() == 2
        rate = self.dropout if self.training and self.num_layers > 1 else 0.0
        spec = _run.Spec(
            self.mode,
            2 if self.bidirectional else 1,
            self.bias,
            self.proj_size > 0,
            self.batch_first and not unbatched and lengths is None,
            unbatched,
            rate,
            int(torch.randint(_run.SEEDS, (), device="cpu")) if rate else 0,
        )
        tensors = (x, h_0, c_0, *weights)
        if torch.is_grad_enabled() and any([t is not None and t.requires_grad for t in tensors]):
            y, *state = Recurrent.apply(spec, lengths, self._fastrnn_unsupported, *tensors)
            return y, (tuple(state) if is_lstm else state[0])
        y, h_n, c_n, _ = _run.forward(spec, x, h_0, c_0, lengths, weights, False)
        return y, ((h_n, c_n) if is_lstm else h_n)

    def _fastrnn_packed(self: Any, packed: Any, hx: Any, weights: list[Any]) -> Any:
        data, batch_sizes, sorted_indices, unsorted_indices = packed
        given = hx
        if hx is not None:
            hx = self.permute_hidden(hx, sorted_indices)
        if not (self._fastrnn_fits(data, hx, weights, int(batch_sizes[0])) and self._fastrnn_free()):
            return self._fastrnn_otherwise(packed, given, data, weights)
        padded, lengths = torch._VF._pad_packed_sequence(data, batch_sizes, False, 0.0, len(batch_sizes))
        y, state = self._fastrnn_run(padded, hx, lengths, weights)
        found = torch._VF._pack_padded_sequence(y, lengths, False)[0]
        return (
            PackedSequence(found, batch_sizes, sorted_indices, unsorted_indices),
            self.permute_hidden(state, unsorted_indices),
        )

    def _fastrnn_otherwise(self: Any, input: Any, hx: Any, data: Any, weights: list[Any]) -> Any:
        """PyTorch's own forward: for what is unsupported, and for the errors of bad arguments."""
        if torch._C._get_tracing_state() is not None:  # a trace is one of PyTorch's operators
            return self._fastrnn_plain(input, hx)
        if isinstance(data, torch.fx.Proxy) and data.tracer.root is not self:  # torch.fx doesn't look into torch.nn's
            given = (input,) if hx is None else (input, hx)
            return data.tracer.create_proxy("call_module", data.tracer.path_of_module(self), given, {})
        if torch.is_autocast_enabled("cpu"):
            from fastrnn.interop.torch import _autocast

            if _autocast.can(data, hx, weights):
                return _autocast.forward(self, input, hx)
        reason = _unsupported.reason(data, hx, weights)
        if reason is None and self.dropout >= 1 and self.training and self.num_layers > 1:
            reason = "everything between its layers is dropped"
        if reason is not None:
            _unsupported.say(self._fastrnn_unsupported, f"this {self.mode}", reason)
        return self._fastrnn_plain(input, hx)

    def _fastrnn_plain(self: Any, input: Any, hx: Any) -> Any:
        """PyTorch's own `forward`."""
        return super().forward(input, hx)  # type: ignore[misc]

    def __prepare_scriptable__(self: Any) -> Any:
        """What torch.jit.script compiles: PyTorch's own module, with the same parameters."""
        from fastrnn.interop.torch._accelerate import restore

        plain = copy.copy(self)
        return restore(plain)


class RNN(Fast, torch.nn.RNN):
    """`torch.nn.RNN` on fastrnn's kernels."""


class LSTM(Fast, torch.nn.LSTM):
    """`torch.nn.LSTM` on fastrnn's kernels."""


class GRU(Fast, torch.nn.GRU):
    """`torch.nn.GRU` on fastrnn's kernels."""
