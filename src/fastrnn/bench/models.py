"""Whole training steps of a character language model, fastrnn's beside the same model in PyTorch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

import fastrnn
from fastrnn.bench.agree import check_losses
from fastrnn.bench.layers import Sides
from fastrnn.bench.peers import choose
from fastrnn.text import CharVocabulary, standard_library

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ADAMS", "FUSED", "CharModel", "prepare"]

# PyTorch beside itself: Adam as people write it, and with `fused=True`, the fastest that PyTorch has.
FUSED = "torch, fused Adam"
ADAMS: dict[str, dict[str, bool]] = {"torch": {}, FUSED: {"fused": True}}  # side: options of its optimiser

WINDOWS = 8
# From equal weights both sides take the same steps; rounding in float32 changes losses by some 1e-6.
STEPS, TOLERANCE = 5, 1e-4
Step = Callable[[], float]
Weights = Mapping[str, "NDArray[Any]"]
Window = tuple["NDArray[Any]", "NDArray[Any]"]


@dataclass(frozen=True)
class CharModel:
    """The model and the step of ``fastrnn train``: embedding, recurrent layers, logits, cross entropy; the
    state is carried from window to window, the gradients' norm is clipped, Adam updates.

    Examples
    --------
    >>> model = CharModel("gru", T=4, B=2)
    >>> print(model, model.items)
    character model, gru 64 -> 1 x 256, T=4 B=2 8
    """

    cell: str = "lstm"
    embedding: int = 64
    hidden: int = 256
    num_layers: int = 1
    T: int = 128
    B: int = 32
    symbols: int = 128  # at most
    lr: float = 8e-3
    clip_norm: float = 1.0
    unit: str = "chars"

    def __str__(self) -> str:
        sizes = f"{self.embedding} -> {self.num_layers} x {self.hidden}"
        return f"character model, {self.cell} {sizes}, T={self.T} B={self.B}"

    @property
    def items(self) -> int:
        """Characters of a step."""
        return self.T * self.B

    def windows(self) -> tuple[int, list[Window]]:
        """Return the size of the vocabulary, and windows (x, target) [T, B] of Python's own sources."""
        size = self.B * self.T * WINDOWS + 1
        text = "\n".join(text for _, text in standard_library(max_chars=max(size, 100_000)).texts)
        vocabulary = CharVocabulary.from_text(text, max_size=self.symbols)
        tokens = vocabulary.encode(text)[:size].astype(np.int64)
        parts = (tokens[:-1], tokens[1:])
        x, target = (part.reshape(self.B, WINDOWS, self.T).transpose(1, 2, 0) for part in parts)
        windows = zip(x, target, strict=True)
        return len(vocabulary), [(np.ascontiguousarray(a), np.ascontiguousarray(b)) for a, b in windows]


def _ours(case: CharModel, model: Any, windows: Sequence[Window], threads: int) -> Step:
    fastrnn.set_num_threads(threads)
    optimizer = fastrnn.optim.Adam(model, lr=case.lr)
    batches: Iterator[Window] = cycle(windows)
    state: Any = None

    def step() -> float:
        nonlocal state
        model.zero_grads()
        loss, state = model.loss(next(batches), state=state)
        fastrnn.optim.clip_grad_norm(model, case.clip_norm)
        optimizer.step()
        return float(loss)

    return step


def _torch(
    case: CharModel, weights: Weights, windows: Sequence[Window], threads: int, adam: Mapping[str, bool]
) -> Step:
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(threads)
    nn = torch.nn
    symbols = len(weights["output.bias"])
    kind = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[case.cell]
    model = nn.ModuleDict({
        "embedding": nn.Embedding(symbols, case.embedding),
        "rnn": kind(case.embedding, case.hidden, case.num_layers),
        "output": nn.Linear(case.hidden, symbols),
    })  # fmt: skip
    model.load_state_dict({name: torch.tensor(w) for name, w in weights.items()})
    optimizer = torch.optim.Adam(model.parameters(), lr=case.lr, **adam)
    batches = cycle([(torch.tensor(x), torch.tensor(target)) for x, target in windows])
    state: Any = None

    def step() -> float:
        nonlocal state
        optimizer.zero_grad(set_to_none=True)
        x, target = next(batches)
        y, state_n = model["rnn"](model["embedding"](x), state)
        logits = model["output"](y)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), case.clip_norm)
        optimizer.step()
        state = tuple(s.detach() for s in state_n) if isinstance(state_n, tuple) else state_n.detach()
        return float(loss.item())

    return step


def prepare(case: CharModel, peers: Sequence[str] | None = None, threads: int = 2) -> Sides:
    """Prepare training steps from equal weights, and check that the losses of several steps are equal.

    PyTorch has two sides: see `FUSED`.

    Raises
    ------
    Disagreement
        The losses differ.
    """
    chosen, skipped = choose(["fastrnn", "torch"] if peers is None else peers)
    symbols, windows = case.windows()
    model = fastrnn.models.LanguageModel(
        symbols,
        case.cell,
        embedding_dim=case.embedding,
        hidden_size=case.hidden,
        num_layers=case.num_layers,
        seed=0,
    )
    weights = model.state_dict()
    runs: dict[str, Step] = {}
    for peer in chosen:
        if peer.name == "fastrnn":
            runs[peer.name] = _ours(case, model, windows, threads)
        elif peer.name == "torch":
            for name, adam in ADAMS.items():
                runs[name] = _torch(case, weights, windows, threads, adam)
        else:
            skipped[peer.name] = f"{peer.name} has no character model here"
    losses = {name: [step() for _ in range(STEPS)] for name, step in runs.items()}
    if losses:
        check_losses(losses, TOLERANCE, str(case))
    return Sides(dict(runs), skipped)
