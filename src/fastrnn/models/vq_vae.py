"""VQVAE: an autoencoder whose code is a few indices into a table that is learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, _core
from fastrnn._pullback import Pullback
from fastrnn.models import _parts
from fastrnn.nn import init, ops
from fastrnn.nn._layer import Layer
from fastrnn.nn._random import Seed, generator, split

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray


class VectorQuantizer(_parts.Buffers):
    """Replace vectors by the nearest rows of a table: q = e_k with k = argmin ‖z − e_k‖.

    The gradient of q goes straight through to z. The layer returns q, the penalty c ‖z − sg(e_k)‖² of each vector,
    which commits z to its code, and the codes k.

    The table follows the vectors: with `decay` γ each code is a moving average of those that chose it,
    n ← γ n + (1 − γ) #, m ← γ m + (1 − γ) Σ z, e = m / n, updated by the pullback. With `decay=None` it is learned
    from the penalty's further term ‖sg(z) − e_k‖². A code that is hardly used any more is moved onto a random
    vector of the batch.

    Parameters
    ----------
    num_codes, code_size : int
        Rows of the table, and values of a row.
    commitment : float
        c.
    decay : float or None
        γ.
    restart : float
        Codes used less than this share of the mean usage are moved; 0 leaves them.
    dtype, seed
        As for other layers. At first the table is random; a first batch moves every code onto its vectors.

    Notes
    -----
    `params`: `"codebook"` [num_codes, code_size]; `"usage"` [num_codes] is n; `"sums"` is m, with `decay`. Optimisers
    change none of these but the codebook without `decay`.

    References
    ----------
    van den Oord et al. 2017, "Neural Discrete Representation Learning", eq. 3 and appendix A.1; Dhariwal et al. 2020,
    "Jukebox", section 3.1, for the restarts.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> layer = fr.models.VectorQuantizer(2, 1, seed=0)
    >>> layer.params["codebook"] = [[0.0], [1.0]]
    >>> q, penalty, codes = layer(np.array([[0.2], [0.9]], np.float32))
    >>> q.T, penalty.round(4), codes
    (array([[0., 1.]], dtype=float32), array([0.01  , 0.0025], dtype=float32), array([0, 1]))
    """

    dtype: np.dtype[Any]
    takes_dropout = True  # for the seed of restarts

    def __init__(
        self,
        num_codes: int,
        code_size: int,
        *,
        commitment: float = 0.25,
        decay: float | None = 0.99,
        restart: float = 0.1,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        super().__init__(dtype)
        self.num_codes = _check.positive_int(num_codes, "num_codes")
        self.code_size = _check.positive_int(code_size, "code_size")
        self.commitment = _check.at_least_zero(commitment, "commitment")
        self.decay = None if decay is None else _check.fraction(decay, "decay")
        self.restart = _check.fraction(restart, "restart")
        table = init.normal((self.num_codes, self.code_size), dtype=self.dtype, seed=seed)
        if self.decay is None:
            self._add_param("codebook", table)
        else:
            self._add_buffer("codebook", table)
            self._add_buffer("sums", np.zeros_like(table))
        self._add_buffer("usage", np.zeros(self.num_codes, self.dtype))

    def __call__(self, z: ArrayLike, *, dropout: bool = False, seed: Seed = None) -> tuple[Any, Any, Any]:
        """Quantise.

        Parameters
        ----------
        z : array [..., code_size]
        dropout, seed
            Mean nothing here.

        Returns
        -------
        q : array [..., code_size]
        penalty : array [...]
        codes : integers [...]
        """
        return self._forward(_check.features(z, self.dtype, self.code_size, "code_size", "z"))

    def vjp(
        self,
        z: ArrayLike,
        *,
        dropout: bool = True,
        seed: Seed = None,
        input_grad: bool = True,
        retain: bool = False,
    ) -> tuple[tuple[Any, Any, Any], Pullback]:
        """Quantise, and return what hands gradients on and moves the table.

        Parameters
        ----------
        z : array [..., code_size]
        dropout : bool
            Accepted because layers that take a seed do.
        seed : None, int or numpy.random.Generator
            For the vectors that codes are moved onto.
        input_grad, retain
            As for other layers.

        Returns
        -------
        (q, penalty, codes)
        pullback : callable
            `pullback(dq=None, dpenalty=None)` returns `dz`, and moves the table.
        """
        z = _check.features(z, self.dtype, self.code_size, "code_size", "z")
        q, penalty, codes = self._forward(z)
        seeds = split(seed, 1)

        def run(dq: ArrayLike | None = None, dpenalty: ArrayLike | None = None, _: Any = None) -> NDArray[Any] | None:
            # dz = dq + 2 c dpenalty (z − q);  de_k += 2 dpenalty (q − z)
            dz = np.zeros_like(z) if dq is None else _check.gradient(dq, self.dtype, z.shape)
            pull = None
            if dpenalty is not None:
                dpenalty = _check.gradient(dpenalty, self.dtype, penalty.shape, "dpenalty")
                pull = 2 * dpenalty[..., None] * (z - q)
                dz = dz + self.dtype.type(self.commitment) * pull
            with self._lock:
                self._learn(z.reshape(-1, self.code_size), codes.ravel(), pull, generator(seeds[0]))
            return dz if input_grad else None

        return (q, penalty, codes), Pullback(run, "VectorQuantizer", retain)

    def lookup(self, codes: ArrayLike) -> NDArray[Any]:
        """The rows of the table, [..., code_size], for codes [...]."""
        codes = _check.integers(codes, "codes")
        _check.in_range(codes, self.num_codes, "num_codes", "codes")
        found: NDArray[Any] = self._params["codebook"][codes]
        return found

    def _forward(self, z: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
        table, rows = self._params["codebook"], np.ascontiguousarray(z).reshape(-1, self.code_size)
        # ‖z − e‖² = ‖z‖² − 2 z·e + ‖e‖², of which the first decides nothing
        distance = _core.gemm(rows, table.T, _core.empty((len(rows), self.num_codes), self.dtype))
        distance = np.square(table).sum(1) - 2 * distance
        codes = distance.argmin(1).reshape(z.shape[:-1])
        q: NDArray[Any] = table[codes]
        penalty = np.square(z - q).sum(-1) * self.dtype.type(self.commitment + (self.decay is None))
        if np.isnan(penalty).any():  # no code is nearest to a vector that is none
            q[np.isnan(penalty)] = np.nan
        return q, penalty, codes

    def _learn(self, z: NDArray[Any], codes: NDArray[np.int64], pull: Any, rng: np.random.Generator) -> None:
        """Move the table towards the vectors that chose its rows, and codes without any onto vectors."""
        if not np.isfinite(z).all():  # the step will be skipped
            return
        params, size = self._params, self.dtype.type
        table, usage = params["codebook"], params["usage"]
        keep = 0.99 if self.decay is None else self.decay
        began = usage.any()
        usage *= size(keep)
        usage += size(1 - keep) * np.bincount(codes, minlength=self.num_codes).astype(self.dtype)
        if self.decay is None:
            if pull is not None:
                _core.embedding_backward(-pull.reshape(z.shape), codes, self._grads["codebook"])
        else:
            found = np.zeros_like(table)
            _core.embedding_backward(np.ascontiguousarray(z), codes, found)
            sums = params["sums"]
            sums *= size(keep)
            sums += size(1 - keep) * found
            used = usage > 0
            table[used] = sums[used] / usage[used, None]
        mean = usage.mean()
        if not began:
            moved, mean = np.arange(self.num_codes), size(len(z) / self.num_codes)
        else:
            moved = np.flatnonzero(usage < self.restart * mean)
        if len(moved) == 0 or len(z) == 0 or not self.restart:
            return
        # In random order, each vector of the batch once before any comes again.
        picks = np.resize(rng.permutation(len(z)), len(moved))
        table[moved], usage[moved] = z[picks], mean
        if self.decay is not None:
            params["sums"][moved] = z[picks] * mean

    def config(self) -> dict[str, Any]:
        return {
            "num_codes": self.num_codes,
            "code_size": self.code_size,
            "commitment": self.commitment,
            "decay": self.decay,
            "restart": self.restart,
            "dtype": self.dtype.name,
        }


class VQVAE(_parts.Coder):
    """An autoencoder with a discrete code: the encoder gives `num_latents` vectors, each replaced by the nearest code.

    The loss is −log p(x | z_q) + Σ c ‖z_e − sg(e)‖², and the decoder's gradient goes straight through the choice of
    codes to the encoder; see `VectorQuantizer` for the table.

    Parameters
    ----------
    input_size : int
        Values of a row of x.
    num_codes, code_size : int
        Rows of the table, and their size.
    num_latents : int
        Codes for each row.
    hidden_sizes : int or sequence of int
        Hidden layers of the encoder; those of the decoder are the same in reverse.
    likelihood : {"gaussian", "bernoulli"}
        Gaussian with standard deviation `scale` for any real x; Bernoulli for x from 0 to 1.
    scale : float
    commitment, decay, restart
        See `VectorQuantizer`.
    activation : {"relu", "tanh", "sigmoid", "swish"}
    encoder, decoder : Layer, optional
        Instead of these networks: from x, whose first axis is the batch, to [B, num_latents·code_size], and from that
        to x's shape (for "bernoulli" to logits).
    dtype : dtype
        float32 or float64.
    seed : None, int or numpy.random.Generator
        For the initial weights.

    References
    ----------
    van den Oord et al. 2017, "Neural Discrete Representation Learning".

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> x = np.eye(6, dtype=np.float32)[np.random.default_rng(0).integers(0, 6, 200)]
    >>> model = fr.models.VQVAE(6, num_codes=4, code_size=2, num_latents=2, hidden_sizes=16, scale=0.1, seed=1)
    >>> data = [(rows,) for rows in np.split(x, 4)]
    >>> _ = fr.fit(model, data, None, fr.optim.Adam(model, lr=0.01), epochs=50, progress=False)
    >>> codes = model.encode(x)
    >>> codes.shape, bool((model.decode(codes).argmax(1) == x.argmax(1)).mean() > 0.9)
    ((200, 2), True)
    """

    def __init__(
        self,
        input_size: int,
        *,
        num_codes: int = 64,
        code_size: int = 16,
        num_latents: int = 4,
        hidden_sizes: int | Sequence[int] = (128,),
        likelihood: str = "gaussian",
        scale: float = 1.0,
        commitment: float = 0.25,
        decay: float | None = 0.99,
        restart: float = 0.1,
        activation: str = "relu",
        encoder: Layer | None = None,
        decoder: Layer | None = None,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        seeds = split(seed, 3)
        self.quantizer = VectorQuantizer(
            num_codes, code_size, commitment=commitment, decay=decay, restart=restart, dtype=dtype, seed=seeds[2]
        )
        self.num_latents = _check.positive_int(num_latents, "num_latents")
        self._code_values = self.num_latents * self.quantizer.code_size
        self._build(
            input_size, self._code_values, self._code_values, hidden_sizes, likelihood, scale, activation, encoder,
            decoder, dtype, seeds,
        )  # fmt: skip

    def encode(self, x: Any) -> Any:
        """The codes, integers [B, num_latents], of x [B, input_size]."""
        return self.quantizer(self._latents(x))[2]

    def decode(self, codes: ArrayLike) -> Any:
        """The mean of p(x | codes), [B, input_size], for codes [B, num_latents]."""
        found = self.quantizer.lookup(codes)
        if found.shape[1:-1] != (self.num_latents,):
            raise ValueError(f"codes: expected [B, {self.num_latents}], got shape {found.shape[:-1]}")
        return self._mean(self._outputs(found))

    def forward(self, x: Any) -> Any:
        """The reconstruction of x [B, input_size]."""
        return self._mean(self._outputs(self.quantizer(self._latents(x))[0]))

    def reconstruct(self, x: Any) -> Any:
        """The same as calling the model."""
        return self(x)

    def loss(self, batch: Any, *, seed: Seed = None, train: bool = True) -> Any:
        """−log p(x | z_q) and the penalty, the mean over rows; what ``fr.fit(model, data)`` minimises.

        Parameters
        ----------
        batch : Batch, or tuple ``(x, None, None, weight=None)``
            x [B, input_size], and one weight a row.
        seed, train
            Codes are moved by the run's seed.
        """
        x, weight = _parts.parts_of(batch)
        x = self._rows(x)
        q, penalty, _ = self.quantizer(self._latents(x))
        share = _parts.shares(len(x), weight, self.dtype)
        return self._nats(self._outputs(q), x, weight) + ops.sum(penalty * share[:, None])

    def perplexity(self, x: ArrayLike) -> float:
        """How many codes x [B, input_size] uses, in effect: e to the entropy of their frequencies."""
        counts = np.bincount(np.ravel(self.encode(x)), minlength=self.quantizer.num_codes)
        p = counts[counts > 0] / max(counts.sum(), 1)
        return float(np.exp(-(p * np.log(p)).sum()))

    def _latents(self, x: Any) -> Any:
        z = _parts.output_of(self.encoder, self._rows(x), self._code_values, "encoder")
        return z.reshape(len(z), self.num_latents, self.quantizer.code_size)

    def _outputs(self, q: Any) -> Any:
        return _parts.output_of(self.decoder, q.reshape(len(q), self._code_values), None, "decoder")
