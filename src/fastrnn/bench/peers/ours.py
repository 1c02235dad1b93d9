"""fastrnn's own layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import fastrnn
from fastrnn.bench.peers.base import Peer, Prepared

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastrnn.bench.cases import Case, Data

__all__ = ["FastRNN", "states"]


def states(state_n: Any) -> dict[str, Any]:
    """The final state under its names."""
    return dict(zip(("h_n", "c_n"), state_n if isinstance(state_n, tuple) else (state_n,), strict=False))


class FastRNN(Peer):
    """`fr.LSTM`, `fr.GRU` and `fr.RNN`; the gradients are zeroed in each step."""

    name = "fastrnn"
    package = "fastrnn"

    def version(self) -> str | None:
        return fastrnn.__version__

    def prepare(self, case: Case, weights: Mapping[str, NDArray[Any]], data: Data, threads: int) -> Prepared:
        fastrnn.set_num_threads(threads)
        kinds: dict[str, Any] = {"lstm": fastrnn.LSTM, "gru": fastrnn.GRU, "rnn": fastrnn.RNN}
        layer = kinds[case.cell](
            *case.shape[2:], case.num_layers, bidirectional=case.bidirectional, dtype=case.dtype, seed=0
        )
        layer.load_state_dict(weights)
        x, dy = data

        def infer() -> Any:
            return layer(x)

        def train() -> Any:
            layer.zero_grads()
            outputs, pullback = layer.vjp(x)
            return outputs, pullback(dy)[0]

        def arrays(result: Any) -> dict[str, NDArray[Any]]:
            (y, state_n), *dx = result if case.training else (result,)
            named = {"y": y, **states(state_n)}
            return {**named, "dx": dx[0], **layer.grads} if case.training else named

        return Prepared(train if case.training else infer, arrays)
