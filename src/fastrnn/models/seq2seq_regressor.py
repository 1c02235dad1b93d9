"""Seq2SeqRegressor: from a series to the series that follows it, or belongs to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check
from fastrnn.models._cells import open_forget_gates, steps
from fastrnn.models._parts import noise_seeds
from fastrnn.models._series import SeriesBatches, ends_of, padded, series, steps_of, without_gaps
from fastrnn.models.scheduled_sampling import ScheduledSampling, sampling_of
from fastrnn.nn import AttentionDecoder, Linear, ValueDecoder, losses, ops
from fastrnn.nn._layer import Layer
from fastrnn.nn._random import Seed, generator, split
from fastrnn.nn.decoder import SCORES
from fastrnn.nn.model import Model
from fastrnn.train.fit import fit
from fastrnn.train.optim import AdamW

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, DTypeLike, NDArray

STARTS = {"zero": "zero", "last": "last"}


class Seq2SeqRegressor(Model):
    """Numbers from numbers, step by step: an encoder reads a series, a decoder writes one of another length.

        s, state = encoder(x);   y_t, state = decoder([v_{t−1}, covariates_t], state[, s]);   v_t = O·y_t + b

    In training the decoder reads the true value of the step before (teacher forcing), or with a probability its own
    (scheduled sampling); in use always its own (free running). Own values are read in compiled code, see
    `fr.nn.ValueDecoder`.

    Parameters
    ----------
    input_size : int
        F, values of a step of x.
    output_size : int
        O, values of a step of y.
    hidden_size : int
        H, units of the encoder in each direction, and of the decoder.
    cell : "lstm", "gru", "rnn", or a cell made by `fr.cell`
    cell_options : dict, optional
        Further arguments of the recurrent layers, such as ``{"layer_norm": True}``.
        Forget gates of an LSTM start with a bias of 1.
    num_layers : int
        Of the encoder and of the decoder.
    bidirectional : bool
        The encoder also reads backwards; a linear map (of h with a tanh) makes the decoder's state of both.
    attention : None, "dot", "scaled_dot", "general", "additive" or "concat"
        The decoder looks at all of the encoder's outputs in every step, see `fr.nn.AttentionDecoder`.
    covariate_size : int
        C, numbers known beforehand of each step of y, such as the hour of the day.
    start : "zero" or "last"
        What the decoder reads first: zeros, or the first O values of x's last step, where they are y's past.
    sampling : float or ScheduledSampling
        Probability, drawn for each step of a batch, that training reads the model's own value: 0 is teacher forcing,
        1 free running; a schedule makes it rise in the course of the training.
    feedback_grad : bool
        Whether gradients flow through own values, as in the usual loop in PyTorch, or stop there, as in one that
        detaches them.
    dropout : float
        Between the encoder's layers.
    dtype : dtype
        float32 or float64.
    seed : None, int or numpy.random.Generator
        For the initial weights.

    Notes
    -----
    Targets of unit size are learned fastest: scale yours.

    References
    ----------
    Cho et al. 2014 and Sutskever et al. 2014 (encoder and decoder), Bengio et al. 2015 (scheduled sampling), Bahdanau
    et al. 2015 and Luong et al. 2015 (attention).

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> rng = np.random.default_rng(0)
    >>> t = rng.uniform(0, 6, (200, 1)) + np.arange(24) / 4
    >>> x, y = np.sin(t).astype(np.float32)[..., None], np.cos(t).astype(np.float32)[..., None]  # [N, T, 1]
    >>> sampling = fr.models.ScheduledSampling("linear", k=200)
    >>> model = fr.models.Seq2SeqRegressor(1, 1, 16, sampling=sampling, seed=0)
    >>> _ = model.fit(x, y, epochs=30, lr=0.01)
    >>> model.predict(x[:3], horizon=24).shape, model.score(x, y) > 0.9
    ((3, 24, 1), True)
    """

    takes_lengths = True

    def __init__(
        self,
        input_size: int,
        output_size: int = 1,
        hidden_size: int = 64,
        *,
        cell: Any = "lstm",
        cell_options: Mapping[str, Any] | None = None,
        num_layers: int = 1,
        bidirectional: bool = False,
        attention: str | None = None,
        covariate_size: int = 0,
        start: str = "zero",
        sampling: float | ScheduledSampling = 0.0,
        feedback_grad: bool = True,
        dropout: float = 0.0,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        seeds, (recurrent, self.cell) = split(seed, 4), steps(cell, cell_options)
        self.start = _check.choice(start, STARTS, "start")
        self.input_size = _check.positive_int(input_size, "input_size")
        self.output_size = _check.positive_int(output_size, "output_size")
        self.covariate_size = _check.natural(covariate_size, "covariate_size")
        if start == "last" and self.output_size > self.input_size:
            raise ValueError(f"start: 'last' needs output_size up to input_size={input_size}, got {output_size}")
        self.sampling = sampling_of(sampling)
        self.encoder = recurrent(
            input_size,
            hidden_size,
            num_layers,
            bidirectional=bidirectional,
            dropout=dropout,
            dtype=dtype,
            seed=seeds[0],
        )
        inputs, directions = self.output_size + self.covariate_size, 1 + bool(bidirectional)
        self.bridge = Linear(2 * hidden_size, hidden_size, dtype=dtype, seed=seeds[1]) if bidirectional else None
        if attention is None:
            rnn: Layer = recurrent(inputs, hidden_size, num_layers, dtype=dtype, seed=seeds[2])
        else:
            _check.choice(attention, SCORES, "attention")
            rnn = AttentionDecoder(
                inputs, hidden_size, directions * hidden_size, num_layers, cell=self.cell, attention=attention,
                cell_options=cell_options, dtype=dtype, seed=seeds[2],
            )  # fmt: skip
        open_forget_gates(self.encoder)
        open_forget_gates(rnn)
        output = Linear(hidden_size, self.output_size, dtype=dtype, seed=seeds[3])
        self.decoder = ValueDecoder(rnn, output, feedback_grad)

    def forward(
        self,
        x: Any,
        horizon: int | None = None,
        *,
        lengths: ArrayLike | None = None,
        covariates: ArrayLike | None = None,
        target: ArrayLike | None = None,
        own: ArrayLike | None = None,
        target_lengths: ArrayLike | None = None,
    ) -> Any:
        """The series that the decoder writes, [H, B, O].

        Parameters
        ----------
        x : array [T, B, F]; without the axis B for one series
        horizon : int, optional
            H, the number of steps; given by `covariates` or `target` where there are some.
        lengths : integers [B], optional
            Steps of each row of x.
        covariates : array [H, B, C], where the model has some
        target : array [H, B, O], optional
            True values, to be read where `own` doesn't forbid it; without them it runs free.
        own : bools [H], optional
            Steps that read the model's own value; the first one reads `start`.
        target_lengths : integers [B], optional
            Steps of each row of the result, which is zero past them.
        """
        one = np.ndim(x) == 2
        x = _check.sequence(x, self.dtype, False, self.input_size)
        if one:
            x, covariates, target = x[:, None], _with_batch(covariates), _with_batch(target)
            lengths = lengths if lengths is None else np.reshape(lengths, -1)
        inputs, own = self._inputs(x, horizon, lengths, covariates, target, own)
        source, state = self.encoder(x, lengths=lengths)
        state = self._state(state)
        options = {"own": own, "lengths": target_lengths}
        if self.decoder.attends:
            y, _ = self.decoder(inputs, state, source, source_lengths=lengths, **options)
        else:
            y, _ = self.decoder(inputs, state, **options)
        return y[:, 0] if one else y

    def loss(self, batch: Any, *, seed: Seed = None, train: bool = True) -> Any:
        """Mean squared error; what ``fr.fit(model, data)`` minimises.

        Parameters
        ----------
        batch : Batch, or tuple ``(x, target, lengths=None, weight=None)``
            target: [H, B, O + C], true values followed by covariates; NaN past the end of a row that has fewer steps.
        seed
            Which steps read own values.
        train
            With scheduled sampling as it is now; otherwise running free, as in use.
        """
        x, target, lengths, weight = _check.batch_of(batch, "x")
        size = self.output_size + self.covariate_size
        target = _check.batch_of_sequences(target, self.dtype, False, size, "target", "output_size + covariate_size")  # type: ignore[arg-type]
        ends = ends_of(target)
        values, known = target[..., : self.output_size], None
        if ends is not None:
            target = np.nan_to_num(target)
        if self.covariate_size:
            known = target[..., self.output_size :]
        own = np.ones(len(target), bool)
        if train:
            share = self.sampling() if isinstance(self.sampling, ScheduledSampling) else self.sampling
            own = generator(noise_seeds(seed, train)[0]).random(len(target)) < share
        own[0] = False
        y = self.forward(
            x, lengths=lengths, covariates=known, target=target[..., : self.output_size], own=own, target_lengths=ends
        )
        weight = _check.row_weights(weight, target.shape[1])
        weight = None if weight is None else weight.reshape(1, -1, 1)
        return losses.mse(y, values, weight=weight, lengths=ends)[0]

    def fit(
        self,
        x: Any,
        y: Any,
        covariates: Any = None,
        *,
        epochs: int = 20,
        batch_size: int = 32,
        lr: float = 3e-3,
        weight_decay: float = 0.0,
        sample_weight: ArrayLike | None = None,
        validation: tuple[Any, ...] | None = None,
        seed: int | None = 0,
        progress: Any = False,
        **options: Any,
    ) -> Seq2SeqRegressor:
        """Train on pairs of series. Called again, it goes on.

        Parameters
        ----------
        x, y : lists of N series, or arrays [N, T, F] and [N, H, O]
            [T_i, F] and [H_i, O], of any lengths ([T_i], [H_i] where there is one value a step).
        covariates : list of N, or array [N, H, C], where the model has some
        epochs, batch_size, lr, weight_decay
            For AdamW.
        sample_weight : [N], optional
        validation : (x, y) or (x, y, covariates), optional
            Its loss is that of running free.
        seed : int, optional
            For the order, and for scheduled sampling.
        progress, **options
            As for `fr.fit`: `clip_norm`, `schedule`, `early_stopping`, `optimizer`, …

        Returns
        -------
        Seq2SeqRegressor
            Itself.
        """
        data = self._batches((x, y, covariates), "", batch_size=batch_size, weight=sample_weight, seed=seed)
        held_out = None
        if validation is not None:
            if not isinstance(validation, tuple | list) or not 2 <= len(validation) <= 3:
                raise TypeError(f"validation: expected (x, y) or (x, y, covariates), got {_check.describe(validation)}")
            held_out = self._batches((*validation, None)[:3], "validation: ", batch_size=256, shuffle=False)
        optimizer = options.pop("optimizer", None) or AdamW(self, lr=lr, weight_decay=weight_decay)
        self.history_ = fit(
            self, data, None, optimizer, epochs=epochs, validation=held_out, seed=seed, progress=progress, **options
        )
        return self

    def predict(
        self, x: Any, horizon: int | None = None, covariates: Any = None, *, batch_size: int = 256
    ) -> NDArray[Any]:
        """What follows, running free: [N, H, O].

        Parameters
        ----------
        x : list of N series [T_i, F], or array [N, T, F]
            One series is `[x]`.
        horizon : int, optional
            H, the number of steps; given by `covariates` where there are some.
        covariates : list of N arrays [H, C], or array [N, H, C], where the model has some
        batch_size : int
            Series that run at once.
        """
        found = series(x, self.input_size, self.dtype, "x", "input_size")
        known = None
        if covariates is not None or self.covariate_size:
            known = self._known(covariates, len(found), horizon)
            horizon = known.shape[1]
        steps = _check.positive_int(horizon, "horizon")
        sizes = np.array([len(one) for one in found])
        order = np.argsort(sizes, kind="stable")
        result = np.empty((len(found), steps, self.output_size), self.dtype)
        for rows in np.split(order, range(batch_size, len(order), _check.positive_int(batch_size, "batch_size"))):
            ends = None if (sizes[rows] == sizes[rows[0]]).all() else sizes[rows]
            given = None if known is None else np.ascontiguousarray(known[rows].swapaxes(0, 1))
            y = self(padded([found[row] for row in rows], 0), steps, lengths=ends, covariates=given)
            result[rows] = y.swapaxes(0, 1)
        return result

    def score(self, x: Any, y: Any, covariates: Any = None, *, batch_size: int = 256) -> float:
        """R² = 1 − Σ (y − ŷ)² / Σ (y − ȳ)² over all series and steps, running free; the mean over the O values.

        Where all y are the same it is 1 if the numbers predicted are, and else 0, as scikit-learn has it.
        """
        x, true, known = self._series((x, y, covariates), "")
        found = self.predict(x, None if known else max(map(len, true)), known, batch_size=batch_size)
        guess = np.concatenate([row[: len(one)] for row, one in zip(found, true, strict=True)]).astype(np.float64)
        values = np.concatenate(true).astype(np.float64)
        rest, total = np.square(values - guess).sum(0), np.square(values - values.mean(0)).sum(0)
        varied = (values != values[:1]).any(0)
        return float(np.mean(np.where(varied, 1 - rest / np.where(varied, total, 1), rest == 0)))

    # ---- parts -------------------------------------------------------------------------------------------------

    def _inputs(self, x: Any, horizon: Any, lengths: Any, covariates: Any, target: Any, own: Any) -> tuple[Any, Any]:
        """What the decoder reads, [H, B, O + C], and the steps that read its own values."""
        size, batch = self.output_size, x.shape[1]
        if (covariates is None) != (self.covariate_size == 0):
            raise ValueError(
                f"covariates: expected [H, B, {self.covariate_size}] (covariate_size={self.covariate_size}), "
                f"got {_check.describe(covariates)}"
            )
        steps = steps_of(horizon, target, covariates)
        inputs = np.zeros((steps, batch, size + self.covariate_size), self.dtype)
        if covariates is not None:
            covariates = _check.floats(covariates, self.dtype, "covariates", layer=True)
            _check.same_shape(covariates, (steps, batch, self.covariate_size), "covariates", "[H, B, covariate_size]")
            inputs[..., size:] = covariates
        if self.start == "last":
            if lengths is None:
                inputs[0, :, :size] = x[-1, :, :size]
            else:
                ends = _check.lengths(lengths, batch, len(x))
                inputs[0, :, :size] = np.where((ends > 0)[:, None], x[ends - 1, np.arange(batch), :size], 0)
        if target is None:
            if own is not None:
                raise ValueError("own: expected None without target: all steps read the model's own values then")
            return inputs, np.arange(steps) > 0
        target = _check.floats(target, self.dtype, "target", layer=True)
        _check.same_shape(target, (steps, batch, size), "target", "[H, B, output_size]")
        inputs[1:, :, :size] = target[:-1]
        return inputs, own

    def _state(self, state: Any) -> Any:
        """The decoder's initial state: the encoder's last one."""
        if self.bridge is None:
            return state
        pairs = state if isinstance(state, tuple) else (state,)
        layers, hidden, found = self.encoder.num_layers, self.encoder.hidden_size, []
        for given in pairs:
            both = given.reshape(layers, 2, -1, hidden).transpose(0, 2, 1, 3).reshape(layers, -1, 2 * hidden)
            found.append(self.bridge(both))
        h = ops.tanh(found[0])
        return (h, *found[1:]) if isinstance(state, tuple) else h

    def _known(self, covariates: Any, count: int, horizon: Any) -> NDArray[Any]:
        if self.covariate_size == 0:
            raise ValueError("covariates: expected None, this model has covariate_size=0")
        found = series(covariates, self.covariate_size, self.dtype, "covariates", "covariate_size")
        _check.same_size(len(found), count, "covariates", "x")
        steps = max(map(len, found)) if horizon is None else _check.positive_int(horizon, "horizon")
        if min(map(len, found)) < steps and horizon is not None:
            raise ValueError(f"covariates: expected at least horizon={steps} steps of each, got {min(map(len, found))}")
        result: NDArray[Any] = padded([one[:steps] for one in found], 0).swapaxes(0, 1)
        return result

    def _batches(self, data: tuple[Any, ...], where: str, **options: Any) -> SeriesBatches:
        return SeriesBatches(*self._series(data, where), dtype=self.dtype, **options)

    def _series(self, data: tuple[Any, ...], where: str) -> tuple[list[Any], list[Any], list[Any] | None]:
        """x, y and covariates as lists that belong together."""
        x = series(data[0], self.input_size, self.dtype, f"{where}x", "input_size")
        y = without_gaps(series(data[1], self.output_size, self.dtype, f"{where}y", "output_size"), f"{where}y")
        _check.same_size(len(y), len(x), f"{where}y", f"{where}x")
        known = None
        if data[2] is not None or self.covariate_size:
            if not self.covariate_size:
                raise ValueError(f"{where}covariates: expected None, this model has covariate_size=0")
            known = series(data[2], self.covariate_size, self.dtype, f"{where}covariates", "covariate_size")
            _check.same_size(len(without_gaps(known, f"{where}covariates")), len(x), f"{where}covariates", f"{where}x")
            for position, (one, other) in enumerate(zip(known, y, strict=True)):
                _check.same_size(len(one), len(other), f"{where}covariates, steps at {position}", f"{where}y")
        return x, y, known


def _with_batch(array: Any) -> Any:
    return None if array is None else np.asarray(array)[:, None]
