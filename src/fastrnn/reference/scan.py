"""SRU, QRNN, minGRU, minLSTM, LRU and IndRNN: one layer in one direction, from the equations.

The functions take the parameters of `fastrnn.nn`'s layer of that name in their order, and all arrays in float64. They
differ from the layers in what a test needs no more than once: x is [T, B, I], there is one direction and one layer.

Examples
--------
>>> x, W = np.ones((5, 2, 3)), np.ones((8, 3))  # T=5, B=2, I=3, two blocks of H=4
>>> (y, h_n), pullback = min_gru_vjp(x, None, W, None, lengths=[5, 2])
>>> dx, dh_0, dW, db = pullback(np.ones_like(y))
>>> y.shape, dx.shape, dh_0.shape, dW.shape, db is None
((5, 2, 4), (5, 2, 3), (2, 4), (8, 3), True)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ._scan import Array, Cell, blocks, scan_vjp
from .activations import sigmoid

Pullback = Callable[..., Any]


def _project(x: Array, W: Array, b: Array | None) -> Array:
    z: Array = x @ W.T
    return z if b is None else z + b


def _pull_project(dz: Array, x: Array, W: Array, b: Array | None) -> tuple[Array, Array, Array | None]:
    """(dx, dW, db) of z = W x + b."""
    rows = dz.reshape(-1, dz.shape[-1])
    return dz @ W, rows.T @ x.reshape(-1, x.shape[-1]), None if b is None else rows.sum(axis=0)


def _read(x: Array, lengths: Any) -> Array:
    """x with zeros past each row's length, where it is not read."""
    if lengths is None:
        return np.asarray(x)
    return np.where((np.arange(len(x))[:, None] < np.asarray(lengths))[..., None], x, 0)


# ---- SRU


def sru_vjp(
    x: Array, c_0: Array | None, W: Array, v: Array | None, b: Array | None, *, lengths: Any = None,
    reverse: bool = False, size: int, tanh: bool = False, scale: float = 1.0,
) -> tuple[Any, Pullback]:  # fmt: skip
    """x̃ = W_x x;  f = σ(W_f x + v_f ⊙ c₋₁ + b_f);  r = σ(W_r x + v_r ⊙ c₋₁ + b_r);  c = f ⊙ c₋₁ + (1 − f) ⊙ x̃;
    h = r ⊙ g(c) + (1 − r) ⊙ scale·x, or W_s x in the place of x where W has a fourth block of `size` rows.

    Returns (y, c_n) and ``pullback(dy, dc_n)`` → (dx, dc_0, dW, dv, db).
    """
    x = _read(x, lengths)
    zeros = np.zeros(size)
    wide = None if b is None else np.concatenate([zeros, b, np.zeros(W.shape[0] - 3 * size)])
    z = _project(x, W, wide)
    if len(W) == 3 * size:  # the skip is a fourth block, for the scan's eyes
        z = np.concatenate([z, x], axis=-1)
    p = np.zeros(2 * size) if v is None else v

    def step(z: Array, c: Array, params: Any) -> Any:
        u, z_f, z_r, skip = blocks(z, 4)
        v_f, v_r = blocks(params[0], 2)
        f, r = sigmoid(z_f + v_f * c), sigmoid(z_r + v_r * c)
        now = f * c + (1 - f) * u
        g = np.tanh(now) if tanh else now
        return r * g + (1 - r) * scale * skip, now, (c, u, f, r, g, skip)

    def back(dh: Array, dc: Array, saved: Any, params: Any) -> Any:
        c, u, f, r, g, skip = saved
        v_f, v_r = blocks(params[0], 2)
        dr, dg, dskip = dh * (g - scale * skip), dh * r, dh * (1 - r) * scale
        dc = dc + (dg * (1 - g**2) if tanh else dg)
        df, du = dc * (c - u), dc * (1 - f)
        dz_f, dz_r = df * f * (1 - f), dr * r * (1 - r)
        dz = np.concatenate([du, dz_f, dz_r, dskip])
        return dz, dc * f + dz_f * v_f + dz_r * v_r, [np.concatenate([dz_f * c, dz_r * c])]

    outputs, pull = scan_vjp(Cell(step, back), z, c_0, (p,), size, size, lengths, reverse)

    def pullback(dy: Array | None = None, dc_n: Array | None = None) -> Any:
        dz, dc_0, (dv,) = pull(dy, dc_n)
        direct: Any = 0.0
        if len(W) == 3 * size:
            dz, direct = dz[..., : 3 * size], dz[..., 3 * size :]
        dx, dW, db = _pull_project(dz, x, W, wide)
        return dx + direct, dc_0, dW, None if v is None else dv, None if db is None else db[size : 3 * size]

    return outputs, pullback


