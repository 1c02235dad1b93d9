"""PyTorch's layers."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fastrnn.bench.peers.base import Peer, Prepared, states
from fastrnn.bench.timing import timed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastrnn.bench.cases import Case, Data

__all__ = ["PyTorch"]


class PyTorch(Peer):
    """`nn.LSTM`, `nn.GRU` and `nn.RNN`; gradients are set to None before each step, inference is in
    `inference_mode`, lengths go through packed sequences. A time step is the faster of a layer and a cell."""

    name = package = "torch"
    title = "PyTorch"
    ragged = True

    def prepare(self, case: Case, weights: Mapping[str, NDArray[Any]], data: Data, threads: int) -> Prepared:
        torch: Any = importlib.import_module("torch")
        torch.set_num_threads(threads)
        kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[case.cell]
        dtype = getattr(torch, case.dtype)
        layer = kind(*case.shape[2:], case.num_layers, bidirectional=case.bidirectional, dtype=dtype)
        layer.load_state_dict({name: torch.tensor(w) for name, w in weights.items()})
        x, dy = torch.tensor(data.x, requires_grad=case.training), torch.tensor(data.dy)
        layer.train(case.training)
        if case.mode == "step":
            return _step(torch, layer, case, weights, x)
        call = layer if case.lengths is None else _packed(torch, layer, case.lengths)

        def infer() -> Any:
            with torch.inference_mode():
                return call(x)

        def train() -> Any:
            layer.zero_grad(set_to_none=True)
            x.grad = None
            outputs = call(x)
            outputs[0].backward(dy)
            return outputs

        def arrays(result: Any) -> dict[str, NDArray[Any]]:
            y, state_n = result
            named = {"y": y, **states(state_n)}
            if case.training:
                named |= {"dx": x.grad, **{name: p.grad for name, p in layer.named_parameters()}}
            return {name: tensor.detach().numpy() for name, tensor in named.items()}

        return Prepared(train if case.training else infer, arrays)


def _packed(torch: Any, layer: Any, lengths: tuple[int, ...]) -> Callable[[Any], Any]:
    """What PyTorch's users do with lengths: pack, run, pad."""
    rnn = torch.nn.utils.rnn
    steps = torch.tensor(lengths)

    def call(x: Any) -> Any:
        y, state_n = layer(rnn.pack_padded_sequence(x, steps, enforce_sorted=False))
        return rnn.pad_packed_sequence(y, total_length=len(x))[0], state_n

    return call


def _step(torch: Any, layer: Any, case: Case, weights: Mapping[str, NDArray[Any]], x: Any) -> Prepared:
    """The faster of the layer on one step and, for one layer, the cell; both carry their state on."""

    def of_layer() -> Callable[[], Any]:
        state: Any = None

        def step() -> Any:
            nonlocal state
            with torch.inference_mode():
                y, state = layer(x, state)
            return y[0]

        return step

    def of_cell() -> Callable[[], Any]:
        kind = {"lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell, "rnn": torch.nn.RNNCell}[case.cell]
        cell = kind(*case.shape[2:], dtype=x.dtype)
        cell.load_state_dict({name.removesuffix("_l0"): torch.tensor(w) for name, w in weights.items()})
        state: Any = None
        x_0 = x[0]
        gated = case.cell == "lstm"

        def step() -> Any:
            nonlocal state
            with torch.inference_mode():
                state = cell(x_0, state)
            return state[0] if gated else state

        return step

    choices = [of_layer, of_cell] if case.num_layers == 1 else [of_layer]

    def cost(choice: Callable[[], Callable[[], Any]]) -> float:
        step = choice()
        timed(step, 20)
        return min(timed(step, 50) for _ in range(3))

    best = min(choices, key=cost) if len(choices) > 1 else choices[0]
    return Prepared(best(), lambda y: {"y": y.numpy()})
