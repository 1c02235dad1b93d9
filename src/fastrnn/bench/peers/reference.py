"""The reference in plain NumPy: what anyone would write, and what fastrnn is proved against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import reference
from fastrnn.bench.peers.base import Peer, Prepared, states

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastrnn.bench.cases import Case, Data

__all__ = ["NumPy"]

MOST_FLOPS = 1e11  # beyond this a step takes seconds


class NumPy(Peer):
    """`fastrnn.reference`. Its matrix products have as many threads as NumPy's BLAS was started with (for
    OpenBLAS, `OPENBLAS_NUM_THREADS`)."""

    name = package = "numpy"
    title = "NumPy"
    ragged = True

    def declines(self, case: Case) -> str | None:
        return "the NumPy reference is too slow for this shape" if case.flops > MOST_FLOPS else super().declines(case)

    def prepare(self, case: Case, weights: Mapping[str, NDArray[Any]], data: Data, threads: int) -> Prepared:
        cell = "rnn_tanh" if case.cell == "rnn" else case.cell
        weights = {name: w.copy() for name, w in weights.items()}
        options: Any = {"num_layers": case.num_layers, "bidirectional": case.bidirectional}
        options["lengths"] = None if case.lengths is None else np.array(case.lengths)
        x, dy = data
        state: Any = None

        def step() -> Any:
            nonlocal state
            y, state = reference.stack(cell, x, state, weights, **options)
            return y[0]

        def infer() -> Any:
            return reference.stack(cell, x, None, weights, **options)

        def train() -> Any:
            outputs, pullback = reference.stack_vjp(cell, x, None, weights, **options)
            dx, _, grads = pullback(dy)
            return outputs, dx, grads

        def arrays(result: Any) -> dict[str, NDArray[Any]]:
            if case.mode == "step":
                return {"y": result}
            (y, state_n), dx, grads = result if case.training else (result, None, {})
            named = {"y": y, **states(state_n)}
            return {**named, "dx": dx, **grads} if case.training else named

        return Prepared({"train": train, "infer": infer, "step": step}[case.mode], arrays)
