"""What is computed: shapes, cells and modes, their weights and data, and how many operations they take."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CELLS", "FLOAT64_SHAPES", "MODES", "SHAPES", "Case", "Data", "Shape", "grid"]

CELLS = {"lstm": 4, "gru": 3, "rnn": 1}  # cell: gates G
MODES = ("train", "infer", "step")


class Shape(NamedTuple):
    """Sizes of a layer call: T steps, B rows, I inputs, H units."""

    T: int
    B: int
    I: int
    H: int

    @classmethod
    def parse(cls, text: str) -> Shape:
        """Read ``T,B,I,H``.

        Examples
        --------
        >>> Shape.parse("128,32,256,256")
        Shape(T=128, B=32, I=256, H=256)
        """
        try:
            shape = cls(*map(int, text.split(",")))
        except (TypeError, ValueError):
            shape = cls(0, 0, 0, 0)
        if min(shape) < 1:
            raise ValueError(f"shape: expected T,B,I,H, four whole numbers >= 1, got {text!r}")
        return shape

    def __str__(self) -> str:
        return " ".join(f"{name}={size}" for name, size in self._asdict().items())


# From one step of a tiny layer to large layers; I=1 is an image read pixel by pixel, and a signal.
SHAPES = (
    Shape(1, 1, 16, 16),
    Shape(100, 1, 32, 32),
    Shape(500, 1, 128, 128),
    Shape(100, 8, 32, 32),
    Shape(50, 32, 64, 128),
    Shape(128, 32, 256, 256),
    Shape(128, 64, 512, 512),
    Shape(64, 64, 1024, 1024),
    Shape(784, 64, 1, 128),
    Shape(35, 20, 650, 650),
    Shape(1000, 8, 1, 128),
)
FLOAT64_SHAPES = (SHAPES[1], SHAPES[2], SHAPES[3], SHAPES[4], SHAPES[5])  # of the grid


class Data(NamedTuple):
    """Arguments of a call: the input, and in training the gradient that comes back."""

    x: NDArray[Any]  # [T, B, I]
    dy: NDArray[Any]  # [T, B, D·H]


@dataclass(frozen=True)
class Case:
    """One layer call to measure.

    Parameters
    ----------
    cell : {"lstm", "gru", "rnn"}
        The GRU has its reset after the product, the RNN is tanh's, as in PyTorch.
    shape : Shape
    mode : {"train", "infer", "step"}
        Training is the forward pass and every gradient: of the input and of all weights. A step is one time
        step whose state is carried on, as a stream's users do it; the shape's T becomes 1.
    dtype : {"float32", "float64"}
    num_layers : int
    bidirectional : bool
    lengths : tuple of int, optional
        Steps of each row of a ragged batch, [B].

    Examples
    --------
    >>> case = Case("lstm", Shape(128, 32, 256, 256))
    >>> case.flops == 3 * 2 * 128 * 32 * (256 + 256) * 4 * 256
    True
    >>> print(case)
    lstm train T=128 B=32 I=256 H=256
    """

    cell: str
    shape: Shape
    mode: str = "train"
    dtype: str = "float32"
    num_layers: int = 1
    bidirectional: bool = False
    lengths: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("cell", self.cell, tuple(CELLS)),
            ("mode", self.mode, MODES),
            ("dtype", self.dtype, ("float32", "float64")),
        ):
            if value not in choices:
                raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
        T, B, _, _ = self.shape
        if self.lengths is not None and (len(self.lengths) != B or not all(1 <= n <= T for n in self.lengths)):
            raise ValueError(f"lengths: expected {B} whole numbers from 1 to {T}, got {self.lengths}")
        if self.mode == "step":
            if self.bidirectional or self.lengths is not None:
                raise ValueError("mode: a single step has one direction and no lengths")
            object.__setattr__(self, "shape", self.shape._replace(T=1))

    def __str__(self) -> str:
        shape = str(self.shape) if self.mode != "step" else str(self.shape).removeprefix("T=1 ")
        text = f"{self.cell} {self.mode} {shape}"
        if self.num_layers > 1:
            text += f" layers={self.num_layers}"
        if self.bidirectional:
            text += " bidirectional"
        if self.lengths is not None:
            text += f" lengths {min(self.lengths)}…{max(self.lengths)}"
        return text if self.dtype == "float32" else f"{text} {self.dtype}"

    @property
    def training(self) -> bool:
        return self.mode == "train"

    def _inputs(self) -> Iterator[tuple[str, int]]:
        """The suffix of each layer-direction's weights, and how many inputs it reads."""
        directions = ("", "_reverse") if self.bidirectional else ("",)
        for layer in range(self.num_layers):
            for direction in directions:
                inputs = self.shape.I if layer == 0 else len(directions) * self.shape.H
                yield f"_l{layer}{direction}", inputs

    @property
    def flops(self) -> int:
        """Operations of the matrix products: 2·T·B·(I + H)·G·H a layer-direction, thrice that in training; with
        lengths their sum stands for T·B.

        A multiplication and an addition count as two. Activations don't count, so a share of the peak is
        never flattered by them.
        """
        T, B, _, H = self.shape
        steps = T * B if self.lengths is None else sum(self.lengths)
        forward = sum(2 * steps * (inputs + H) * CELLS[self.cell] * H for _, inputs in self._inputs())
        return 3 * forward if self.training else forward

    def weights(self, seed: int = 0) -> dict[str, NDArray[Any]]:
        """Return weights with PyTorch's names, layouts and initial distribution.

        Examples
        --------
        >>> weights = Case("gru", Shape(1, 1, 2, 3)).weights()
        >>> {name: w.shape for name, w in weights.items()}
        {'weight_ih_l0': (9, 2), 'weight_hh_l0': (9, 3), 'bias_ih_l0': (9,), 'bias_hh_l0': (9,)}
        """
        rng = np.random.default_rng(seed)
        H, rows = self.shape.H, CELLS[self.cell] * self.shape.H
        bound = 1 / math.sqrt(H)
        shapes: dict[str, tuple[int, ...]] = {}
        for suffix, inputs in self._inputs():
            shapes |= {f"weight_ih{suffix}": (rows, inputs), f"weight_hh{suffix}": (rows, H)}
            shapes |= {f"bias_ih{suffix}": (rows,), f"bias_hh{suffix}": (rows,)}
        return {name: rng.uniform(-bound, bound, shape).astype(self.dtype) for name, shape in shapes.items()}

    def data(self, seed: int = 1) -> Data:
        """Return normally distributed input and gradient."""
        rng = np.random.default_rng(seed)
        T, B, I, H = self.shape
        outputs = 2 * H if self.bidirectional else H
        return Data(*(rng.standard_normal((T, B, n)).astype(self.dtype) for n in (I, outputs)))


def grid(
    shapes: Sequence[Shape] = SHAPES,
    cells: Sequence[str] = tuple(CELLS),
    modes: Sequence[str] = ("train", "infer"),
    dtypes: Sequence[str] = ("float32",),
) -> list[Case]:
    """Return the cases of every combination, each once, a shape's together.

    Examples
    --------
    >>> [str(case) for case in grid([Shape(5, 1, 2, 3), Shape(9, 1, 2, 3)], ["gru"], ["step"])]
    ['gru step B=1 I=2 H=3']
    """
    cases = (Case(cell, shape, mode, dtype) for dtype in dtypes for shape in shapes for cell in cells for mode in modes)
    return list(dict.fromkeys(cases))
