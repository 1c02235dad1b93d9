"""fastrnn's own layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

import fastrnn
from fastrnn.bench.peers.base import Peer, Prepared, states

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastrnn.bench.cases import Case, Data

__all__ = ["FastRNN"]


class FastRNN(Peer):
    """`fr.LSTM`, `fr.GRU` and `fr.RNN`; the gradients are zeroed in each step. A time step is a stream's."""

    name = title = package = "fastrnn"
    ragged = True

    def version(self) -> str | None:
        return fastrnn.__version__

    def declines(self, case: Case) -> str | None:
        if case.mode == "step" and not hasattr(fastrnn.LSTM, "stream"):
            return "this fastrnn has no streams"
        return super().declines(case)

    def prepare(self, case: Case, weights: Mapping[str, NDArray[Any]], data: Data, threads: int) -> Prepared:
        fastrnn.set_num_threads(threads)
        kinds: dict[str, Any] = {"lstm": fastrnn.LSTM, "gru": fastrnn.GRU, "rnn": fastrnn.RNN}
        layer = kinds[case.cell](
            *case.shape[2:], case.num_layers, bidirectional=case.bidirectional, dtype=case.dtype, seed=0
        )
        layer.load_state_dict(weights)
        x, dy = data
        lengths = None if case.lengths is None else np.array(case.lengths)
        if case.mode == "step":
            return _step(layer, case, x[0])

        def infer() -> Any:
            return layer(x, lengths=lengths)

        def train() -> Any:
            layer.zero_grads()
            outputs, pullback = layer.vjp(x, lengths=lengths)
            return outputs, pullback(dy)[0]

        def arrays(result: Any) -> dict[str, NDArray[Any]]:
            (y, state_n), *dx = result if case.training else (result,)
            named = {"y": y, **states(state_n)}
            return {**named, "dx": dx[0], **layer.grads} if case.training else named

        return Prepared(train if case.training else infer, arrays)


def _step(layer: Any, case: Case, x: NDArray[Any]) -> Prepared:
    stream = layer.stream(case.shape.B)
    y = np.empty((case.shape.B, case.shape.H), case.dtype)

    def step() -> Any:
        return stream.step(x, out=y)

    return Prepared(step, lambda _: {"y": y})
