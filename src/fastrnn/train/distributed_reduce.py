"""Gradients summed over the ranks: in buckets, of which the first leave while backward still runs.

When is a gradient final? Every layer adds to its gradients under its lock, so a lock that tells when it is released
tells when a pullback has run, whoever called it. How often a layer's runs in a step (a layer may be used many times) is
learned in the first step; if one runs again after its bucket has left, all buckets are sent once more, and that layer's
gradients wait for the end from then on. Buckets leave in the same order on all ranks, as MPI asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn.nn._layer import Layer
from fastrnn.train.arrays import named_arrays
from fastrnn.train.distributed import Group

__all__ = ["Reducer", "narrowed", "widened"]


class _Watched:
    """A lock that tells when it is released."""

    __slots__ = ("_lock", "_told")

    def __init__(self, lock: Any, told: Callable[[], None]) -> None:
        self._lock, self._told = lock, told

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        self._told()


class _Bucket:
    """Gradients that travel together, side by side in one array."""

    def __init__(self, owners: list[int], grads: list[np.ndarray], group: Group) -> None:
        self.owners, self.grads, self.group = set(owners), grads, group
        size = sum(grad.size for grad in grads)
        self.compressed = group.options.compression is not None
        self.dtype = np.dtype(np.float32) if self.compressed else grads[0].dtype
        self.chunk = -(-size // group.size)  # with compression: what one rank adds up
        self.mine = np.zeros(self.chunk * group.size if self.compressed else size, self.dtype)
        self.total = np.zeros_like(self.mine)
        self.request: Any = None
        self._held: tuple[Any, ...] = ()  # what MPI reads and writes until the request is done

    def start(self, scale: float) -> None:
        """Send the gradients, each times `scale`."""
        at = 0
        for grad in self.grads:
            out = self.mine[at : at + grad.size].reshape(grad.shape)
            np.multiply(grad, grad.dtype.type(scale), out=out, casting="same_kind")
            at += grad.size
        if not self.compressed:
            self.request = self.group.comm.Iallreduce(self.mine, self.total)
            return
        sent = narrowed(self.mine)
        received = np.empty_like(sent)
        self._held = sent, received
        self.request = self.group.comm.Ialltoall(sent, received)

    def add_up(self) -> None:
        """With compression: sum the parts that came, in float32, and send the sum to all."""
        if not self.compressed:
            return
        self.group.wait(self.request)
        parts = widened(self._held[1]).reshape(self.group.size, self.chunk)
        sent = narrowed(parts.sum(0))
        received = np.empty(self.chunk * self.group.size, np.uint16)
        self._held = sent, received
        self.request = self.group.comm.Iallgather(sent, received)

    def finish(self, factor: float) -> None:
        """Wait for the sums and write them, each times `factor`, where the gradients were."""
        self.group.wait(self.request)
        total = widened(self._held[1]) if self.compressed else self.total
        at = 0
        for grad in self.grads:
            part = total[at : at + grad.size].reshape(grad.shape)
            np.multiply(part, part.dtype.type(factor), out=grad, casting="same_kind")
            at += grad.size
        self.request, self._held = None, ()


class Reducer:
    """Sum a model's gradients over the ranks of a group.

    Parameters
    ----------
    model
    group : Group
    """

    def __init__(self, model: Any, group: Group) -> None:
        self.model, self.group = model, group
        self._layers = [layer for _, layer in model._walk()] if isinstance(model, Layer) else []
        self._lazy: list[tuple[Layer, str]] = []
        self._averaged: list[np.ndarray] = []  # what models keep beside weights, such as the usage of codes
        self._dense: list[tuple[int, np.ndarray]] = []  # owner, gradient
        self._sort_arrays()
        self._times: list[int | None] = [None] * len(self._layers)  # pullbacks of each layer in a step, once known
        self._seen = [0] * len(self._layers)
        self._left: list[int] = []  # order of the layers' last pullbacks in the step
        self._active = self._again = self._learned = False
        self._scale: Callable[[], float] = lambda: 1.0
        self._used = 0.0
        self._lay_out(list(reversed(range(-1, len(self._layers)))))

    def _sort_arrays(self) -> None:
        if not self._layers:  # a model of one's own: nobody tells when its gradients are final
            self._dense = [(-1, grad) for _, grad in named_arrays(self.model).values()]
            return
        for owner, layer in enumerate(self._layers):
            for name, grad in layer._grads.items():
                if name not in layer._touched:
                    self._dense.append((owner, grad))
                elif hasattr(layer, "_add_buffer"):
                    self._averaged.append(layer._params[name])
                else:
                    self._lazy.append((layer, name))
            if hasattr(layer, "_add_buffer") and layer._touched:  # a codebook that follows its codes, say
                moved = [param for name, param in layer._params.items() if name not in layer._touched]
                self._averaged += moved

    def _lay_out(self, order: list[int]) -> None:
        """Make the buckets, of layers in this order."""
        rank = {owner: position for position, owner in enumerate(order)}
        dense = sorted(self._dense, key=lambda item: rank[item[0]])
        self._buckets: list[_Bucket] = []
        limit = self.group.options.bucket_bytes
        for dtype in sorted({grad.dtype.str for _, grad in dense}):
            owners: list[int] = []
            grads: list[np.ndarray] = []
            for owner, grad in dense:
                if grad.dtype.str != dtype or not grad.size:
                    continue
                if grads and sum(g.nbytes for g in grads) + grad.nbytes > limit:
                    self._buckets.append(_Bucket(owners, grads, self.group))
                    owners, grads = [], []
                owners.append(owner)
                grads.append(grad)
            if grads:
                self._buckets.append(_Bucket(owners, grads, self.group))
        self._gone = 0

    # ---- a step --------------------------------------------------------------------------------------------

    def __enter__(self) -> Reducer:
        if self.group.size > 1:
            for number, layer in enumerate(self._layers):
                layer._lock = _Watched(layer._lock, lambda number=number: self._ended(number))  # type: ignore
        return self

    def __exit__(self, *_: object) -> None:
        for layer in self._layers:
            if isinstance(layer._lock, _Watched):
                layer._lock = layer._lock._lock

    def begin(self, scale: Callable[[], float]) -> None:
        """Be ready for a step; `scale` gives the weight of this rank's mean, as far as it is known."""
        self._scale, self._used = scale, 0.0
        self._seen = [0] * len(self._layers)
        self._left, self._gone, self._again, self._active = [], 0, False, True

    def _ended(self, number: int) -> None:
        """A pullback of a layer has run."""
        if not self._active:
            return
        self._seen[number] += 1
        if not self._learned:
            if number in self._left:
                self._left.remove(number)
            self._left.append(number)
            return
        if any(number in bucket.owners for bucket in self._buckets[: self._gone]):
            self._again, self._times[number] = True, None
            return
        self._send_ready()
        if self._gone:
            self._buckets[self._gone - 1].request.Test()  # nobody else makes MPI go on

    def _send_ready(self) -> None:
        while self._gone < len(self._buckets):
            bucket = self._buckets[self._gone]
            if not all(owner >= 0 and self._seen[owner] == self._times[owner] for owner in bucket.owners):
                return
            self._send()

    def _send(self) -> None:
        scale = self._scale()
        if self._gone == 0:
            self._used = scale
        elif scale != self._used:  # the loss had more to say after the first pullback
            self._again = True
        self._buckets[self._gone].start(scale)
        self._gone += 1

    def finish(self, numbers: list[float]) -> np.ndarray:
        """End the step: every gradient becomes the sum over ranks, divided by the sum of the weights.

        Parameters
        ----------
        numbers : list of float
            To be summed over the ranks, too. The first one is the weight.

        Returns
        -------
        array of float64
            The sums.
        """
        self._active = False
        if self.group.size == 1:
            return np.array(numbers)
        while self._gone < len(self._buckets):
            self._send()
        again = self._again or (bool(self._buckets) and self._used != numbers[0])
        *sums, repeats = self.group.sum([*numbers, float(again)])
        if repeats:
            for bucket in self._buckets:
                self.group.wait(bucket.request)
            for bucket in self._buckets:
                bucket.start(numbers[0])
        factor = 1.0 / sums[0] if sums[0] else 0.0
        for bucket in self._buckets:
            bucket.add_up()
        for bucket in self._buckets:
            bucket.finish(factor)
        for layer, name in self._lazy:
            self._reduce_rows(layer, name, numbers[0], factor)
        if not self._learned:
            self._learn()
        return np.array(sums)

    def _reduce_rows(self, layer: Layer, name: str, scale: float, factor: float) -> None:
        """The rows that some rank touched."""
        grad = layer._grads[name]
        mine = np.unique(np.concatenate([*layer._touched[name], np.empty(0, np.int64)]))
        rows = np.unique(np.concatenate(self.group.gather(mine)))
        sent = grad[rows] * grad.dtype.type(scale)
        total = np.empty_like(sent)
        if sent.size:
            self.group.wait(self.group.comm.Iallreduce(sent, total))
        grad[rows] = total * grad.dtype.type(factor)
        layer._touched[name][:] = [rows]

    def _learn(self) -> None:
        """After the first step: buckets in the order in which gradients became final on rank 0."""
        mine = [number for number in self._left if self._seen[number]]
        first = self.group.share(mine)
        rest = [number for number in reversed(range(-1, len(self._layers))) if number not in first]
        self._lay_out([*first, *rest])
        self._times = [count or None for count in self._seen]
        self._learned = True

    def average(self, rows: bool) -> None:
        """Give every rank the mean of what models keep beside weights, over the ranks that had rows."""
        if not self._averaged or self.group.size == 1:
            return
        flat = np.concatenate([array.ravel().astype(np.float64) for array in self._averaged])
        *total, count = self.group.sum([*(flat if rows else 0 * flat), float(rows)])
        at = 0
        for array in self._averaged:
            if count:
                array[...] = np.reshape(total[at : at + array.size], array.shape) / count
            at += array.size


def narrowed(values: np.ndarray) -> np.ndarray:
    """float32 as bfloat16, rounded to nearest, ties to even: the upper halves of the bits, as uint16.

    Examples
    --------
    >>> import numpy as np
    >>> widened(narrowed(np.array([1.0, 1.01, -3.14159], np.float32))).tolist()
    [1.0, 1.0078125, -3.140625]
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = bits >> np.uint32(16)
    rounded &= np.uint32(1)
    rounded += np.uint32(0x7FFF)
    rounded += bits
    rounded >>= np.uint32(16)
    found = rounded.astype(np.uint16)
    nan = np.isnan(values)
    if nan.any():
        found[nan] = 0x7FC0
    return found


def widened(values: np.ndarray) -> np.ndarray:
    """bfloat16 as float32."""
    return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
