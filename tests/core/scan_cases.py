"""The layers of csrc/scan.h as test cases: layers, their data, and the reference run layer by layer, way by way."""

from functools import lru_cache

import numpy as np

import fastrnn as fr
from fastrnn.reference import scan

# name: (class, options, parameters in the reference's order)
GATED = ("weight_ih", "bias_ih")
LAYERS = {
    "sru": (fr.SRU, {"highway_bias": -0.5}, ("weight_ih", "weight_c", "bias_ih")),
    "sru_v1": (
        fr.SRU,
        {"peephole": False, "activation": "tanh", "rescale": False},
        ("weight_ih", "weight_c", "bias_ih"),
    ),
    "qrnn": (fr.QRNN, {}, GATED),
    "qrnn_2": (fr.QRNN, {"window": 2}, GATED),
    "mingru": (fr.MinGRU, {}, GATED),
    "mingru_g": (fr.MinGRU, {"candidate": "g"}, GATED),
    "minlstm": (fr.MinLSTM, {}, GATED),
    "minlstm_g": (fr.MinLSTM, {"candidate": "g"}, GATED),
    "lru": (
        fr.LRU,
        {"state_size": 6, "r_min": 0.4, "r_max": 0.95},
        ("nu_log", "theta_log", "gamma_log", "weight_b", "weight_c", "weight_d", "bias"),
    ),
    "indrnn": (fr.IndRNN, {}, ("weight_ih", "weight_hh", "bias_ih")),
    "indrnn_tanh": (fr.IndRNN, {"nonlinearity": "tanh"}, ("weight_ih", "weight_hh", "bias_ih")),
}


def make(name, inputs, hidden, layers=1, dtype=np.float64, **options):
    """A layer with numbers that float32 has, too, none of them left at zero."""
    cls, own, _ = LAYERS[name]
    layer = cls(inputs, hidden, layers, dtype=dtype, seed=3, **{**own, **options})
    rng = np.random.default_rng(5)
    for key, array in layer.params.items():
        scale = 0.3 if array.ndim == 1 else 0.0
        layer.params[key] = (array + scale * rng.standard_normal(array.shape)).astype(np.float32)
    return layer


def run_reference(name, layer, params, x, s_0, extra, options):
    """One direction of one layer: (outputs, pullback), pullback → (dx, ds_0, *gradients of the parameters)."""
    function = {
        fr.SRU: scan.sru_vjp, fr.QRNN: scan.qrnn_vjp, fr.MinGRU: scan.min_gru_vjp, fr.MinLSTM: scan.min_lstm_vjp,
        fr.LRU: scan.lru_vjp, fr.IndRNN: scan.ind_rnn_vjp,
    }[type(layer)]  # fmt: skip
    if isinstance(layer, fr.SRU):
        options = {**options, "size": layer.hidden_size, "tanh": layer.activation == "tanh"}
        options["scale"] = np.sqrt(1 + 2 * np.exp(layer.highway_bias)) if layer.rescale else 1.0
    elif isinstance(layer, fr.QRNN):
        options = {**options, "window": layer.window}
        s_0 = (s_0, extra) if layer.window == 2 else s_0
    elif isinstance(layer, fr.MinGRU | fr.MinLSTM):
        options = {**options, "positive": layer.candidate == "g"}
    elif isinstance(layer, fr.IndRNN):
        options = {**options, "relu": layer.nonlinearity == "relu"}
    return function(x, s_0, *(params.get(key) for key in LAYERS[name][2]), **options)


def reference(name, layer, x, states, lengths, dy, dstates):
    """What a whole layer gives: {"y": …, "state0": …, "dx": …, "dstate0": …, "d" + parameter: …}, in float64."""
    params = {key: array.astype(np.float64) for key, array in layer.params.items()}
    D, H, wide = layer._directions, layer.hidden_size, len(states) > 1
    final = [np.zeros_like(s) for s in states]
    dinitial = [np.zeros_like(s) for s in states]
    found, tape = {}, []

    def extra(arrays, k, d):
        return arrays[2 if k else 1][max(0, k - 1) * D + d] if wide else None

    for k in range(layer.num_layers):
        outputs = []
        for d in range(D):
            own = layer._of(params, k, d)
            options = {"lengths": lengths, "reverse": d == 1}
            (y, s_n), pull = run_reference(name, layer, own, x, states[0][k * D + d], extra(states, k, d), options)
            final[0][k * D + d], last = (s_n[0], s_n[1]) if wide else (s_n, None)
            if wide:
                extra(final, k, d)[...] = last
            outputs.append(y)
            tape.append((k, d, own, pull))
        x = np.concatenate(outputs, axis=-1)
    found["y"] = x
    for k, d, own, pull in reversed(tape):
        if d == D - 1:
            total, dx_above = 0, dy
        ds = dstates[0][k * D + d]
        part = dx_above[..., d * H : (d + 1) * H]
        dx, ds_0, *grads = pull(part, (ds, extra(dstates, k, d)) if wide else ds)
        dinitial[0][k * D + d] = ds_0[0] if wide else ds_0
        if wide:
            extra(dinitial, k, d)[...] = ds_0[1]
        for key, grad in zip(LAYERS[name][2], grads, strict=True):
            if key in own:
                found["d" + key + f"_l{k}" + ("_reverse" if d else "")] = grad
        total = total + dx
        dy = total
    found["dx"] = dy
    for k, (s, ds) in enumerate(zip(final, dinitial, strict=True)):
        found |= {f"state{k}": s, f"dstate{k}": ds}
    return found


@lru_cache(maxsize=64)
def case(name, T, B, I, H, layers=1, bidirectional=False, lengths=None, seed=0):
    """(the layer's numbers in float64, x, states, dy, dstates, what the reference makes of them)."""
    layer = make(name, I, H, layers, bidirectional=bidirectional)
    rng = np.random.default_rng(seed)

    def normal(*shape, scale=1.0):
        return (scale * rng.standard_normal(shape)).astype(np.float32).astype(np.float64)

    x = normal(T, B, I)
    dy = normal(T, B, H * (2 if bidirectional else 1))
    states = [normal(*shape, scale=0.5) for shape in layer._state_shapes(B)]
    dstates = [normal(*shape) for shape in layer._state_shapes(B)]
    ends = None if lengths is None else np.array(lengths)
    return x, states, dy, dstates, reference(name, layer, x, states, ends, dy, dstates)


def as_state(arrays, dtype):
    arrays = tuple(a.astype(dtype) for a in arrays)
    return arrays if len(arrays) > 1 else arrays[0]


def run(name, dtype, T, B, I, H, layers=1, bidirectional=False, lengths=None, seed=0, **options):
    """What the layer gives, by the names of `reference`."""
    x, states, dy, dstates, _ = case(name, T, B, I, H, layers, bidirectional, lengths, seed)
    layer = make(name, I, H, layers, dtype, bidirectional=bidirectional)
    ends = None if lengths is None else np.array(lengths)
    (y, s_n), pullback = layer.vjp(x.astype(dtype), as_state(states, dtype), lengths=ends, **options)
    dx, ds_0 = pullback(dy.astype(dtype), as_state(dstates, dtype))
    found = {"y": y, "dx": dx, **{"d" + key: grad for key, grad in layer.grads.items()}}
    for k, (s, ds) in enumerate(zip(*((v if isinstance(v, tuple) else (v,)) for v in (s_n, ds_0)), strict=True)):
        found |= {f"state{k}": s, f"dstate{k}": ds}
    return found
