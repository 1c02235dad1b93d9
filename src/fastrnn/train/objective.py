"""What a training step computes: from a batch to a loss, gradients, and a carried state."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastrnn.nn import ops
from fastrnn.nn._layer import Layer
from fastrnn.nn._tape import Tape
from fastrnn.nn._variable import Variable
from fastrnn.nn.model import Model, pull_loss
from fastrnn.train.data import Batch

__all__ = ["Objective", "Result", "as_batch", "sizes"]


_KEYWORDS = ("state", "seed", "train", "lengths", "weight", "batch_first")


def as_batch(item: Any) -> Batch:
    """Return an item of the data as a Batch, or say what it should have been."""
    if isinstance(item, Batch):
        return item
    if isinstance(item, tuple | list) and 1 <= len(item) <= 4:
        return Batch(*item)
    raise TypeError(
        "data: expected batches, fr.Batch(x, target, lengths=None, weight=None) or such tuples, "
        f"got {type(item).__name__}; one batch alone is [(x, target)], and "
        "fr.ArrayBatches and fr.SequenceBatches make batches of arrays and of lists of sequences"
    )


def _keywords(function: Callable[..., Any]) -> tuple[list[str], bool]:
    """Return the names of a function's parameters and whether it takes any keyword."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # compiled functions may hide theirs
        return [], True
    return [p.name for p in parameters], any(p.kind is p.VAR_KEYWORD for p in parameters)


