"""A classifier of trees, or of all their nodes: embedding, a network over trees, a linear map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check
from fastrnn.nn import Dropout, Embedding, Linear, Model, RecursiveNet, TreeLSTM, Trees, losses
from fastrnn.nn._random import Seed, split
from fastrnn.nn.activations import softmax

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray


class TreeClassifier(Model):
    """Classify trees, or every node of them: leaves (or nodes) are embedded, a network runs up, a linear map decides.

    Parameters
    ----------
    vocab_size, num_classes : int
        Tokens are `trees.values`, integers from 0 to vocab_size − 1.
    kind : "binary", "child_sum", int or "recursive"
        A `TreeLSTM` of that kind, or a `RecursiveNet` (of two children).
    hidden_size : int
    embedding_dim : int, optional
        By default hidden_size, as a recursive network needs.
    nodes : "roots" or "all"
        Logits for each tree, [len(trees), num_classes], or for each node, [num_nodes, num_classes].
    dropout : float
        Probability of a zero in what the linear map reads, in training.
    dtype : dtype
        float32 or float64.
    seed : None, int or numpy.random.Generator
        For the initial weights.

    Notes
    -----
    Parameters are named `embedding.weight`, `net.…`, `output.weight`, `output.bias`.

    Examples
    --------
    >>> import fastrnn as fr
    >>> trees = fr.Trees.from_text(["(1 (0 not) (0 (1 very) (0 bad)))", "(0 (0 bad) (1 film))"])
    >>> words = {"not": 0, "very": 1, "bad": 2, "film": 3}
    >>> trees = trees.map(words.get)
    >>> model = fr.models.TreeClassifier(4, 2, hidden_size=8, seed=0)
    >>> model(trees).shape
    (2, 2)
    >>> history = fr.fit(model, [fr.Batch(trees, trees.labels[trees.roots])], epochs=50, progress=False)
    >>> model.predict(trees).tolist(), model.score(trees)
    ([1, 0], 1.0)
    """

    def __init__(
        self,
        vocab_size: int,
        num_classes: int,
        kind: str | int = "binary",
        *,
        hidden_size: int = 64,
        embedding_dim: int | None = None,
        nodes: str = "roots",
        dropout: float = 0.0,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        size = _check.optional_positive_int(embedding_dim, "embedding_dim") or hidden_size
        seeds = split(seed, 3)
        options: dict[str, Any] = {"dtype": dtype, "seed": seeds[1]}
        self._roots = bool(_check.choice(nodes, {"roots": 1, "all": 0}, "nodes"))
        self.nodes, self.kind = nodes, kind
        self.embedding = Embedding(vocab_size, size, dtype=dtype, seed=seeds[0])
        if kind == "recursive":
            _check.same_size(size, hidden_size, "embedding_dim", "hidden_size, for the leaves of a recursive network")
            self.net: RecursiveNet | TreeLSTM = RecursiveNet(hidden_size, **options)
        else:
            self.net = TreeLSTM(size, hidden_size, kind, **options)
        self.dropout = Dropout(dropout)
        self.output = Linear(hidden_size, num_classes, dtype=dtype, seed=seeds[2])

    def forward(self, trees: Trees) -> Any:
        """Logits from trees whose values are tokens, one for each leaf (Tree-LSTMs: or for each node).

        Parameters
        ----------
        trees : Trees

        Returns
        -------
        array, [len(trees), num_classes] or [num_nodes, num_classes]
        """
        trees = _check.trees(trees, Trees, None, exact=False)
        tokens = _check.tree_tokens(_check.has_values(trees.values))
        h = self.net(self.embedding(tokens), trees, roots=self._roots)
        return self.output(self.dropout(h))

    def loss(self, batch: Any, *, seed: int | None = None, train: bool = True) -> float:
        """The cross entropy of a batch; with `train` its gradients go to `grads`.

        Parameters
        ----------
        batch : Batch, or tuple ``(trees, target=None, None, weight=None)``
            `target` are the trees' classes, or those of all nodes; by default the trees' labels. Targets of −1 don't
            count.
        seed : int, optional
            For dropout.
        train : bool
        """
        trees, target, _, weight = (*batch, None, None, None)[:4]
        trees = _check.trees(trees, Trees, None, exact=False)
        if target is None:
            target = self._labels(trees)
        options = {"ignore_index": -1, "weight": weight}
        if not train:
            return losses.cross_entropy(self(trees), target, **options)[0]
        logits, pullback = self.vjp(trees, seed=seed)
        loss, dlogits = losses.cross_entropy(logits, target, **options)
        pullback(dlogits)
        return loss

    def decision_function(self, trees: Trees, *, batch_size: int = 256) -> NDArray[Any]:
        """The logits, as a call gives them, of any number of trees.

        Parameters
        ----------
        trees : Trees
        batch_size : int
            Trees that run at once.
        """
        size = _check.positive_int(batch_size, "batch_size")
        trees = _check.trees(trees, Trees, None, exact=False)
        if len(trees) <= size:
            found: NDArray[Any] = self(trees)
            return found
        parts = [self(trees[first : first + size]) for first in range(0, len(trees), size)]
        return np.concatenate(parts)

    def predict_proba(self, trees: Trees, *, batch_size: int = 256) -> NDArray[Any]:
        """The probability of each class, [len(trees), num_classes], or of all nodes; see `decision_function`."""
        return softmax(self.decision_function(trees, batch_size=batch_size))

    def predict(self, trees: Trees, *, batch_size: int = 256) -> NDArray[Any]:
        """The likeliest class of each tree, or of all nodes; arguments as for `decision_function`.

        Examples
        --------
        >>> import fastrnn as fr
        >>> trees = fr.Trees.from_nested([((0, 1), 2), 1])
        >>> model = fr.models.TreeClassifier(3, 4, hidden_size=8, seed=0)
        >>> model.predict(trees).shape, model.predict_proba(trees).shape
        ((2,), (2, 4))
        """
        labels: NDArray[Any] = self.decision_function(trees, batch_size=batch_size).argmax(-1)
        return labels

    def score(self, trees: Trees, y: ArrayLike | None = None, *, batch_size: int = 256) -> float:
        """The share of trees, or of nodes, whose likeliest class is `y`.

        Parameters
        ----------
        trees : Trees
        y : integers, optional
            Classes of the trees, or of all nodes; by default the trees' labels. Those of −1 don't count.
        batch_size : int
            Trees that run at once.
        """
        found = self.predict(trees, batch_size=batch_size)
        y = self._labels(trees) if y is None else _check.integers(y, "y")
        _check.same_shape(y, found.shape, "y", "the classes predicted")
        counted = y != -1
        if not counted.any():
            raise ValueError("y: expected classes, got none but −1")
        return float(np.mean(found[counted] == y[counted]))

    def _labels(self, trees: Trees) -> NDArray[Any]:
        labels: NDArray[Any] = _check.has_labels(trees.labels)
        return labels[trees.roots] if self._roots else labels

    def config(self) -> dict[str, Any]:
        return {
            "vocab_size": self.embedding.num_embeddings,
            "num_classes": self.output.out_features,
            "kind": self.kind,
            "hidden_size": self.net.hidden_size,
            "embedding_dim": self.embedding.embedding_dim,
            "nodes": self.nodes,
            "dropout": self.dropout.p,
            "dtype": self.output.dtype.name,
        }
