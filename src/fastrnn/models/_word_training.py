"""The training loop of word2vec: pieces of text into the compiled kernel, until the epochs are over or Ctrl-C."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastrnn import _check, _core
from fastrnn._threads import _MAX_THREADS, get_num_threads
from fastrnn.models._word_corpus import PIECE, Piece, Scan
from fastrnn.nn._random import mask_seed
from fastrnn.train import History, Interrupted, Progress
from fastrnn.train.interrupt import CtrlC
from fastrnn.train.progress import amount, duration, plural, progress_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastrnn.models.word2vec import Word2Vec


class Settings(NamedTuple):
    """Of one call of `Word2Vec.train`, checked."""

    epochs: int
    lr: float
    min_lr: float
    threads: int
    seed: int
    progress: Progress | None


class Training:
    """One run."""

    def __init__(self, model: Word2Vec, corpus: Any, settings: Settings) -> None:
        self.model, self.settings = model, settings
        self.history = History()
        # every thread should have some blocks in a piece
        size = max(PIECE, 16 * settings.threads * _core.word2vec_block)
        self.scan = Scan(corpus, size=size)
        if not self.scan.total:
            raise ValueError("corpus: expected some words, got none")
        if model.embedding is None:
            model._set_vocabulary(*model._choose(self.scan.words, self.scan.counts))
        self.tokens = self.scan.encode(model.words)
        if not self.tokens:
            raise ValueError(
                f"corpus: expected some of the {len(model)} words of this model, got {self.scan.total} others"
            )
        if model.counts is None:
            found = dict(zip(self.scan.words, self.scan.counts.tolist()))
            model.counts = np.array([found.get(word, 0) for word in model.words], np.int64)
        self.done = self.step = self.kept = self.predictions = self.blocks = 0
        self.loss = 0.0

    @staticmethod
    def check(epochs: Any, lr: Any, min_lr: Any, threads: Any, seed: int | None, progress: bool | Progress) -> Settings:
        """Return the arguments of `Word2Vec.train`, or say what is wrong with them."""
        lr = _check.at_least_zero(lr, "lr")
        min_lr = _check.at_least_zero(min_lr, "min_lr")
        if min_lr > lr:
            raise ValueError(f"min_lr: expected at most lr={lr}, got {min_lr}")
        threads = get_num_threads() if threads is None else _check.positive_int(threads, "threads")
        if threads > _MAX_THREADS:
            raise ValueError(f"threads: expected 1 to {_MAX_THREADS}, got {threads}")
        bar = progress_of(progress, unit="word")
        return Settings(_check.positive_int(epochs, "epochs"), lr, min_lr, threads, mask_seed(seed), bar)

    def run(self) -> History:
        """Train, and put what was learned into the model whatever happens."""
        bar = self.settings.progress
        if bar is not None:
            bar.start(0.0)
        self.start = time.monotonic()
        try:
            with CtrlC() as ctrl_c, _Rows(self.model) as rows:
                trainer = self._trainer(rows)
                while len(self.history.epochs) < self.settings.epochs and not ctrl_c.pressed:
                    self._epoch(trainer, ctrl_c)
            self._finite()
        finally:
            seconds = time.monotonic() - self.start
            self.history.notes |= {
                "words": round(self.scan.total * self.done / self.tokens),
                "kept": self.kept,
                "predictions": self.predictions,
                "seconds": seconds,
            }
            if bar is not None:
                speed = amount(self.history.notes["words"] / max(seconds, 1e-9))
                epochs = plural(len(self.history.epochs), "epoch")
                bar.finish(f"{epochs} in {duration(seconds)}, {speed} words/s", self._share())
        if ctrl_c.pressed:
            self.history.notes["stopped"] = "Ctrl-C"
            text = f"stopped after {self._share():.0%} of {plural(self.settings.epochs, 'epoch')}"
            raise Interrupted(f"{text}; the model keeps what it learned", self.history)
        self.history.notes["stopped"] = "limit"
        return self.history

    def _trainer(self, rows: _Rows) -> _core.Word2VecTrainer:
        model = self.model
        return _core.Word2VecTrainer(
            rows.vectors,
            rows.output,
            rows.nodes,
            negative=model.negative,
            window=min(model.window, 1 << 20),  # sentences are shorter
            shrink=model.shrink_windows,
            cbow=0 if model.sg else 1 + model.cbow_mean,
            seed=self.settings.seed,
            **model.tables(),
        )

    def _share(self) -> float:
        return self.done / (self.tokens * self.settings.epochs)

    def _lr(self, tokens: int) -> float:
        s = self.settings
        return s.lr + (s.min_lr - s.lr) * tokens / (self.tokens * s.epochs)

    def _epoch(self, trainer: _core.Word2VecTrainer, ctrl_c: CtrlC) -> None:
        first_loss, first_predictions = self.loss, self.predictions
        for piece in self.scan.epoch(lambda: ctrl_c.pressed):
            self._piece(trainer, piece)
            if ctrl_c.pressed:
                return
        if ctrl_c.pressed:
            return
        mean = (self.loss - first_loss) / max(self.predictions - first_predictions, 1)
        epoch = {"epoch": len(self.history.epochs) + 1, "step": self.step, "loss": mean}
        self.history.epochs.append({**epoch, "seconds": time.monotonic() - self.start})

    def _piece(self, trainer: _core.Word2VecTrainer, piece: Piece) -> None:
        tokens = len(piece.tokens)
        lr, next_lr = self._lr(self.done), self._lr(self.done + tokens)
        loss, predictions, kept = trainer.train(
            piece.tokens, piece.begin, lr, next_lr, self.blocks, self.settings.threads
        )
        self.blocks += -(-tokens // _core.word2vec_block)
        self.done += tokens
        self.loss += loss
        self.predictions += predictions
        self.kept += kept
        self.step += 1
        mean = loss / predictions if predictions else math.nan
        seconds = time.monotonic() - self.start
        self.history.add_step(self.step, loss=mean, lr=lr, grad_norm=math.nan, seconds=seconds)
        if self.settings.progress is not None:
            epoch = len(self.history.epochs) + 1
            items = tokens * self.scan.total / self.tokens
            self.settings.progress.update(loss=mean, items=items, done=self._share(), elapsed=seconds, epoch=epoch)

    def _finite(self) -> None:
        for name, array in self.model.params.items():
            if array.size and not _core.all_finite(array):
                raise FloatingPointError(
                    f"{name} is not finite any more; a lower learning rate than {self.settings.lr} may help"
                )


class _Rows:
    """The model's matrices as the kernel wants them, back in the model at the end."""

    def __init__(self, model: Word2Vec) -> None:
        live = [model.vectors, model._params.get("output"), model._params.get("nodes")]
        self._copied = [(a, _padded(a)) for a in live if a is not None]
        padded = iter([rows for _, rows in self._copied])
        self.vectors = next(padded)
        self.output = next(padded) if model.negative else None
        self.nodes = next(padded) if model.hs else None

    def __enter__(self) -> _Rows:
        return self

    def __exit__(self, *exception: object) -> None:
        for live, padded in self._copied:
            if padded is not live:
                live[...] = padded[:, : live.shape[1]]


def _padded(a: NDArray[Any]) -> NDArray[Any]:
    """Return `a` itself, or a copy with rows of whole cache lines."""
    V, D = a.shape
    width = -(-D // _core.word2vec_pad) * _core.word2vec_pad
    if width == D and a.ctypes.data % 64 == 0:
        return a
    rows = _core.empty((V, width), np.dtype(np.float32))
    rows[:, :D] = a
    rows[:, D:] = 0
    return rows