def _check_form(loss: Callable[..., Any]) -> None:
    """Raise for a function that can't be called with two arguments."""
    try:
        signature = inspect.signature(loss)
    except (TypeError, ValueError):  # compiled functions may hide theirs
        return
    try:
        signature.bind(None, None)
    except TypeError:
        keywords = [p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
        if keywords:  # such as `seed`, which is handed on by name
            return
        raise TypeError(
            f"loss: expected loss(outputs, target) or loss(model, batch), this one takes {signature}"
        ) from None


def _as_number(loss: Any) -> float:
    try:
        return float(loss)
    except (TypeError, ValueError):
        raise TypeError(
            f"loss: expected a number as the loss, got {loss!r:.80}; loss(outputs, target) returns (loss, gradient "
            "of outputs), loss(model, batch) returns loss or (loss, state)"
        ) from None


class Result(NamedTuple):
    """What one batch gave.

    Attributes
    ----------
    loss : float
    state
        The state after the batch, or None.
    items : float
        Valid time steps, for the throughput.
    weight : float
        The batch's weight in means over batches: targets, not counting padding.
    """

    loss: float
    state: Any
    items: float
    weight: float


class Objective:
    """Bind a model and a loss in one of the two forms that `fit` documents.

    Parameters
    ----------
    model
        A layer or model.
    loss : callable or None
        ``loss(outputs, target)``, ``loss(model, batch)``, or None for ``model.loss``.
    carry_state : bool
        Hand the state after a batch to the next one.
    validated : bool
        The loss will be evaluated without gradients too.
    """

    def __init__(self, model: Any, loss: Any, *, carry_state: bool, validated: bool) -> None:
        self.model, self.carry_state = model, carry_state
        if loss is None:
            if not callable(getattr(model, "loss", None)):
                raise ValueError(f"loss: needed, since {type(model).__name__} has no loss of its own")
            self._whole: Any = lambda model, batch, **options: model.loss(batch, **options)
            names, any_name = _keywords(model.loss)
        else:
            if not callable(loss):
                raise TypeError(f"loss: expected a function, got {type(loss).__name__}")
            _check_form(loss)
            names, any_name = _keywords(loss)
            self._whole = loss if names[:1] == ["model"] else None
        self._loss = loss
        self._takes = {name: any_name or name in names for name in _KEYWORDS}
        if self._whole is not None:
            self._check_whole(validated)
        else:
            self._inspect_model()

    def _check_whole(self, validated: bool) -> None:
        if validated and not self._takes["train"]:
            raise ValueError(
                "loss: loss(model, batch) needs a keyword `train` to be used with validation, "
                "so that it can leave out gradients and dropout"
            )
        if self.carry_state and not self._takes["state"]:
            raise ValueError("carry_state: loss(model, batch) needs a keyword `state`, and must return (loss, state)")

    def _inspect_model(self) -> None:
        model = self.model
        call, any_call = _keywords(model)
        vjp, any_vjp = _keywords(model.vjp)
        ours = isinstance(model, Layer)
        self._lengths = model.takes_lengths if ours else any_vjp or "lengths" in vjp
        self._seed = model.takes_dropout if ours else any_vjp or "seed" in vjp
        self._input_grad = any_vjp or "input_grad" in vjp
        self._batch_first = _is_batch_first(model)
        self._removes_time = bool(getattr(model, "removes_time", False))
        recurrent = model.is_recurrent if ours else any_call or "state" in call
        if self.carry_state and not recurrent:
            raise ValueError(f"carry_state: {type(model).__name__} takes no state")

    def __call__(self, batch: Batch, state: Any, seed: int | None, *, train: bool) -> Result:
        """Compute the loss of a batch; with `train` add the gradients to the model's."""
        items, weight = sizes(batch)
        if self._whole is not None:
            given = {"state": state, "seed": seed, "train": train}
            if not self.carry_state:
                del given["state"]
            options = {k: v for k, v in given.items() if self._takes[k]}
            value = self._from_model(batch, seed, options) if train else self._whole(self.model, batch, **options)
            loss, after = value if isinstance(value, tuple) else (value, None)
            if self.carry_state and not isinstance(value, tuple):
                raise TypeError("loss: with carry_state expected (loss, state)")
        else:
            loss, after = self._from_outputs(batch, state, seed, train)
        return Result(_as_number(loss), after if self.carry_state else None, items, weight)

    def _from_model(self, batch: Batch, seed: int | None, options: dict[str, Any]) -> Any:
        """Compute loss(model, batch) on a tape if the model records; the gradient of a recorded loss is pulled."""
        if not isinstance(self.model, Model):
            return self._whole(self.model, batch, **options)
        with Tape(seed=seed) as tape:
            value = self._whole(self.model, batch, **options)
        loss, *after = value if isinstance(value, tuple) else (value,)
        if isinstance(loss, Variable) or (tape.nodes and not any(grad.any() for grad in self.model.grads.values())):
            loss = pull_loss(tape, loss)  # which says what is wrong with one that lost its gradient on the way
        return (loss, *map(_plain, after)) if after else loss

    def _from_outputs(self, batch: Batch, state: Any, seed: int | None, train: bool) -> tuple[float, Any]:
        options: dict[str, Any] = {}
        if self.carry_state:
            options["state"] = state
        if batch.lengths is not None and self._lengths:
            options["lengths"] = batch.lengths
        if not train:
            outputs, pullback = self.model(batch.x, **options), None
        else:
            if self._seed:
                options["seed"] = seed
            if self._input_grad:
                options["input_grad"] = False
            outputs, pullback = self.model.vjp(batch.x, **options)
        y, after = outputs if isinstance(outputs, tuple) else (outputs, None)
        value = self._loss(y, batch.target, **self._loss_options(batch))
        if not (isinstance(value, tuple) and len(value) == 2):
            raise TypeError(
                "loss: loss(outputs, target) must return (loss, gradient of outputs), such as "
                f"fr.losses.cross_entropy does, got {type(value).__name__}; a loss of the other form names "
                "its first parameter `model`"
            )
        if pullback is not None:
            pullback(value[1])
        return value[0], after

    def _loss_options(self, batch: Batch) -> dict[str, Any]:
        """Return lengths and weight for the loss, or say that it would ignore them."""
        options: dict[str, Any] = {}
        if batch.lengths is not None and not self._removes_time and _runs_along_time(batch):
            options["lengths"] = batch.lengths
            if self._batch_first:
                options["batch_first"] = True
        if batch.weight is not None:
            options["weight"] = _row_weight(batch, self._batch_first)
        for name in options:
            if not self._takes[name]:
                raise TypeError(f"loss: takes no `{name}`, but the batches have some, which it would ignore")
        return options


def _plain(state: Any) -> Any:
    """A state without the tape that recorded it: what is carried on has no gradient."""
    return tuple(map(_plain, state)) if isinstance(state, tuple | list) else ops.stop_gradient(state)


def _is_batch_first(model: Any) -> bool:
    layers = [layer for _, layer in model._walk()] if isinstance(model, Layer) else [model]
    return any(getattr(layer, "batch_first", False) for layer in layers)


def _row_weight(batch: Batch, batch_first: bool) -> Any:
    """Return the batch's weight; one number a row, [B], in the shape that broadcasts along the target's rows.

    NumPy would lay [B] along the target's last axis.
    """
    shape, target = np.shape(batch.weight), np.ndim(batch.target)
    axis = 1 if _runs_along_time(batch) and not batch_first else 0
    if len(shape) != 1 or target < 2 or shape[0] != np.shape(batch.target)[axis]:
        return batch.weight
    return np.reshape(batch.weight, (1,) * axis + (-1,) + (1,) * (target - axis - 1))


def _runs_along_time(batch: Batch) -> bool:
    shape = np.shape(batch.target)
    return len(shape) >= 2 and shape[:2] == np.shape(batch.x)[:2]


def sizes(batch: Batch) -> tuple[float, float]:
    """Return (time steps, weight in means) of a batch."""
    shape = np.shape(batch.x)
    if not shape:
        return 1.0, 1.0
    if np.ndim(batch.lengths) == 2:  # of sources and targets
        items = float(np.sum(batch.lengths[1]))
        return items, max(items, 1.0)  # targets may all be empty: then there are their ends
    if batch.lengths is not None:
        items = float(np.sum(batch.lengths))
    elif len(shape) >= 3 or (len(shape) == 2 and np.asarray(batch.x).dtype.kind in "iu"):
        items = float(shape[0] * shape[1])
    else:
        items = float(shape[0])
    if batch.target is None or _runs_along_time(batch):
        return items, items
    return items, float(max(np.shape(batch.target)[:1] or (1,)))
