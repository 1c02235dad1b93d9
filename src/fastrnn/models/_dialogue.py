"""What `HRED` and `VHRED` have in common: the two levels of recurrence, rows moved between them, replies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastrnn import _check
from fastrnn.models._cells import chosen, count_states, first_state, open_forget_gates, own_states
from fastrnn.models._sampling import sampling_options
from fastrnn.models._vocabulary import keep, prepared
from fastrnn.nn import Dropout, Embedding, Linear, losses, ops
from fastrnn.nn._operations import enter
from fastrnn.nn._random import Seed, generator
from fastrnn.nn._variable import Variable
from fastrnn.nn.model import Model
from fastrnn.nn.search import Texts, beam_search, greedy_search, sample_search
from fastrnn.text import CharVocabulary, Vocabulary, as_vocabulary
from fastrnn.train.dialogue_data import Dialogues

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray


class Places(NamedTuple):
    """Where the utterances of a batch go.

    Attributes
    ----------
    asked, answered : integers [R]
        Columns of `tokens`: each utterance but the last of its dialogue, and the one that follows it.
    slots : integers [R]
        Rows of the context network's input [P, B, ·], taken as [P·B, ·], where the asked ones go.
    steps : integers [B]
        How many there are of each dialogue; P is the largest.
    """

    asked: NDArray[np.int64]
    answered: NDArray[np.int64]
    slots: NDArray[np.int64]
    steps: NDArray[np.int64]


def places(turns: NDArray[np.int64], last: bool) -> Places:
    """Where utterances go; with `last` the last one of each dialogue is asked, too, and nothing is answered."""
    dialogue = np.repeat(np.arange(len(turns)), turns)
    turn = np.arange(len(dialogue)) - np.repeat(np.cumsum(turns) - turns, turns)
    if last:
        return Places(np.arange(len(dialogue)), np.zeros(0, np.int64), turn * len(turns) + dialogue, turns)
    asked = np.flatnonzero(turn < turns[dialogue] - 1)
    return Places(asked, asked + 1, turn[asked] * len(turns) + dialogue[asked], np.maximum(turns - 1, 0))


def take_rows(x: Any, at: NDArray[np.int64]) -> Any:
    """Rows `at` of x [N, F]; none is named twice."""
    value = ops.stop_gradient(x)[at]
    if not isinstance(x, Variable):
        return value

    def pull(g: Any) -> tuple[Any]:
        dx = np.zeros(x.value.shape, x.value.dtype)
        dx[at] = g
        return (dx,)

    return enter(value, (x,), pull)


def place_rows(x: Any, at: NDArray[np.int64], count: int) -> Any:
    """[count, F] with the rows of x at `at`, and zeros."""
    rows = ops.stop_gradient(x)
    value = np.zeros((count, rows.shape[1]), rows.dtype)
    value[at] = rows
    return enter(value, (x,), lambda g: (g[at],)) if isinstance(x, Variable) else value


class DialogueModel(Model):
    """Utterance encoder, context network and decoder."""

    takes_lengths = False

    def _build(
        self,
        vocabulary: Any,
        cell: Any,
        embedding_dim: int,
        hidden_size: int,
        context_size: int,
        latent_size: int,
        num_layers: int,
        bidirectional: bool,
        peeky: bool,
        dropout: float,
        dtype: DTypeLike,
        seeds: list[Any],
        cell_options: Any = None,
    ) -> None:
        self.vocabulary, self.vocab_size = _known(vocabulary)
        keep(self, "vocabulary", self.vocab_size if self.vocabulary is None else self.vocabulary)
        special: Any = Vocabulary if self.vocabulary is None else self.vocabulary
        self.pad, self.bos, self.eos, self.unk = (int(getattr(special, name)) for name in ("pad", "bos", "eos", "unk"))
        recurrent, self.cell = chosen(cell, cell_options)
        hidden, layers = _check.positive_int(hidden_size, "hidden_size"), _check.positive_int(num_layers, "num_layers")
        context = _check.positive_int(context_size, "context_size")
        self.peeky, bidirectional = _check.flag(peeky, "peeky"), _check.flag(bidirectional, "bidirectional")
        stack: dict[str, Any] = {"dropout": dropout, "dtype": dtype}
        self.embedding = Embedding(self.vocab_size, embedding_dim, dtype=dtype, seed=seeds[0])
        self.encoder = recurrent(embedding_dim, hidden, layers, bidirectional=bidirectional, seed=seeds[1], **stack)
        self.context_rnn = recurrent((1 + bool(bidirectional)) * hidden, context, dtype=dtype, seed=seeds[2])
        thought = context + latent_size
        states = layers * count_states(self.encoder)
        self.to_state = Linear(thought, states * hidden, dtype=dtype, seed=seeds[3])
        self.decoder = recurrent(embedding_dim + thought * self.peeky, hidden, layers, seed=seeds[4], **stack)
        self.dropout = Dropout(dropout)
        self.output = Linear(hidden, self.vocab_size, dtype=dtype, seed=seeds[5])
        for layer in (self.encoder, self.context_rnn, self.decoder):
            open_forget_gates(layer)
        if cell == "gru":  # what was said some turns ago would be halved with each turn
            self.context_rnn.params["bias_ih_l0"][context : 2 * context] += 2

    # ---- arguments ---------------------------------------------------------------------------------------------

    def _dialogues(self, x: Any, name: str = "dialogues") -> Dialogues:
        """Dialogues with the end token past each utterance."""
        if not isinstance(x, Dialogues):
            x = Dialogues.from_lists(x, None if self.vocabulary is None else self.vocabulary.encode)
        found: Dialogues = x.padded(self.eos)
        _check.in_range(found.tokens, self.vocab_size, "vocab_size", name)
        return found

    def _answers(self, x: Any) -> tuple[Dialogues, Places]:
        x = self._dialogues(x)
        where = places(x.turns, last=False)
        if not len(where.asked):
            raise ValueError("dialogues: expected one of two utterances or more, since the first one isn't predicted")
        return x, where

    # ---- parts -------------------------------------------------------------------------------------------------

    def _encode(self, x: Dialogues, rows: Any) -> Any:
        """The last states of the utterance encoder, of both directions, [R, D·H]."""
        lengths = x.lengths[rows]
        tokens = x.tokens[: max(int(lengths.max(initial=1)), 1), rows]
        _, state = self.encoder(self.embedding(tokens), lengths=lengths)
        h = first_state(state)
        return ops.concat([h[-2], h[-1]], -1) if self.encoder.bidirectional else h[-1]

    def _contexts(self, encoded: Any, where: Places) -> Any:
        """The context network's outputs after each utterance, [R, C], of encodings [R, D·H]."""
        steps, batch = int(where.steps.max(initial=1)), len(where.steps)
        placed = place_rows(encoded, where.slots, steps * batch)
        y, _ = self.context_rnn(placed.reshape(steps, batch, -1), lengths=where.steps)
        return take_rows(y.reshape(steps * batch, -1), where.slots)

    def _state(self, thought: Any) -> Any:
        """The decoder's initial state: tanh of a linear map, for c the map itself."""
        maps = self.to_state(thought).reshape(len(thought), -1, self.decoder.hidden_size).transpose(1, 0, 2)
        return own_states(self.decoder, maps)

    def _decode(self, seen: NDArray[np.int64], ends: NDArray[np.int64], thought: Any) -> Any:
        """The decoder's outputs [T + 1, R, H] after the begin and after each token of `seen` [T, R]."""
        tokens = np.concatenate([np.full((1, seen.shape[1]), self.bos), seen])
        x = self.embedding(tokens)
        if self.peeky:
            x = ops.concat([x, ops.broadcast_to(thought.reshape(1, *thought.shape), (len(tokens), *thought.shape))], -1)
        y, _ = self.decoder(x, self._state(thought), lengths=ends)
        return y

    def _nats(self, x: Dialogues, where: Places, seen: Any, thought: Any, weight: Any) -> Any:
        """−log P of the answers per token, ends counted."""
        ends = x.lengths[where.answered] + 1
        tokens = x.tokens[: len(seen), where.answered]
        target = np.concatenate([tokens, np.full((1, tokens.shape[1]), self.eos)])
        y = self._decode(seen, ends, thought)
        # The output layer, where most of the work is, sees the steps that are there and no padding.
        at = np.flatnonzero(np.arange(len(target))[:, None] < ends)
        logits = self.output(self.dropout(take_rows(y.reshape(target.size, -1), at)))
        share = None if weight is None else weight[at % len(ends)]
        nats, _ = losses.cross_entropy(logits, target.reshape(-1)[at], weight=share, out=ops.stop_gradient(logits))
        return nats

    def _seen(self, x: Dialogues, where: Places) -> NDArray[np.int64]:
        """The answers' tokens, [T, R]."""
        return x.tokens[: int(x.lengths[where.answered].max(initial=0)), where.answered]

    def _weights(self, weight: Any, where: Places) -> Any:
        return None if weight is None else _check.weights(np.reshape(weight, -1), where.asked.shape)

    def _batch(self, batch: Any) -> tuple[Dialogues, Places, Any]:
        x, _, _, weight = (*batch, None, None, None)[:4] if isinstance(batch, tuple) else (batch, None, None, None)
        dialogues, where = self._answers(x)
        return dialogues, where, self._weights(weight, where)

    # ---- use ---------------------------------------------------------------------------------------------------

    def context(self, dialogues: Any) -> NDArray[Any]:
        """The context network's state after each dialogue, [B, context_size].

        Parameters
        ----------
        dialogues : Dialogues, or list of lists of texts or of integers [T]
        """
        x = self._dialogues(dialogues)
        where = places(x.turns, last=True)
        found = np.zeros((len(x), self.context_rnn.hidden_size), self.embedding.dtype)
        if len(where.asked):
            each = self._contexts(self._encode(x, where.asked), where)
            some = np.flatnonzero(x.turns)
            found[some] = each[np.cumsum(x.turns)[some] - 1]
        return found

    def perplexity(self, dialogues: Any, *, batch_size: int = 64) -> float:
        """e to the loss per token of all utterances but the first ones.

        Parameters
        ----------
        dialogues : Dialogues, or list of lists of texts or of integers [T]
            Those of fewer than two utterances don't count.
        batch_size : int
            Dialogues at once.
        """
        size = _check.positive_int(batch_size, "batch_size")
        every = self._dialogues(dialogues)
        self._answers(every)
        rows = np.flatnonzero(every.turns > 1)
        nats = count = 0.0
        for first in range(0, len(rows), size):
            x, where = self._answers(every[rows[first : first + size]])
            tokens = float((x.lengths[where.answered] + 1).sum())
            nats, count = nats + float(self.loss((x,), train=False)) * tokens, count + tokens  # type: ignore[attr-defined]
        return float(np.exp(nats / count))

    def reply(
        self,
        dialogues: Any,
        *,
        beam_size: int | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        num_samples: int | None = None,
        max_length: int = 50,
        min_length: int = 0,
        length_penalty: float = 0.0,
        banned: Iterable[int] = (),
        seed: Seed = None,
    ) -> list[Any]:
        """Write what follows each dialogue.

        Parameters
        ----------
        dialogues : Dialogues, or list of lists of texts or of integers [T]
        beam_size : int, optional
            Beam search, see `fr.nn.beam_search`.
        temperature, top_k, top_p
            Without a beam: draws, see `fr.nn.sample_search`; at temperature 0 the most probable token in each step.
        num_samples : int, optional
            Return a list of so many replies for each dialogue: draws, or the best of a beam (at most `beam_size`).
        max_length, min_length : int
            Of tokens.
        length_penalty : float
            Of the beam search.
        banned : integers
            Tokens that never come, beside padding, begin and unknown.
        seed : None, int or numpy.random.Generator
            For what is drawn.

        Returns
        -------
        list of B texts, or of int64 arrays for a model without vocabulary; with `num_samples` of lists of those
        """
        rng = generator(seed)
        drawn: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        sampling_options(max_length, **drawn)
        length_penalty = _check.number(length_penalty, "length_penalty")
        if isinstance(banned, str) or not isinstance(banned, Iterable):
            raise TypeError(f"banned: expected integers, got {_check.describe(banned)}")
        count = 1 if num_samples is None else _check.positive_int(num_samples, "num_samples")
        contexts = self.context(dialogues)
        if not len(contexts):
            return []
        thought, draws = self._thoughts(contexts, count, rng)
        each = count // draws  # texts of one thought
        never = {self.pad, self.bos, self.unk, *banned} - {self.eos}
        given: dict[str, Any] = {
            "decoder": self.decoder, "embedding": self.embedding, "output": self.output,
            "state": self._state(thought), "extra": thought if self.peeky else None, "bos": self.bos,
            "eos": self.eos, "max_length": max_length, "min_length": min_length, "banned": never,
        }  # fmt: skip
        if beam_size is not None:
            if each > _check.positive_int(beam_size, "beam_size"):
                raise ValueError(f"num_samples: expected at most beam_size={beam_size}, got {each}")
            if temperature or top_k is not None or top_p is not None:
                raise ValueError("beam_size: a beam draws nothing; leave out temperature, top_k and top_p")
            texts = beam_search(beam_size=beam_size, n_best=each, length_penalty=length_penalty, **given)
        elif each == 1 and temperature == 0:
            texts = greedy_search(**given)
        else:
            texts = sample_search(num_samples=each, seed=rng, **drawn, **given)
        found = self._texts(texts)
        if num_samples is None:
            return found
        return [found[first : first + count] for first in range(0, len(found), count)]

    def _thoughts(self, contexts: NDArray[Any], count: int, rng: np.random.Generator) -> tuple[NDArray[Any], int]:
        """What the decoder is given, and how many there are for one context."""
        return contexts, 1

    def _texts(self, texts: Texts) -> list[Any]:
        rows = zip(texts.tokens.reshape(-1, texts.tokens.shape[-1]), texts.lengths.reshape(-1), strict=True)
        found = [tokens[: max(int(length), 0)].copy() for tokens, length in rows]
        return found if self.vocabulary is None else [self.vocabulary.decode(tokens) for tokens in found]


def _known(vocabulary: Any) -> tuple[Any, int]:
    """A vocabulary with special tokens, or None for a number of tokens; and its size."""
    found, size = prepared(vocabulary)
    if size < 5 and not isinstance(found, CharVocabulary):
        raise ValueError(
            f"vocabulary: expected at least 5 tokens, because 0 to 3 are padding, begin, end and unknown, got {size}"
        )
    if isinstance(found, CharVocabulary):
        found = as_vocabulary(found)
        size = len(found)
    return found, size
