"""Whole training steps of a text classifier, fastrnn's beside the same model in PyTorch: pytorch#94457's."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

import fastrnn
from fastrnn.bench.agree import check_losses
from fastrnn.bench.layers import Sides
from fastrnn.bench.models import ADAMS, STEPS, TOLERANCE, Step
from fastrnn.bench.peers import choose

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Classifier", "prepare"]

BATCHES = 4
Batch = tuple["NDArray[Any]", "NDArray[Any]"]


@dataclass(frozen=True)
class Classifier:
    """Reviews of 200 words, good or bad: embedding, bidirectional layers, both directions' final states, one
    logit, Adam.

    Examples
    --------
    >>> model = Classifier(words=50, embedding=4, hidden=3, T=5, B=2)
    >>> print(model, model.items)
    classifier, 50 words, lstm 4 -> 2 x 2 x 3, T=5 B=2 10
    """

    cell: str = "lstm"
    words: int = 20_000
    embedding: int = 128
    hidden: int = 64
    num_layers: int = 2
    T: int = 200
    B: int = 32
    lr: float = 1e-3
    unit: str = "words"

    def __str__(self) -> str:
        sizes = f"{self.embedding} -> {self.num_layers} x 2 x {self.hidden}"
        return f"classifier, {self.words:,} words, {self.cell} {sizes}, T={self.T} B={self.B}"

    @property
    def items(self) -> int:
        """Words of a step."""
        return self.T * self.B

    def batches(self) -> list[Batch]:
        """Return words [T, B], frequent ones more often as in any language, and labels [B, 1]."""
        rng = np.random.default_rng(0)
        some = []
        for _ in range(BATCHES):
            words = np.minimum(rng.zipf(1.3, (self.T, self.B)), self.words) - 1
            some.append((words.astype(np.int64), rng.integers(0, 2, (self.B, 1)).astype(np.float32)))
        return some


def _ours(case: Classifier, model: Any, batches: Sequence[Batch], threads: int) -> Step:
    fastrnn.set_num_threads(threads)
    embedding, recurrent, output = model
    optimizer = fastrnn.optim.Adam(model, lr=case.lr)
    endless: Iterator[Batch] = cycle(batches)
    H = case.hidden

    def step() -> float:
        words, labels = next(endless)
        model.zero_grads()
        x, of_embedding = embedding.vjp(words)
        (_, state), of_recurrent = recurrent.vjp(x)
        h_n = state[0] if isinstance(state, tuple) else state
        logits, of_output = output.vjp(np.concatenate([h_n[-2], h_n[-1]], axis=-1))
        loss, dlogits = fastrnn.losses.bce_with_logits(logits, labels)
        dh = of_output(dlogits)
        dh_n = np.zeros_like(h_n)
        dh_n[-2], dh_n[-1] = dh[:, :H], dh[:, H:]
        dx, _ = of_recurrent(None, (dh_n, np.zeros_like(dh_n)) if isinstance(state, tuple) else dh_n)
        of_embedding(dx)
        optimizer.step()
        return float(loss)

    return step


def _torch(
    case: Classifier,
    weights: Mapping[str, NDArray[Any]],
    batches: Sequence[Batch],
    threads: int,
    adam: Mapping[str, bool],
) -> Step:
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(threads)
    nn = torch.nn
    kind = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[case.cell]
    embedding = nn.Embedding(case.words, case.embedding)
    recurrent = kind(case.embedding, case.hidden, case.num_layers, bidirectional=True)
    model = nn.ModuleList([embedding, recurrent, nn.Linear(2 * case.hidden, 1)])
    model.load_state_dict({name: torch.tensor(w) for name, w in weights.items()})
    optimizer = torch.optim.Adam(model.parameters(), lr=case.lr, **adam)
    endless = cycle([(torch.tensor(words), torch.tensor(labels)) for words, labels in batches])

    def step() -> float:
        words, labels = next(endless)
        optimizer.zero_grad(set_to_none=True)
        _, state = recurrent(embedding(words))
        h_n = state[0] if isinstance(state, tuple) else state
        logits = model[2](torch.cat([h_n[-2], h_n[-1]], -1))
        loss = nn.functional.binary_cross_entropy_with_logits(logits, labels)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def prepare(case: Classifier, peers: Sequence[str] | None = None, threads: int = 2) -> Sides:
    """Prepare training steps from equal weights, and check that the losses of several steps are equal.

    PyTorch has two sides: see `fastrnn.bench.models.FUSED`.

    Raises
    ------
    Disagreement
        The losses differ.
    """
    chosen, skipped = choose(["fastrnn", "torch"] if peers is None else peers)
    kind: Any = {"lstm": fastrnn.LSTM, "gru": fastrnn.GRU, "rnn": fastrnn.RNN}[case.cell]
    model = fastrnn.Sequential(
        fastrnn.Embedding(case.words, case.embedding, seed=0),
        kind(case.embedding, case.hidden, case.num_layers, bidirectional=True, seed=1),
        fastrnn.Linear(2 * case.hidden, 1, seed=2),
    )
    weights = model.state_dict()
    runs: dict[str, Step] = {}
    for peer in chosen:
        if peer.name == "fastrnn":
            runs[peer.name] = _ours(case, model, case.batches(), threads)
        elif peer.name == "torch":
            for name, adam in ADAMS.items():
                runs[name] = _torch(case, weights, case.batches(), threads, adam)
        else:
            skipped[peer.name] = f"{peer.name} has no classifier here"
    losses = {name: [step() for _ in range(STEPS)] for name, step in runs.items()}
    if losses:
        check_losses(losses, TOLERANCE, str(case))
    return Sides(dict(runs), skipped)
