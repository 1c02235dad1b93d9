"""Trees: a batch of trees as arrays, sorted by level for the kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastrnn import _check

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Trees"]


class Levels(NamedTuple):
    """What kernels take: nodes renumbered by level, leaves first (csrc/tree.h)."""

    order: NDArray[np.int64]  # [N] level order → node
    level: NDArray[np.int64]  # [levels + 1] the first node of each
    first: NDArray[np.int64]  # [inner + 1] the first slot of each inner node
    child: NDArray[np.int64]  # [slots] the node in it, in level order; -1: none
    roots: NDArray[np.int64]  # [trees] in level order


class Trees:
    """A batch of trees: which node hangs on which, and what leaves (or all nodes) hold.

    Parameters
    ----------
    parents : list of arrays of integers
        One array a tree: the parent of each node, by its place in that array, and −1 for the root. Children count from
        left to right in the order of their places.
    values : array or list, optional
        What the leaves hold, tree by tree in the order of the nodes: token numbers, vectors, words. Or one a node.
    labels : array or list, optional
        One for each node.

    Attributes
    ----------
    parents : array of int64, [num_nodes]
        Of all trees one after the other; −1 for roots.
    roots : array of int64, [len(trees)]
    leaves : array of int64, [num_leaves]
    heights : array of int64, [num_nodes]
        0 for leaves; else one more than that of the highest child.
    values, labels : array or None
        As given, as arrays.

    Notes
    -----
    Nodes are numbered through the batch, tree after tree; results of layers are in that order. `trees[k]`,
    `trees[2:5]`, `trees[[4, 0]]` and `trees[mask]` are batches of some of the trees. Levels are found once a
    batch, in NumPy.

    Examples
    --------
    >>> import fastrnn as fr
    >>> trees = fr.Trees.from_nested([((0, 1), 2), (3, 4)])
    >>> len(trees), trees.num_nodes, trees.parents.tolist()
    (2, 8, [2, 2, 4, 4, -1, 7, 7, -1])
    >>> trees.values, trees.roots, int(trees.heights.max())
    (array([0, 1, 2, 3, 4]), array([4, 7]), 2)
    >>> trees[[1]].values
    array([3, 4])
    """

    values: NDArray[Any] | None
    labels: NDArray[Any] | None

    def __init__(self, parents: Sequence[ArrayLike], values: Any = None, labels: Any = None) -> None:
        parts = _check.parents(parents)
        sizes = np.array([len(part) for part in parts], np.int64)
        starts = np.cumsum(sizes) - sizes
        flat = np.concatenate([*parts, np.empty(0, np.int64)])
        flat = np.where(flat < 0, flat, flat + np.repeat(starts, sizes))
        heights = _heights(flat)
        if (heights < 0).any():
            at = int(np.flatnonzero(heights < 0)[0])
            tree = int(np.searchsorted(starts, at, "right")) - 1
            raise _check.no_tree(tree, "its parents run in a circle")
        self._set(flat, sizes, heights)
        if values is not None:
            self.values = _check.node_values(values, self.num_leaves, self.num_nodes)
        if labels is not None:
            self.labels = _check.node_labels(labels, self.num_nodes)

    def _set(self, parents: NDArray[np.int64], sizes: NDArray[np.int64], heights: NDArray[np.int64]) -> None:
        self.parents, self.sizes, self.heights = parents, sizes, heights
        self.roots = np.flatnonzero(parents < 0)
        self.leaves = np.flatnonzero(heights == 0)
        self.values = self.labels = None
        self._levels: dict[int, Levels] = {}

    @classmethod
    def from_nested(cls, trees: Iterable[Any]) -> Trees:
        """Make trees from nested tuples or lists; anything else is a leaf.

        Nodes are numbered as they are done: children before parents, the root last.

        Examples
        --------
        >>> import fastrnn as fr
        >>> trees = fr.Trees.from_nested([(("the", "cat"), "sat")])
        >>> trees.values
        array(['the', 'cat', 'sat'], dtype='<U3')
        """
        parents: list[list[int]] = []
        values: list[Any] = []
        for number, tree in enumerate(trees):
            below: list[int] = []
            _number(tree, below, values, number)
            parents.append(below)
        return cls(parents, _array(values))

    @classmethod
    def from_text(cls, lines: Iterable[str], *, labels: bool = True) -> Trees:
        """Make trees from s-expressions, one a line: `(3 (2 It) (4 (2 's) (4 good)))`.

        Parameters
        ----------
        lines : iterable of str
        labels : bool
            The first word in each bracket is its node's label (as in the Stanford Sentiment Treebank), not a child. A
            bracket with one more word is a leaf. Words without a bracket are leaves labelled "".

        Returns
        -------
        Trees
            `values` are the leaves' words and `labels` the labels: integers where all are, else text.

        Examples
        --------
        >>> import fastrnn as fr
        >>> trees = fr.Trees.from_text(["(4 (2 very) (3 good))"])
        >>> trees.values.tolist(), trees.labels.tolist()
        (['very', 'good'], [2, 3, 4])
        >>> fr.Trees.from_text(["((a b) c)"], labels=False).parents.tolist()
        [2, 2, 4, 4, -1]
        """
        parents: list[list[int]] = []
        values: list[Any] = []
        found: list[str] = []
        if isinstance(lines, str):
            raise TypeError("lines: expected an iterable of texts, a tree each, got one text; use text.splitlines()")
        for number, line in enumerate(lines):
            tree = _parse(line, number)
            below: list[int] = []
            _number(_labelled(tree, found, number) if labels else tree, below, values, number)
            parents.append(below)
        return cls(parents, _array(values), _integers(found) if labels else None)

    # ---- size and parts ----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def num_nodes(self) -> int:
        """Nodes of all trees."""
        return len(self.parents)

    @property
    def num_leaves(self) -> int:
        """Leaves of all trees."""
        return len(self.leaves)

    @property
    def shape(self) -> tuple[int]:
        """(num_nodes,): the nodes are what a training run counts."""
        return (self.num_nodes,)

    @property
    def arity(self) -> int:
        """Most children of a node."""
        return int(self._counts().max(initial=0))

    def _counts(self) -> NDArray[np.int64]:
        """Children of each node."""
        return np.bincount(self.parents[self.parents >= 0], minlength=self.num_nodes).astype(np.int64)

    def __getitem__(self, index: Any) -> Trees:
        rows = _check.some_of(index, len(self), "trees")
        starts = np.cumsum(self.sizes) - self.sizes
        sizes = self.sizes[rows]
        new_starts = np.cumsum(sizes) - sizes
        nodes = np.arange(sizes.sum()) + np.repeat(starts[rows] - new_starts, sizes)
        parents = self.parents[nodes]
        parents = np.where(parents < 0, parents, parents + np.repeat(new_starts - starts[rows], sizes))
        part = Trees.__new__(Trees)
        part._set(parents, sizes, self.heights[nodes])
        if self.values is not None:
            part.values = self.values[nodes if len(self.values) == self.num_nodes else self._leaf_rank(nodes)]
        if self.labels is not None:
            part.labels = self.labels[nodes]
        return part

    def _leaf_rank(self, nodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """The places in `leaves` of those nodes that are leaves."""
        rank: NDArray[np.int64] = np.cumsum(self.heights == 0)[nodes[self.heights[nodes] == 0]] - 1
        return rank

    def map(self, function: Callable[[Any], Any]) -> Trees:
        """The same trees with `function(value)` for each of `values`, such as words' numbers.

        Examples
        --------
        >>> import fastrnn as fr
        >>> fr.Trees.from_nested([("b", "a")]).map({"a": 0, "b": 1}.get).values
        array([1, 0])
        """
        values = _check.has_values(self.values)
        part = Trees.__new__(Trees)
        part._set(self.parents, self.sizes, self.heights)
        part._levels, part.labels = self._levels, self.labels
        part.values = _array([function(value) for value in values.tolist()])
        return part

    def __repr__(self) -> str:
        return f"<{len(self)} trees of {self.num_nodes} nodes, {self.num_leaves} of them leaves>"

    # ---- levels --------------------------------------------------------------------------------------------------

    def levels(self, slots: int) -> Levels:
        """Nodes by level: with `slots` child slots for every inner node, or with 0 as many as it has children."""
        if slots not in self._levels:
            self._levels[slots] = _by_level(self, slots)
        return self._levels[slots]


def _heights(parents: NDArray[np.int64]) -> NDArray[np.int64]:
    """Height of each node, −1 where parents run in a circle."""
    heights = np.full(len(parents), -1, np.int64)
    pending = np.bincount(parents[parents >= 0], minlength=len(parents))
    done, level = np.flatnonzero(pending == 0), 0
    while done.size:
        heights[done] = level
        above = parents[done]
        above, count = np.unique(above[above >= 0], return_counts=True)
        pending[above] -= count
        done, level = above[pending[above] == 0], level + 1
    return heights


def _by_level(trees: Trees, slots: int) -> Levels:
    parents, count = trees.parents, trees.num_nodes
    order = np.argsort(trees.heights, kind="stable")
    place = np.empty(count, np.int64)
    place[order] = np.arange(count)
    height = int(trees.heights.max(initial=-1))
    level = np.searchsorted(trees.heights[order], np.arange(height + 2)).astype(np.int64)
    leaves = trees.num_leaves
    below = np.flatnonzero(parents >= 0)
    above = place[parents[below]] - leaves
    by_parent = np.argsort(above, kind="stable")  # children stay from left to right
    child = place[below[by_parent]]
    counts = np.bincount(above, minlength=count - leaves)
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    if slots:
        rank = np.arange(len(child)) - np.repeat(first[:-1], counts)
        table = np.full((count - leaves, slots), -1, np.int64)
        table[above[by_parent], rank] = child
        child, first = table.reshape(-1), np.arange(count - leaves + 1, dtype=np.int64) * slots
    return Levels(order, level, first, np.ascontiguousarray(child), place[trees.roots])


# ---- reading


def _number(tree: Any, parents: list[int], values: list[Any], number: int) -> None:
    """Append a nested tree's nodes, children first. A loop, for trees may be deeper than Python's stack."""
    stack = [tree]
    done: list[int] = []  # nodes without a parent yet
    waiting: list[int] = []  # how many there were when a node began
    while stack:
        node = stack.pop()
        if node is _END:
            begin = waiting.pop()
            for child in done[begin:]:
                parents[child] = len(parents)
            done[begin:] = [len(parents)]
            parents.append(-1)
        elif isinstance(node, tuple | list):
            if not node:
                raise _check.no_tree(number, "it has a node () without children")
            waiting.append(len(done))
            stack += [_END, *reversed(node)]
        else:
            done.append(len(parents))
            parents.append(-1)
            values.append(node)


_END = object()


def _parse(line: str, number: int) -> Any:
    """Nested lists of words."""
    stack: list[list[Any]] = [[]]
    for word in line.replace("(", " ( ").replace(")", " ) ").split():
        if word == "(":
            stack.append([])
        elif word != ")":
            stack[-1].append(word)
        elif len(stack) == 1:
            raise _check.no_tree(number, "it closes a bracket that was not opened")
        else:
            inner = stack.pop()
            stack[-1].append(inner)
    if len(stack) > 1:
        raise _check.no_tree(number, "it leaves a bracket open")
    if len(stack[0]) != 1:
        raise _check.no_tree(number, f"expected one expression on the line, got {len(stack[0])}")
    return stack[0][0]


def _labelled(tree: Any, labels: list[str], number: int) -> Any:
    """The tree without its labels, which are appended children first, as nodes are numbered."""
    done: list[Any] = []
    stack: list[tuple[Any, int]] = [(tree, -1)]
    while stack:
        node, children = stack.pop()
        if isinstance(node, str):
            labels.append("")
            done.append(node)
        elif children >= 0:
            labels.append(node[0])
            done[len(done) - children :] = [done[len(done) - children :]]
        elif len(node) < 2 or not isinstance(node[0], str):
            raise _check.no_tree(number, "expected brackets with a label and children, as in (2 (1 a) (3 b))")
        elif len(node) == 2 and isinstance(node[1], str):
            labels.append(node[0])
            done.append(node[1])
        else:
            stack.append((node, len(node) - 1))
            stack += [(child, -1) for child in reversed(node[1:])]
    return done[0]


def _array(values: list[Any]) -> NDArray[Any]:
    """Numbers and words as such an array; what doesn't fit together as objects."""
    kinds = {type(value) for value in values}
    if len(kinds) <= 1 and kinds <= {int, float, str}:
        return np.array(values, np.int64 if kinds <= {int} else None)
    try:
        return np.stack([np.asarray(value) for value in values]) if _uniform(values) else _objects(values)
    except ValueError:
        return _objects(values)


def _uniform(values: list[Any]) -> bool:
    """NumPy's arrays and numbers."""
    return all(isinstance(value, np.ndarray | np.generic) for value in values)


def _objects(values: list[Any]) -> NDArray[Any]:
    array = np.empty(len(values), object)
    for position, value in enumerate(values):
        array[position] = value
    return array


def _integers(labels: list[str]) -> NDArray[Any]:
    try:
        return np.array([int(label) for label in labels], np.int64)
    except ValueError:
        return np.array(labels)
