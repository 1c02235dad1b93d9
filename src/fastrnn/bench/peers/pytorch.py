"""PyTorch's layers."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastrnn.bench.peers.base import Peer, Prepared
from fastrnn.bench.peers.ours import states

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastrnn.bench.cases import Case, Data

__all__ = ["PyTorch"]


class PyTorch(Peer):
    """`nn.LSTM`, `nn.GRU` and `nn.RNN`; gradients are set to None before each step, inference is in
    `inference_mode`."""

    name = "torch"
    package = "torch"

    def prepare(self, case: Case, weights: Mapping[str, NDArray[Any]], data: Data, threads: int) -> Prepared:
        torch: Any = importlib.import_module("torch")
        torch.set_num_threads(threads)
        kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[case.cell]
        dtype = getattr(torch, case.dtype)
        layer = kind(*case.shape[2:], case.num_layers, bidirectional=case.bidirectional, dtype=dtype)
        layer.load_state_dict({name: torch.tensor(w) for name, w in weights.items()})
        x, dy = torch.tensor(data.x, requires_grad=case.training), torch.tensor(data.dy)
        layer.train(case.training)

        def infer() -> Any:
            with torch.inference_mode():
                return layer(x)

        def train() -> Any:
            layer.zero_grad(set_to_none=True)
            x.grad = None
            outputs = layer(x)
            outputs[0].backward(dy)
            return outputs

        def arrays(result: Any) -> dict[str, NDArray[Any]]:
            y, state_n = result
            named = {"y": y, **states(state_n)}
            if case.training:
                named |= {"dx": x.grad, **{name: p.grad for name, p in layer.named_parameters()}}
            return {name: tensor.detach().numpy() for name, tensor in named.items()}

        return Prepared(train if case.training else infer, arrays)
