"""Sequential: layers one after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

from fastrnn import _check
from fastrnn._pullback import Pullback
from fastrnn.nn._layer import Layer, from_spec, to_spec
from fastrnn.nn._random import Seed, split
from fastrnn.nn._recurrent import Recurrent

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastrnn.nn.layer_stream import LayerStream
    from fastrnn.nn.stream import Stream


class Sequential(Layer):
    """Layers one after another, each fed with the output of the one before.

    `lengths` go to every layer that takes them, until one removes the time axis (`Last`, `MeanPool`,
    `MaxPool`). States go in and come out as a tuple with one entry for each recurrent layer. Without any
    recurrent layer there is no state, and call and pullback return an array alone.

    Parameters
    ----------
    *members : Layer
        At least one. The same layer may come twice: its parameters then count once.
    layers : list of dict, optional
        Instead of members: what `config()` returns.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> model = fr.Sequential(fr.Embedding(50, 8), fr.MeanPool(), fr.Linear(8, 2))
    >>> list(model.params)
    ['0.weight', '2.weight', '2.bias']
    >>> model(np.zeros((7, 4), int), lengths=[7, 5, 1, 0]).shape
    (4, 2)
    """

    takes_lengths = True
    _in_order = True  # see stream.py
    takes_dropout = True

    def __init__(self, *members: Layer, layers: list[Mapping[str, Any]] | None = None) -> None:
        super().__init__()
        if layers is not None:
            members = tuple(_rebuild(layers)) + members
        _check.members(members, Layer)
        self._members = members
        self.dtype = next((layer.dtype for layer in members if layer.dtype is not None), None)
        self.is_recurrent = any(layer.is_recurrent for layer in members)
        self.removes_time = any(layer.removes_time for layer in members)
        self._recurrent = sum(layer.is_recurrent for layer in members)
        # Once a layer has parameters, those after it must hand their gradient down.
        self._below = [any(layer.num_params for layer in members[:k]) for k in range(len(members))]
        # Walking costs a fifth of a small training step. Children of a user's class may change. Self is left out: in a
        # cycle a model's memory would wait for the garbage collector.
        below = [(prefix, layer) for prefix, layer in super()._walk() if layer is not self]
        ours = (Layer.children, Sequential.children)
        self._walked = below if all(type(layer).children in ours for _, layer in below) else None

    @property
    def children(self) -> dict[str, Layer]:
        return {str(position): layer for position, layer in enumerate(self._members)}

    def _walk(self, prefix: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Layer]]:
        if self._walked is None or prefix or seen is not None:
            return super()._walk(prefix, seen)
        return chain((("", self),), self._walked)

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._members)

    def __getitem__(self, position: int) -> Layer:
        return self._members[position]

    def __call__(
        self,
        x: ArrayLike,
        state: tuple[Any, ...] | None = None,
        *,
        lengths: ArrayLike | None = None,
        dropout: bool = False,
    ) -> Any:
        """Run all layers.

        Parameters
        ----------
        x : array
            What the first layer takes.
        state : tuple, optional
            For each recurrent layer its state, or None for zeros.
        lengths : array of integers, [B], optional
        dropout : bool
            Apply dropout, with a fresh mask.

        Returns
        -------
        y, or (y, state) with a recurrent layer
        """
        states = iter(self._states(state, "state"))
        finals = []
        y: Any = x
        for layer in self._members:
            options: dict[str, Any] = {}
            if layer.takes_lengths:
                options["lengths"] = lengths
            if layer.takes_dropout:
                options["dropout"] = dropout
            if layer.is_recurrent:
                y, final = layer(y, next(states), **options)
                finals.append(final)
            else:
                y = layer(y, **options)
            if layer.removes_time:
                lengths = None
        return (y, tuple(finals)) if self.is_recurrent else y

    def vjp(
        self,
        x: ArrayLike,
        state: tuple[Any, ...] | None = None,
        *,
        lengths: ArrayLike | None = None,
        dropout: bool = True,
        seed: Seed = None,
        checkpoint: int | None = None,
        input_grad: bool = True,
        retain: bool = False,
    ) -> tuple[Any, Pullback]:
        """Run all layers and return what gives the gradients.

        Parameters
        ----------
        x, state, lengths
            As in the call; `x` is held by reference.
        dropout : bool
            Apply dropout.
        seed : None, int or numpy.random.Generator
            Each layer gets a seed of its own made from this one.
        checkpoint : int, optional
            Handed to the recurrent layers.
        input_grad : bool
            Compute the gradient of `x`.
        retain : bool
            Allow the pullback to run more than once.

        Returns
        -------
        outputs
            y, or (y, state) with a recurrent layer.
        pullback : callable
            `pullback(dy)` returns `dx`. With a recurrent layer `pullback(dy=None, dstate=None)` returns
            `(dx, dstate_0)`; a gradient that is None counts as zero.
        """
        states = iter(self._states(state, "state"))
        seeds = self._seeds(seed) if dropout else [None] * len(self._members)
        finals, pullbacks = [], []
        y: Any = x
        for layer, layer_seed, below in zip(self._members, seeds, self._below, strict=True):
            options: dict[str, Any] = {"input_grad": input_grad or below, "retain": retain}
            if layer.takes_lengths:
                options["lengths"] = lengths
            if layer.takes_dropout:
                options.update(dropout=dropout, seed=layer_seed)
            if layer.is_recurrent:
                (y, final), pullback = layer.vjp(y, next(states), checkpoint=checkpoint, **options)
                finals.append(final)
            else:
                y, pullback = layer.vjp(y, **options)
            pullbacks.append(pullback)
            if layer.removes_time:
                lengths = None
        outputs = (y, tuple(finals)) if self.is_recurrent else y

        def run(dy: ArrayLike | None = None, dstate: tuple[Any, ...] | None = None) -> Any:
            return self._pull(pullbacks, dy, dstate)

        return outputs, Pullback(run, "Sequential", retain)

    def _seeds(self, seed: Seed) -> list[int | None]:
        # Making seeds takes longer than the small layers that would get them; a Generator moves on in any case.
        if isinstance(seed, int) and seed >= 0 and not any(map(_draws, self._members)):
            return [None] * len(self._members)
        return split(seed, len(self._members))

    def _pull(self, pullbacks: list[Pullback], dy: Any, dstate: tuple[Any, ...] | None) -> Any:
        dstates = list(self._states(dstate, "dstate"))
        if dy is None and not self.is_recurrent:
            raise _check.no_gradient("Sequential")
        initials: list[Any] = []
        for layer, pullback in zip(reversed(self._members), reversed(pullbacks), strict=True):
            if layer.is_recurrent:
                dy, initial = pullback(dy, dstates.pop())
                initials.append(initial)
            elif dy is not None:
                dy = pullback(dy)
        return (dy, tuple(reversed(initials))) if self.is_recurrent else dy

    def _states(self, state: Any, name: str) -> tuple[Any, ...]:
        return _check.member_states(state, self._recurrent, name)

    def stream(self, batch_size: int = 1) -> Stream | LayerStream:
        """Run all layers one time step a call, with their weights packed once.

        Parameters
        ----------
        batch_size : int
            B: rows that move on together.

        Returns
        -------
        Stream or LayerStream
            With the methods `step`, `run`, `reset` and `refresh`.

        Raises
        ------
        ValueError
            No layer is recurrent, one needs the whole sequence (a second direction, a pooling layer), or their sizes
            don't fit.
        """
        from fastrnn.nn.layer_stream import stream_of

        return stream_of(self, batch_size)

    def config(self) -> dict[str, Any]:
        """`{"layers": [...]}`: how to rebuild each layer, or where it came before."""
        specs: list[dict[str, Any]] = []
        owner: dict[int, int] = {}
        for position, layer in enumerate(self._members):
            first = owner.get(id(layer))
            if first is not None and self._members[first] is layer:
                specs.append({"same_as": first})
                continue
            for prefix, below in layer._walk(f"{position}."):
                if owner.setdefault(id(below), position) != position:
                    raise _check.shared_across(prefix.rstrip("."))
            specs.append(to_spec(layer))
        return {"layers": specs}

    def __repr__(self) -> str:
        lines = [f"  {name}: " + repr(layer).replace("\n", "\n  ") for name, layer in self.children.items()]
        return "Sequential(\n" + "\n".join(lines) + "\n)"


def _draws(layer: Layer) -> bool:
    """Whether a layer may use the seed that it is given."""
    if isinstance(layer, Recurrent) and type(layer).vjp is Recurrent.vjp:
        return layer.dropout > 0 and layer.num_layers > 1
    if isinstance(layer, Sequential) and type(layer).vjp is Sequential.vjp:
        return any(map(_draws, layer))
    return layer.takes_dropout


def _rebuild(specs: list[Mapping[str, Any]]) -> list[Layer]:
    layers: list[Layer] = []
    for spec in specs:
        layers.append(layers[spec["same_as"]] if "same_as" in spec else from_spec(spec))
    return layers