# ---- QRNN


def _before(x: Array, first: Array, lengths: Any, reverse: bool) -> Array:
    """What was read before x[t]: x one step earlier in the direction, `first` at the first step of each row."""
    found = np.zeros_like(x)
    for b in range(x.shape[1]):
        end = len(x) if lengths is None else int(lengths[b])
        if end == 0:
            continue
        if reverse:
            found[: end - 1, b], found[end - 1, b] = x[1:end, b], first[b]
        else:
            found[1:end, b], found[0, b] = x[: end - 1, b], first[b]
    return found


def qrnn_vjp(
    x: Array, state: Any, W: Array, b: Array | None, *, lengths: Any = None, reverse: bool = False, window: int = 1
) -> tuple[Any, Pullback]:
    """z, f, o = tanh(·), σ(·), σ(·) of W·[x; x before it] + b (window 2);  c = f ⊙ c₋₁ + (1 − f) ⊙ z;  h = o ⊙ c.

    The state is c, with window 2 (c, the last x). Returns (y, state_n) and ``pullback(dy, dstate)`` → (dx, dstate_0,
    dW, db).
    """
    x = _read(x, lengths)
    steps, batch, width = x.shape
    size = W.shape[0] // 3
    c_0, x_0 = (state if state is not None else (None, None)) if window == 2 else (state, None)
    x_0 = np.zeros((batch, width)) if x_0 is None else np.asarray(x_0)
    ends = np.full(batch, steps) if lengths is None else np.asarray(lengths)
    read = np.concatenate([x, _before(x, x_0, lengths, reverse)], axis=-1) if window == 2 else x

    def step(z: Array, c: Array, _: Any) -> Any:
        a, f, o = np.tanh(z[:size]), *blocks(sigmoid(z[size:]), 2)
        now = f * c + (1 - f) * a
        return o * now, now, (c, a, f, o, now)

    def back(dh: Array, dc: Array, saved: Any, _: Any) -> Any:
        c, a, f, o, now = saved
        do, dc = dh * now, dc + dh * o
        df, da = dc * (c - a), dc * (1 - f)
        return np.concatenate([da * (1 - a**2), df * f * (1 - f), do * o * (1 - o)]), dc * f, []

    (y, c_n), pull = scan_vjp(Cell(step, back), _project(read, W, b), c_0, (), size, size, lengths, reverse)
    rows = np.arange(batch)
    last = np.where(ends > 0, 0 if reverse else ends - 1, 0)
    x_n = np.where((ends > 0)[:, None], x[last, rows], x_0)

    def pullback(dy: Array | None = None, dstate: Any = None) -> Any:
        dc_n, dx_n = (dstate if dstate is not None else (None, None)) if window == 2 else (dstate, None)
        dz, dc_0, _ = pull(dy, dc_n)
        dx, dW, db = _pull_project(dz, read, W, b)
        if window == 1:
            return dx, dc_0, dW, db
        dx, before = np.array(dx[..., :width]), dx[..., width:]
        dx_0 = np.zeros((batch, width))
        dx_n = np.zeros((batch, width)) if dx_n is None else dx_n
        for k, end in enumerate(ends):
            if end == 0:
                dx_0[k] = dx_n[k]
            elif reverse:
                dx[1:end, k] += before[: end - 1, k]
                dx_0[k] = before[end - 1, k]
                dx[0, k] += dx_n[k]
            else:
                dx[: end - 1, k] += before[1:end, k]
                dx_0[k] = before[0, k]
                dx[end - 1, k] += dx_n[k]
        return dx, (dc_0, dx_0), dW, db

    return (y, (c_n, x_n) if window == 2 else c_n), pullback


# ---- minGRU, minLSTM


