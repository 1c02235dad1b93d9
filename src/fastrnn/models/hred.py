"""HRED: replies in a dialogue, from all of its turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn.models._dialogue import DialogueModel
from fastrnn.nn._random import Seed, split

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import DTypeLike


class HRED(DialogueModel):
    """Hierarchical recurrent encoder-decoder: one RNN reads each utterance, a second one reads what the first made of
    them, a third writes the next utterance.

        e_n = last state of encoder(u_n)
        c_n = context(e_n, c_{n−1})
        log P(u_{n+1} | u_1 … u_n) = Σ_t log softmax(output(y_t))[u_{n+1,t}],   y_t = decoder([u_{n+1,<t} ; c_n])

    The decoder's initial state is tanh(W·c_n + b) (for an LSTM's cell without the tanh), and with `peeky` c_n is fed to
    it in each step, too. The loss is the mean of −log P over tokens, ends counted; first utterances are given.
    All utterances of a batch are encoded in one call, and all are decoded in one.

    Parameters
    ----------
    vocabulary : int, Vocabulary, CharVocabulary, or a tokenizer that `fr.text.as_vocabulary` takes
        With a vocabulary the model takes and returns text. A number counts tokens, of which 0 to 3 are padding, begin,
        end and unknown.
    cell : "gru", "lstm", "rnn", "sru", "mingru", "minlstm", "indrnn", or a cell made by `fr.cell`
    cell_options : dict, optional
        Further arguments of the recurrent layers, such as ``{"layer_norm": True}``.
        Of all three. They start out remembering: forget gates of an LSTM with a bias of 1, update gates of the context
        network's GRU with one of 2.
    embedding_dim : int
        Of the one table of both encoder and decoder.
    hidden_size, num_layers : int
        Of encoder and decoder.
    context_size : int
        C.
    bidirectional : bool
        Of the encoder: e_n has the last states of both directions.
    peeky : bool
        Feed the context in each step.
    dropout : float
        Probability of a zero before the output layer and between recurrent layers, in training.
    dtype : dtype
        float32 or float64.
    seed : None, int or numpy.random.Generator
        For the initial weights.

    Notes
    -----
    Calling the model with dialogues (or `Dialogues`) gives the logits [T + 1, R, V] of the R utterances that have one
    before them, dialogue by dialogue, from the true tokens before each.

    References
    ----------
    Serban, Sordoni, Bengio, Courville & Pineau 2016, "Building End-To-End Dialogue Systems Using Generative
    Hierarchical Neural Network Models"; Sordoni et al. 2015.

    Examples
    --------
    >>> import fastrnn as fr
    >>> dialogues = [["i am ann", "hello", "who am i ?", "ann"], ["i am bob", "hello", "who am i ?", "bob"]]
    >>> vocabulary = fr.text.Vocabulary.from_texts(text for dialogue in dialogues for text in dialogue)
    >>> model = fr.models.HRED(vocabulary, embedding_dim=16, hidden_size=64, context_size=64, seed=0)
    >>> data = fr.DialogueBatches(dialogues, batch_size=2, vocabulary=vocabulary)
    >>> _ = fr.fit(model, data, None, fr.optim.Adam(model, lr=0.005), epochs=200, progress=False)
    >>> model.reply([["i am ann", "hello", "who am i ?"], ["i am bob", "hello", "who am i ?"]])
    ['ann', 'bob']
    """

    def __init__(
        self,
        vocabulary: Any,
        cell: Any = "gru",
        *,
        cell_options: Mapping[str, Any] | None = None,
        embedding_dim: int = 128,
        hidden_size: int = 256,
        context_size: int = 256,
        num_layers: int = 1,
        bidirectional: bool = False,
        peeky: bool = True,
        dropout: float = 0.0,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        self._build(
            vocabulary, cell, embedding_dim, hidden_size, context_size, 0, num_layers, bidirectional, peeky, dropout,
            dtype, split(seed, 6), cell_options,
        )  # fmt: skip

    def forward(self, dialogues: Any) -> Any:
        """Logits of each utterance but the first of its dialogue, [T + 1, R, V].

        Parameters
        ----------
        dialogues : Dialogues, or list of lists of texts or of integers [T]
        """
        x, where = self._answers(dialogues)
        thought = self._contexts(self._encode(x, where.asked), where)
        y = self._decode(self._seen(x, where), x.lengths[where.answered] + 1, thought)
        return self.output(self.dropout(y))

    def loss(self, batch: Any, *, seed: Seed = None, train: bool = True) -> Any:
        """−log P of the answers in nats per token, ends counted; what ``fr.fit(model, data)`` minimises.

        Parameters
        ----------
        batch : Batch, as from `DialogueBatches`, or dialogues
            `x` are the dialogues, `weight` has a number for each of their utterances but the first.
        seed : None, int or numpy.random.Generator
            Not used: dropout has the seed of the run.
        train : bool
            Not used, either.
        """
        x, where, weight = self._batch(batch)
        thought = self._contexts(self._encode(x, where.asked), where)
        return self._nats(x, where, self._seen(x, where), thought, weight)
