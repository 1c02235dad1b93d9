"""Variants of the built-in cells in training: what each costs beside the plain cell, and beside a loop in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

import fastrnn
from fastrnn.bench.agree import Disagreement, check
from fastrnn.bench.cases import Shape
from fastrnn.bench.layers import Sides
from fastrnn.bench.measure import Turns, in_turn
from fastrnn.bench.peers import choose
from fastrnn.bench.peers.base import states
from fastrnn.bench.peers.torch_loops import TorchLoop, Variation

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SHAPE", "VARIANTS", "NotHere", "Variant", "prepare", "timed"]

SHAPE = Shape(100, 32, 64, 128)
Arrays = dict[str, "NDArray[Any]"]


class NotHere(ValueError):
    """This version of fastrnn doesn't have the variant."""


@dataclass(frozen=True)
class Variant:
    """One row of the benchmark.

    Attributes
    ----------
    name : str
    cell : {"lstm", "gru", "rnn"}
    variation : Variation
        Arguments of the layer.
    resets : bool
        With a `reset_mask`: each step begins an episode with probability 1/20.
    all_states : bool
        With `return_all_states`, and gradients of every state.
    of_plain : float, optional
        At most so many times the plain cell's time is wanted.
    over_torch : float, optional
        At least so many times as fast as the loop in PyTorch is wanted.
    """

    name: str
    cell: str = "lstm"
    variation: Variation = field(default_factory=Variation)
    resets: bool = False
    all_states: bool = False
    of_plain: float | None = None
    over_torch: float | None = None

    def __str__(self) -> str:
        return f"{self.cell} {self.name}"

    @property
    def random(self) -> bool:
        """Whether training draws masks."""
        v = self.variation
        return any((v.zoneout, v.recurrent_dropout, v.input_dropout, v.weight_dropout))

    def options(self) -> dict[str, Any]:
        """Arguments of the layer."""
        plain = asdict(Variation())
        return {name: value for name, value in asdict(self.variation).items() if value != plain[name]}


def _variants() -> tuple[Variant, ...]:
    near = 1.25  # times the plain cell
    found = [
        Variant("plain"),
        Variant("layer_norm", variation=Variation(layer_norm=True), of_plain=1.5, over_torch=6.0),
        Variant("peephole", variation=Variation(peephole=True), of_plain=near),
        Variant("coupled", variation=Variation(coupled=True), of_plain=near),
    ]
    for cell in ("lstm", "gru", "rnn"):
        if cell != "lstm":
            found += [Variant("plain", cell), Variant("layer_norm", cell, Variation(layer_norm=True))]
        found += [
            Variant("clip", cell, Variation(clip=0.8), of_plain=near),
            Variant("zoneout", cell, Variation(zoneout=0.1), of_plain=near),
            Variant("recurrent_dropout", cell, Variation(recurrent_dropout=0.3), of_plain=near),
            Variant("reset_mask", cell, resets=True, of_plain=near),
            Variant("input_dropout", cell, Variation(input_dropout=0.3)),
            Variant("weight_dropout", cell, Variation(weight_dropout=0.5)),
            Variant("return_all_states", cell, all_states=True),
        ]
    return tuple(found)


VARIANTS = _variants()


@dataclass(frozen=True)
class _Data:
    """Arguments of the calls; gradients of y and of every state, and the mask of resets."""

    x: NDArray[Any]
    dy: NDArray[Any]
    dstates: tuple[NDArray[Any], ...]
    reset_mask: NDArray[np.bool_] | None

    @classmethod
    def of(cls, variant: Variant, shape: Shape) -> _Data:
        rng = np.random.default_rng(1)
        T, B, I, H = shape
        x, dy = (rng.standard_normal((T, B, n), np.float32) for n in (I, H))
        kinds = (2 if variant.cell == "lstm" else 1) if variant.all_states else 0
        dstates = tuple(rng.standard_normal((T, B, H), np.float32) for _ in range(kinds))
        return cls(x, dy, dstates, rng.random((T, B)) < 0.05 if variant.resets else None)


@dataclass(frozen=True)
class _Side:
    """A training step, what it computed, and inference."""

    train: Callable[[], Any]
    results: Callable[[Any], Arrays]
    infer: Callable[[], Arrays]


def _new(variant: Variant, shape: Shape) -> Any:
    """fastrnn's layer, with weights of which none is 0 or 1."""
    kinds: dict[str, Any] = {"lstm": fastrnn.LSTM, "gru": fastrnn.GRU, "rnn": fastrnn.RNN}
    try:
        layer = kinds[variant.cell](shape.I, shape.H, seed=0, **variant.options())
    except TypeError as error:
        raise _not_here(variant, error) from None
    rng = np.random.default_rng(2)
    for name, array in layer.params.items():
        if name.startswith(("gain", "peephole", "bias_c")):
            array += rng.uniform(-0.2, 0.2, array.shape).astype(array.dtype)
        if name.startswith("gain_hh"):  # at 1 the recurrence is chaotic: a rounding grows a thousandfold in 100 steps
            array *= 0.3
    return layer


def _not_here(variant: Variant, error: TypeError) -> Exception:
    return NotHere(f"{variant}: {error}") if "unexpected keyword argument" in str(error) else error