def _candidate(v: Array, positive: bool) -> tuple[Array, Array]:
    """v, or g(v) = v + ½ for v ≥ 0 and σ(v) below; and the derivative."""
    if not positive:
        return v, np.ones_like(v)
    s = sigmoid(v)
    return np.where(v >= 0, v + 0.5, s), np.where(v >= 0, 1.0, s * (1 - s))


def min_gru_vjp(
    x: Array, h_0: Array | None, W: Array, b: Array | None, *, lengths: Any = None, reverse: bool = False,
    positive: bool = False,
) -> tuple[Any, Pullback]:  # fmt: skip
    """z = σ(W_z x + b_z);  h̃ = W_h x + b_h, or g of it;  h = (1 − z) ⊙ h₋₁ + z ⊙ h̃.

    Returns (y, h_n) and ``pullback(dy, dh_n)`` → (dx, dh_0, dW, db).
    """

    def step(z: Array, h: Array, _: Any) -> Any:
        gate, (g, slope) = sigmoid(blocks(z, 2)[0]), _candidate(blocks(z, 2)[1], positive)
        now = (1 - gate) * h + gate * g
        return now, now, (h, gate, g, slope)

    def back(dy: Array, dh: Array, saved: Any, _: Any) -> Any:
        h, gate, g, slope = saved
        dh = dh + dy
        return np.concatenate([dh * (g - h) * gate * (1 - gate), dh * gate * slope]), dh * (1 - gate), []

    return _gated(Cell(step, back), 2, x, h_0, W, b, lengths, reverse)


def min_lstm_vjp(
    x: Array, h_0: Array | None, W: Array, b: Array | None, *, lengths: Any = None, reverse: bool = False,
    positive: bool = False,
) -> tuple[Any, Pullback]:  # fmt: skip
    """f, i = σ(·), σ(·);  h̃ = W_h x + b_h, or g of it;  h = f/(f + i) ⊙ h₋₁ + i/(f + i) ⊙ h̃.

    Returns (y, h_n) and ``pullback(dy, dh_n)`` → (dx, dh_0, dW, db).
    """

    def step(z: Array, h: Array, _: Any) -> Any:
        z_f, z_i, z_h = blocks(z, 3)
        f, i, (g, slope) = sigmoid(z_f), sigmoid(z_i), _candidate(z_h, positive)
        now = (f * h + i * g) / (f + i)
        return now, now, (h, f, i, g, slope, now)

    def back(dy: Array, dh: Array, saved: Any, _: Any) -> Any:
        h, f, i, g, slope, now = saved
        share = (dh + dy) / (f + i)
        df, di = share * (h - now), share * (g - now)
        return np.concatenate([df * f * (1 - f), di * i * (1 - i), share * i * slope]), share * f, []

    return _gated(Cell(step, back), 3, x, h_0, W, b, lengths, reverse)


def _gated(
    cell: Cell, gates: int, x: Array, h_0: Array | None, W: Array, b: Array | None, lengths: Any, reverse: bool
) -> tuple[Any, Pullback]:
    x = _read(x, lengths)
    size = W.shape[0] // gates
    outputs, pull = scan_vjp(cell, _project(x, W, b), h_0, (), size, size, lengths, reverse)

    def pullback(dy: Array | None = None, dh_n: Array | None = None) -> Any:
        dz, dh_0, _ = pull(dy, dh_n)
        dx, dW, db = _pull_project(dz, x, W, b)
        return dx, dh_0, dW, db

    return outputs, pullback


# ---- LRU


