"""Seq2Seq: from one sequence of tokens to another, with or without attention."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check
from fastrnn.models import _parts
from fastrnn.models._cells import cell_config, cell_states, chosen, steps
from fastrnn.models._seq2seq_decoder import Decoder, check_sizes
from fastrnn.models._seq2seq_encoder import Encoded, Encoder
from fastrnn.models._seq2seq_search import Translating
from fastrnn.models._seq2seq_text import Side, pairs_of
from fastrnn.models.scheduled_sampling import ScheduledSampling, sampling_of
from fastrnn.nn import Embedding, init, losses, ops
from fastrnn.nn._layer import LAYER, to_spec
from fastrnn.nn._random import Seed, split
from fastrnn.nn.model import Model
from fastrnn.train.fit import fit
from fastrnn.train.optim import Adam
from fastrnn.train.pair_data import PairBatches
from fastrnn.train.progress import Counted, Progress, progress_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from fastrnn.train.history import History

SCORED = 1 << 22  # logits that `score` holds at once
TIES = {"output": "output", "all": "all"}


class Seq2Seq(Translating, Model):
    """Write a target from a source: an RNN reads the source, another writes the target token by token.

    The encoder's last states become, by a bridge, the decoder's first ones; the h of the last layer is the thought
    vector z. With attention the decoder looks at the encoder's outputs s in each step, see `fr.nn.AttentionDecoder`.
    The model maximises

        log P(target | source) = Σ_t log softmax(output(y_t))[target_t],   y_t = decoder(target_<t, z, s)

    Parameters
    ----------
    source_vocabulary, target_vocabulary : vocabulary or int
        What `fr.text.as_vocabulary` takes, such as an `fr.text.Vocabulary`; or the number of tokens, of which 0 to 3
        are padding, begin, end and unknown. Without a target's the source's is taken.
    cell : "lstm", "gru", "rnn", or a cell made by `fr.cell`
    cell_options : dict, optional
        Further arguments of the recurrent layers, such as ``{"layer_norm": True}``; see `AttentionDecoder`.
    encoder_cell : optional
        The encoder's cell, where it is another one; then also "sru", "qrnn", "mingru", "minlstm", "lru" or "indrnn".
        With `encoder_options` like `cell_options`.
        The forget gates of an LSTM start with a bias of 1.
    embedding_dim, hidden_size, num_layers : int
        Of encoder and decoder.
    bidirectional : bool
        Of the encoder.
    decoder_hidden, decoder_layers : int, optional
        Of the decoder, if it shall differ.
    attention : {"general", "dot", "scaled_dot", "additive", "concat"} or None
    attention_size : int, optional
        Q of the additive score.
    input_feeding : bool
        With attention: the decoder reads its last output y_{t−1}, too.
    bridge : {"sum", "linear"}, optional
        The sum of the encoder's directions, layer by layer; or h = tanh(W·all h of the encoder + b), and c alike
        without the tanh. By default "sum" where encoder and decoder have as many layers of one size.
    reverse_source : bool
        The encoder reads sources from their ends (Sutskever et al. 2014).
    peeky : bool
        The thought vector is fed to the decoder in each step; without attention its output sees it, too:
        y_t = tanh(W·[z ; h_t] + b).
    tied : {"output", "all"}, optional
        The target's embedding is the weight of the output layer (Press & Wolf 2017); for "all" the source's, too.
    dropout : float
        Probability of a zero before the output layer, between layers of the encoder, and between those of a decoder
        without attention; in training.
    label_smoothing : float
        Of the loss in training, see `fr.losses.cross_entropy`.
    sampling : float or ScheduledSampling
        Probability that the decoder reads its own token in a step of the training, instead of the true one.
    dtype : dtype
        float32 or float64.
    seed : None, int or numpy.random.Generator
        For the initial weights.

    References
    ----------
    Sutskever, Vinyals & Le 2014; Cho et al. 2014 (the thought vector in each step); Bahdanau, Cho & Bengio 2015; Luong,
    Pham & Manning 2015; Bengio et al. 2015 (`sampling`).

    Examples
    --------
    >>> import fastrnn as fr
    >>> pairs = [("one two", "eins zwei"), ("two one", "zwei eins"), ("one one", "eins eins"), ("two", "zwei")]
    >>> source, target = (fr.text.Vocabulary.from_texts(texts) for texts in zip(*pairs))
    >>> model = fr.models.Seq2Seq(source, target, "gru", embedding_dim=16, hidden_size=32, seed=0)
    >>> _ = model.fit(pairs, epochs=100, lr=0.01, progress=False)
    >>> model.translate(["two one", "one one"])
    ['zwei eins', 'eins eins']
    """

    takes_lengths = True

    def __init__(
        self,
        source_vocabulary: Any,
        target_vocabulary: Any = None,
        cell: Any = "lstm",
        *,
        cell_options: Mapping[str, Any] | None = None,
        encoder_cell: Any = None,
        encoder_options: Mapping[str, Any] | None = None,
        embedding_dim: int = 256,
        hidden_size: int = 256,
        num_layers: int = 1,
        bidirectional: bool = False,
        decoder_hidden: int | None = None,
        decoder_layers: int | None = None,
        attention: str | None = "general",
        attention_size: int | None = None,
        input_feeding: bool = True,
        bridge: str | None = None,
        reverse_source: bool = False,
        peeky: bool = False,
        tied: str | None = None,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        sampling: float | ScheduledSampling = 0.0,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        self._given = {
            "cell": cell_config(steps(cell)[1]), "embedding_dim": embedding_dim, "hidden_size": hidden_size,
            "num_layers": num_layers,
            "bidirectional": bidirectional, "decoder_hidden": decoder_hidden, "decoder_layers": decoder_layers,
            "attention": attention, "attention_size": attention_size, "input_feeding": input_feeding,
            "bridge": bridge, "reverse_source": reverse_source, "peeky": peeky, "tied": tied, "dropout": dropout,
            "label_smoothing": label_smoothing,
        }  # fmt: skip
        ours, own = steps(cell)[1], encoder_cell is not None
        theirs = chosen(encoder_cell)[1] if own else ours
        if not own and encoder_options is not None:
            raise ValueError("encoder_options: expected with encoder_cell, got it alone")
        parts = {"cell_options": cell_options, "encoder_options": encoder_options}
        self._given |= {name: dict(value) for name, value in parts.items() if value}
        if own:
            self._given["encoder_cell"] = cell_config(theirs)
        self.source = Side(source_vocabulary, "source")
        self.target = self.source if target_vocabulary is None else Side(target_vocabulary, "target")
        check_sizes(attention, attention_size)
        hidden = _check.optional_positive_int(decoder_hidden, "decoder_hidden") or hidden_size
        layers = _check.optional_positive_int(decoder_layers, "decoder_layers") or num_layers
        if tied is not None:
            _check.choice(tied, TIES, "tied")
        self.label_smoothing = _check.fraction(label_smoothing, "label_smoothing")
        self.sampling = sampling_of(sampling)
        seeds = split(seed, 4)
        self.embedding = Embedding(self.target.size, embedding_dim, dtype=dtype, seed=seeds[0])
        if tied is not None:  # as weights of the output layer they have to be small
            self.embedding.params["weight"] = init.normal(
                (self.target.size, embedding_dim), embedding_dim**-0.5, dtype=dtype, seed=seeds[0]
            )
        if tied == "all" and self.target is not self.source:
            raise ValueError("tied: 'all' needs one vocabulary for source and target; pass only the first")
        table = self.embedding
        if tied != "all":
            table = Embedding(self.source.size, embedding_dim, dtype=dtype, seed=seeds[1])
        self.encoder = Encoder(
            table, theirs, hidden_size, num_layers, bidirectional, reverse_source, bridge, hidden, layers, dropout,
            dtype, seeds[2], encoder_options if own else cell_options, cell_states(ours),
        )  # fmt: skip
        self.decoder = Decoder(
            self.embedding, ours, hidden, layers, self.encoder.output_size, attention, attention_size, input_feeding,
            peeky, tied is not None, dropout, dtype, seeds[3], cell_options,
        )  # fmt: skip

    def config(self) -> dict[str, Any]:
        sampling = self.sampling
        return {
            "source_vocabulary": self.source.config(),
            "target_vocabulary": None if self.target is self.source else self.target.config(),
            **self._given,
            "sampling": sampling if isinstance(sampling, float) else {LAYER: to_spec(sampling)},
            "dtype": self.embedding.dtype.name,
        }

    # ---- the two entries ---------------------------------------------------------------------------------------

    def forward(
        self,
        source: Any,
        target: Any,
        *,
        source_lengths: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
    ) -> Any:
        """Logits of each token of the target and of its end, [T + 1, B, V], with teacher forcing.

        Parameters
        ----------
        source, target : integers [S, B] and [T, B], or lists of sequences, or of texts
            Without begin and end.
        source_lengths, lengths : integers [B], optional
            Of sources and targets.
        """
        target, ends = self.target.batch(target, lengths)
        return self.decoder.linear()(self._decoded(self._encoded(source, source_lengths), target, ends))

    def loss(self, batch: Any, *, seed: Seed = None, train: bool = True) -> Any:
        """−log P(target | source) in nats per token, ends counted; what ``fr.fit(model, data)`` minimises.

        Parameters
        ----------
        batch : Batch, or tuple ``(source, target, lengths=None, weight=None)``
            As `fr.PairBatches` makes them: source [S, B], target [T, B], lengths [2, B], one weight a pair.
        seed : None, int or numpy.random.Generator
            For scheduled sampling.
        train : bool
            With label smoothing and scheduled sampling.
        """
        source, target, lengths, weight = _check.batch_of(batch)
        theirs, ours = _check.lengths_of_pairs(lengths)
        target, ends = self.target.batch(target, ours)
        rate = self._sampling_rate() if train else 0.0
        drawn = _parts.noise_seeds(seed, train)[0] if rate else None
        y = self._decoded(self._encoded(source, theirs), target, ends, rate, drawn)
        expected, shares = self._expected(target, ends), None
        if weight is not None:
            shares = np.broadcast_to(_check.row_weights(weight, len(ends)), expected.shape)  # type: ignore[arg-type]
        if not (ends == len(target)).all():  # only real steps get logits
            real = np.arange(len(expected))[:, None] <= ends
            y, expected = y[real], expected[real]
            shares = None if shares is None else shares[real]
        logits = self.decoder.linear()(y)
        smoothing = self.label_smoothing if train else 0.0
        into = ops.stop_gradient(logits)  # the gradient takes the place of the logits: they are most of the memory
        return losses.cross_entropy(logits, expected, weight=shares, label_smoothing=smoothing, out=into)[0]

    # ---- training and measuring --------------------------------------------------------------------------------

    def batches(self, pairs: Any, batch_size: int = 64, **options: Any) -> PairBatches:
        """Pairs of texts (or of sequences of tokens) as batches; `options` go to `fr.PairBatches`."""
        if isinstance(pairs, PairBatches):
            return pairs
        sources, targets = pairs_of(pairs)
        if not sources:
            raise ValueError("pairs: expected at least one, got none")
        return PairBatches(
            [self.source.encode(x) for x in sources],
            [self.target.encode(x) for x in targets],
            batch_size=batch_size,
            pad_value=self.source.pad,
            target_pad=self.target.pad,
            dtype=np.int64,
            **options,
        )

    def fit(
        self,
        pairs: Any,
        *,
        validation: Any = None,
        batch_size: int = 64,
        lr: float = 1e-3,
        optimizer: Any = None,
        clip_norm: float | None = 5.0,
        seed: int | None = 0,
        **options: Any,
    ) -> History:
        """Train on pairs.

        Parameters
        ----------
        pairs, validation : list of (source, target), or PairBatches
            Texts, or integers [T].
        batch_size : int
        lr : float
            Of Adam, where no `optimizer` is given.
        optimizer : Optimizer, optional
        clip_norm : float, optional
        seed : int, optional
            For the order, dropout and sampling.
        **options
            As for `fr.fit`: `epochs`, `steps` or `minutes`, `checkpoint`, `progress` …
        """
        data = self.batches(pairs, batch_size, seed=seed)
        if validation is not None:
            validation = self.batches(validation, batch_size, shuffle=False)
        best = optimizer or Adam(self, lr=lr)
        return fit(self, data, None, best, validation=validation, clip_norm=clip_norm, seed=seed, **options)

    def perplexity(self, pairs: Any, *, batch_size: int = 64) -> float:
        """exp(−mean log P per token) of pairs, ends counted."""
        total = count = 0.0
        for batch in self.batches(pairs, batch_size, shuffle=False):
            tokens = float(np.sum(batch.lengths[1] + 1))
            total += tokens * float(self.loss(batch, train=False))
            count += tokens
        return math.exp(min(total / count, 700.0))

    def score(self, pairs: Any, *, batch_size: int = 64, progress: bool | Progress = False) -> NDArray[np.float64]:
        """log P(target | source) in nats of each pair, [N]; with `progress` it shows how much is done."""
        sources, targets = pairs_of(pairs)
        batch_size = _check.positive_int(batch_size, "batch_size")
        found = np.zeros(len(sources))
        order = np.argsort([len(x) for x in targets], kind="stable")
        with Counted(progress_of(progress, unit="pair"), len(order)) as work:
            for rows in np.split(order, range(batch_size, len(order), batch_size)):
                target, ends = self.target.batch([targets[i] for i in rows])
                y = self._decoded(self._encoded([sources[i] for i in rows], None), target, ends)
                real = np.arange(len(target) + 1)[:, None] <= ends
                y, expected, output = y[real], self._expected(target, ends)[real], self.decoder.linear()
                log_p, size = np.zeros(len(y)), max(SCORED // self.target.size, 1)
                for at in range(0, len(y), size):
                    some = slice(at, at + size)
                    log_p[some] = np.take_along_axis(ops.log_softmax(output(y[some])), expected[some, None], 1)[:, 0]
                each = np.zeros(real.shape)
                each[real] = log_p
                found[rows] = each.sum(0)
                work.add(len(rows), size=len(rows))
        return found

    # ---- parts -------------------------------------------------------------------------------------------------

    def _encoded(self, source: Any, lengths: Any) -> Encoded:
        encoded: Encoded = self.encoder(*self.source.batch(source, lengths, "source_lengths"))
        return encoded

    def _decoded(self, encoded: Encoded, target: Any, ends: Any, sampling: float = 0.0, seed: Seed = None) -> Any:
        """The decoder's outputs after the begin and after each token of target, [T + 1, B, ·]."""
        if len(encoded.lengths) != len(ends):
            raise ValueError(f"target: expected {len(encoded.lengths)} rows, as many as source has, got {len(ends)}")
        tokens = np.concatenate([np.full((1, target.shape[1]), self.target.bos), target])
        whole = bool((ends == len(target)).all())
        return self.decoder(tokens, encoded, None if whole else ends + 1, sampling, seed)

    def _expected(self, target: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
        """Each token of the target, and the end after them, [T + 1, B]."""
        expected = np.concatenate([target, np.full((1, target.shape[1]), self.target.pad)])
        expected[ends, np.arange(len(ends))] = self.target.eos
        return expected

    def _sampling_rate(self) -> float:
        return self.sampling() if isinstance(self.sampling, ScheduledSampling) else self.sampling