def _ours(variant: Variant, shape: Shape, data: _Data) -> tuple[Any, _Side]:
    layer = _new(variant, shape)
    call: dict[str, Any] = {} if data.reset_mask is None else {"reset_mask": data.reset_mask}
    if variant.all_states:
        call["return_all_states"] = True
    dstates: tuple[Any, ...] = ()
    if variant.all_states:
        each = tuple(d[None] for d in data.dstates)  # a layer of its own
        dstates = (None, each if len(each) > 1 else each[0])

    def train() -> Any:
        layer.zero_grads()
        outputs, pullback = layer.vjp(data.x, **call)
        return outputs, pullback(data.dy, *dstates)[0]

    def named(outputs: Any) -> Arrays:
        y, state_n, *every = outputs
        found = {"y": y, **{name: array[0] for name, array in states(state_n).items()}}
        if every:
            found["every c" if variant.cell == "lstm" else "every h"] = states(every[0]).popitem()[1][0]
        return found

    def results(result: Any) -> Arrays:
        return {**named(result[0]), "dx": result[1], **{name: grad.copy() for name, grad in layer.grads.items()}}

    return layer, _Side(train, results, lambda: named(layer(data.x, **call)))


def _theirs(variant: Variant, weights: Arrays, data: _Data, threads: int) -> _Side:
    loop = TorchLoop(variant.cell, weights, variant.variation, threads)
    torch = loop.torch
    x = torch.tensor(data.x, requires_grad=True)
    mask = None if data.reset_mask is None else torch.tensor(data.reset_mask)
    # y is every h: their gradients add up
    dy = torch.tensor(data.dy + data.dstates[0] if data.dstates else data.dy)
    of_every_c = [torch.tensor(each) for each in data.dstates[1:]]

    def train() -> Any:
        loop.zero_grad()
        x.grad = None
        y, state, every_c = loop(x, mask)
        stacked = [torch.stack(every_c)] if of_every_c else []
        torch.autograd.backward([y, *stacked], [dy, *of_every_c])
        return y, state, stacked

    def named(y: Any, state: Any, stacked: Any) -> Arrays:
        found = {"y": y, **states(state)}
        if variant.all_states:
            found |= {"every c": stacked[0]} if stacked else {"every h": y}
        return {name: tensor.detach().numpy() for name, tensor in found.items()}

    def results(result: Any) -> Arrays:
        return {**named(*result), "dx": x.grad.numpy(), **loop.grads()}

    def infer() -> Arrays:
        with torch.inference_mode():
            y, state, every_c = loop(x, mask, training=False)
        return named(y, state, [torch.stack(every_c)] if of_every_c else [])

    return _Side(train, results, infer)


def prepare(variant: Variant, shape: Shape = SHAPE, threads: int = 1) -> Sides:
    """Prepare training steps: ``fastrnn`` and, where it is there, ``torch`` run the variant, ``plain`` the plain cell.

    What both compute is compared first. Masks differ, so of a variant that draws some the inference is compared, which
    has their expectation instead, and each side has to train otherwise than it infers.

    Raises
    ------
    NotHere
        fastrnn doesn't have the variant.
    Disagreement
        PyTorch computes something else.

    Examples
    --------
    >>> sides = prepare(VARIANTS[0], Shape(2, 1, 3, 4))
    >>> [name for name in sides.runs if name != "torch"]
    ['fastrnn', 'plain']
    """
    fastrnn.set_num_threads(threads)
    data = _Data.of(variant, shape)
    layer, ours = _ours(variant, shape, data)
    try:
        first = {"fastrnn": ours.results(ours.train())}
    except TypeError as error:
        raise _not_here(variant, error) from None
    plain_variant = Variant("plain", variant.cell)
    _, plain = _ours(plain_variant, shape, _Data.of(plain_variant, shape))
    runs = {"fastrnn": ours.train, "plain": plain.train}
    peers, skipped = choose(["torch"])
    if not peers:
        return Sides(runs, skipped)
    theirs = _theirs(variant, layer.state_dict(), data, threads)
    runs["torch"] = theirs.train
    first["torch"] = theirs.results(theirs.train())
    if not variant.random:
        return Sides(runs, skipped, check(first, "float32", str(variant)))
    inferred = {"fastrnn": ours.infer(), "torch": theirs.infer()}
    for name, arrays in inferred.items():
        if np.allclose(arrays["y"], first[name]["y"]):
            raise Disagreement(f"{variant}: {name} draws no masks in training")
    return Sides(runs, skipped, check(inferred, "float32", f"{variant}, inference"))


def timed(runs: Mapping[str, Callable[[], Any]], repeat: int, turn_seconds: float) -> Turns:
    """Time two layers of fastrnn and PyTorch in turn, so that PyTorch's turn comes before each of the two.

    In turns A B C A B C, of which the first two were the same layer, the one after PyTorch took a tenth longer: caches
    and threads are not as it left them.

    Raises
    ------
    RuntimeError
        A side failed.

    Examples
    --------
    >>> sorted(timed({"a": lambda: 1, "torch": lambda: 2, "b": lambda: 3}, 2, 0.0).seconds)
    ['a', 'b', 'torch']
    """
    again = "torch, again"
    sides = {}
    for name in runs:
        if name != "torch":
            if "torch" in runs:
                sides[again if "torch" in sides else "torch"] = runs["torch"]
            sides[name] = runs[name]
    turns = in_turn(sides, repeat=repeat, turn_seconds=turn_seconds)
    if turns.failed:
        raise RuntimeError("; ".join(turns.failed.values()))
    turns.seconds.pop(again, None)
    return turns