def lru_vjp(
    u: Array, x_0: Array | None, nu_log: Array, theta_log: Array, gamma_log: Array, B: Array, C: Array, D: Array,
    b: Array | None, *, lengths: Any = None, reverse: bool = False,
) -> tuple[Any, Pullback]:  # fmt: skip
    """x = λ ⊙ x₋₁ + γ ⊙ (B u);  y = Re(C x) + D u + b;  λ = exp(−exp(nu_log) + i·exp(theta_log)), γ = exp(gamma_log).

    Complex arrays have their real parts first: B [2N, I], C [H, 2N], the state [B, 2N]. Returns (y, x_n) and
    ``pullback(dy, dx_n)`` → (du, dx_0, dnu_log, dtheta_log, dgamma_log, dB, dC, dD, db).
    """
    u = _read(u, lengths)
    size = len(nu_log)
    nu, theta, gamma = np.exp(nu_log), np.exp(theta_log), np.exp(gamma_log)
    lam = np.exp(-nu + 1j * theta)
    Bu = u @ B.T
    gammas = np.tile(gamma, 2)

    def step(z: Array, x: Array, params: Any) -> Any:
        re, im = blocks(params[0], 2)
        now = (re + 1j * im) * (x[:size] + 1j * x[size:]) + z[:size] + 1j * z[size:]
        packed = np.concatenate([now.real, now.imag])
        return packed, packed, x

    def back(dy: Array, dx: Array, x: Array, params: Any) -> Any:
        # With the inner product Re(conj(a)·b) the derivative of λ·x is conj(λ)·dx by x and conj(x)·dx by λ.
        re, im = blocks(params[0], 2)
        dx = dx + dy
        d = dx[:size] + 1j * dx[size:]
        by_x, by_lam = np.conj(re + 1j * im) * d, np.conj(x[:size] + 1j * x[size:]) * d
        return dx, np.concatenate([by_x.real, by_x.imag]), [np.concatenate([by_lam.real, by_lam.imag])]

    flat = np.concatenate([lam.real, lam.imag])
    (x, x_n), pull = scan_vjp(Cell(step, back), Bu * gammas, x_0, (flat,), 2 * size, 2 * size, lengths, reverse)
    real_C = np.concatenate([C[:, :size], -C[:, size:]], axis=1)  # Re(C x) = C_re·x_re − C_im·x_im
    inside = np.ones(u.shape[:2]) if lengths is None else np.arange(len(u))[:, None] < np.asarray(lengths)
    y = (x @ real_C.T + u @ D.T + (0.0 if b is None else b)) * inside[..., None]

    def pullback(dy: Array | None = None, dx_n: Array | None = None) -> Any:
        dy = np.zeros_like(y) if dy is None else _read(dy, lengths)
        dx, dreal_C, _ = _pull_project(dy, x, real_C, None)
        dz, dx_0, (dflat,) = pull(dx, dx_n)
        du_D, dD, db = _pull_project(dy, u, D, np.zeros(len(D)))
        du_B, dB, _ = _pull_project(dz * gammas, u, B, None)
        dgamma = (dz * Bu).sum(axis=(0, 1))
        dlam = dflat[:size] + 1j * dflat[size:]
        by_log = np.conj(lam) * dlam  # the gradient by log λ = −ν + iθ
        dC = np.concatenate([dreal_C[:, :size], -dreal_C[:, size:]], axis=1)
        dgamma_log = (dgamma[:size] + dgamma[size:]) * gamma
        return (
            du_B + du_D,
            dx_0,
            -by_log.real * nu,
            by_log.imag * theta,
            dgamma_log,
            dB,
            dC,
            dD,
            None if b is None else db,
        )

    return (y, x_n), pullback


# ---- IndRNN


def ind_rnn_vjp(
    x: Array, h_0: Array | None, W: Array, u: Array, b: Array | None, *, lengths: Any = None, reverse: bool = False,
    relu: bool = True,
) -> tuple[Any, Pullback]:  # fmt: skip
    """h = φ(W x + u ⊙ h₋₁ + b), φ = relu or tanh.

    Returns (y, h_n) and ``pullback(dy, dh_n)`` → (dx, dh_0, dW, du, db).
    """
    x = _read(x, lengths)

    def step(z: Array, h: Array, params: Any) -> Any:
        a = z + params[0] * h
        now = np.maximum(a, 0) if relu else np.tanh(a)
        return now, now, (h, now)

    def back(dy: Array, dh: Array, saved: Any, params: Any) -> Any:
        h, now = saved
        dz = (dh + dy) * ((now > 0) if relu else 1 - now**2)
        return dz, dz * params[0], [dz * h]

    outputs, pull = scan_vjp(Cell(step, back), _project(x, W, b), h_0, (u,), len(u), len(u), lengths, reverse)

    def pullback(dy: Array | None = None, dh_n: Array | None = None) -> Any:
        dz, dh_0, (du,) = pull(dy, dh_n)
        dx, dW, db = _pull_project(dz, x, W, b)
        return dx, dh_0, dW, du, db

    return outputs, pullback
