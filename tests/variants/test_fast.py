"""FastRNN and FastGRNN: against the reference and a loop in PyTorch, of low rank, files, training, bad input."""

from __future__ import annotations

import copy
import itertools
import pickle
import re

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import _core, reference
from fastrnn.nn.registry import CELLS as REGISTRY

from . import masks
from .test_layers import close

SEED = 5
LAYERS = {"fast_rnn": fr.FastRNN, "fast_grnn": fr.FastGRNN}
VARIANTS = {
    "fast_rnn": [
        {},
        {"clip": 0.6},
        {"nonlinearity": "relu"},
        {"nonlinearity": "sigmoid"},
        {"nonlinearity": "leaky_relu", "clip": 0.8},
        {"nonlinearity": "identity"},
        {"activations": ("scaled_tanh", 1.2, 0.7)},
        {"zoneout": 0.3, "recurrent_dropout": 0.4},
        {"rank_ih": 2, "rank_hh": 3},
        {"rank_hh": 3, "input_dropout": 0.3, "weight_dropout": 0.3},
    ],
    "fast_grnn": [
        {},
        {"clip": 0.6},
        {"activations": ("hard_sigmoid", ("leaky_relu", 0.2))},
        {"zoneout": 0.3, "recurrent_dropout": 0.4},
        {"rank_ih": 2},
        {"rank_ih": 2, "rank_hh": 3, "clip": 0.5},
        {"rank_hh": 3, "input_dropout": 0.3, "weight_dropout": 0.3},
    ],
}
SHAPES = [{}, {"num_layers": 2, "bidirectional": True}, {"num_layers": 3, "batch_first": True}, {"bias": False}]
CASES = [
    pytest.param(cell, {**shape, **variant}, id=f"{cell} {variant} {shape}")
    for cell, shape in itertools.product(LAYERS, SHAPES)
    for variant in VARIANTS[cell]
]


def make(cell, options, size=4, hidden=7, dtype=np.float64):
    layer = LAYERS[cell](size, hidden, seed=1, dtype=dtype, **options)
    rng = np.random.default_rng(2)
    for array in layer.params.values():
        array[...] = rng.normal(0, 0.5, array.shape)
    return layer


def whole(layer):
    """(weights in float64 as the reference takes them, {name: its factors' names} of those of low rank)."""
    params = {name: array.astype(np.float64) for name, array in layer.params.items()}
    factors = {}
    for name in list(params):
        if found := re.fullmatch(r"(weight_..)_1(_.*)", name):
            product, parts = found[1] + found[2], (name, found[1] + "_2" + found[2])
            factors[product] = parts
            params[product] = params[parts[0]] @ params[parts[1]]
    return {name: a for name, a in params.items() if not re.match(r"weight_.._[12]", name)}, factors


def reference_options(cell, layer, options, batch, steps, train):
    layers = list(itertools.product(range(layer.num_layers), range(2 if layer.bidirectional else 1)))
    found = {"num_layers": layer.num_layers, "bidirectional": layer.bidirectional, "batch_first": layer.batch_first}
    found["clip"] = options.get("clip")
    activations = options.get("activations")
    if cell == "fast_rnn":
        activations = (activations or options.get("nonlinearity", "tanh"),)
    found["activations"] = activations
    if rate := layer.variant.zoneout[0]:
        drawn = [masks.zoneout(SEED, k, d, 0, rate, (steps, batch, layer.hidden_size)) for k, d in layers]
        drawn = [a.swapaxes(0, 1) for a in drawn] if layer.batch_first else drawn
        found["zoneout"] = drawn if train else [rate] * len(layers)
    if train and (rate := layer.variant.recurrent_dropout):
        found["recurrent_masks"] = [masks.recurrent(SEED, k, d, rate, (batch, layer.hidden_size)) for k, d in layers]
    return found


def check(cell, options, dtype=np.float64, steps=6, batch=3, size=4, hidden=7, train=True, lengths=(6, 0, 3),
          forward=1e-12, backward=1e-12):  # fmt: skip
    layer = make(cell, options, size, hidden, dtype)
    rng = np.random.default_rng(3)
    L, D = layer.num_layers, 2 if layer.bidirectional else 1
    first = (batch, steps) if layer.batch_first else (steps, batch)
    x = rng.normal(size=(*first, size)).astype(dtype)
    state, again = (rng.normal(size=(L * D, batch, hidden)).astype(dtype) for _ in range(2))
    given = {"lengths": np.array(lengths), "reset_mask": rng.random(first) < 0.3}
    params, factors = whole(layer)
    rate = layer.variant.weight_dropout if train else 0.0
    kept = {
        f"weight_hh_l{k}{suffix}": masks.weights(SEED, k, d, rate, (hidden, hidden))
        for k, (d, suffix) in itertools.product(range(L), enumerate(("", "_reverse")[:D]) if rate else ())
    }
    seen = {name: array * kept.get(name, 1.0) for name, array in params.items()}
    x64, mask = x.astype(np.float64), np.ones(())
    if train and layer.variant.input_dropout:
        mask = masks.inputs(SEED, 0, layer.variant.input_dropout, (batch, size))
        mask = mask[:, None] if layer.batch_first else mask
    wanted = reference_options(cell, layer, options, batch, steps, train)
    found, back = reference.stack_vjp(
        cell, x64 * mask, state.astype(np.float64), seen, **wanted, **given, reset_state=again.astype(np.float64),
        all_states=True,
    )  # fmt: skip
    given["reset_state"] = again
    outputs, pullback = layer.vjp(x, state, **given, dropout=train, seed=SEED, return_all_states=True)
    for got, right in zip(outputs, found, strict=True):
        close(got, right, forward, "outputs")
    if not train:
        for got, right in zip(layer(x, state, **given), found, strict=False):
            close(got, right, forward, "inference")
    gradients = [rng.normal(size=a.shape).astype(dtype) for a in outputs]
    dx, dstate = pullback(*gradients)
    right_dx, right_dstate, right = back(*(a.astype(np.float64) for a in gradients))
    close(dx, right_dx * mask, backward, "dx")
    close(dstate, right_dstate, backward, "dstate")
    right = {name: right[name] * kept.get(name, 1.0) for name in params}
    for name, (left_name, right_name) in factors.items():
        product = right.pop(name)
        right[left_name] = product @ layer.params[right_name].astype(np.float64).T
        right[right_name] = layer.params[left_name].astype(np.float64).T @ product
    assert set(right) == set(layer.grads)
    for name, array in right.items():
        close(layer.grads[name], array, backward, name)


@pytest.mark.parametrize(("cell", "options"), CASES)
def test_training_and_inference(cell, options):
    if options.get("num_layers", 1) > 1:
        options = {**options, "input_dropout": 0.0}  # the masks between layers are tested with those of other layers
    check(cell, options)
    check(cell, options, train=False)


@pytest.mark.parametrize("isa", _core.isas())
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("cell", LAYERS)
def test_instruction_sets_and_sizes(cell, dtype, isa):
    before = _core.isa()
    _core.select_isa(isa)
    tolerance = {} if dtype == np.float64 else {"forward": 1e-5, "backward": 1e-4}
    try:
        for variant, sizes in itertools.product(
            VARIANTS[cell], [(5, 7, 33, 9), (40, 5, 16, 9), (1, 1, 15, 9), (6, 3, 100, 120)]
        ):
            steps, batch, hidden, size = sizes
            lengths = tuple(np.random.default_rng(hidden).integers(0, steps + 1, batch))
            check(cell, variant, dtype, steps, batch, size, hidden, lengths=lengths, **tolerance)
    finally:
        _core.select_isa(before)


@pytest.mark.parametrize("cell", LAYERS)
def test_checkpoints_and_threads_change_no_bit(cell):
    threads = _core.get_num_threads()
    rng = np.random.default_rng(0)
    try:
        for variant, shape in itertools.product(VARIANTS[cell], [{}, {"num_layers": 2}, {"bidirectional": True}]):
            layer = make(cell, {**variant, **shape}, 5, 40, np.float32)
            x = rng.normal(size=(60, 9, 5)).astype(np.float32)
            lengths, resets = rng.integers(0, 61, 9), rng.random((60, 9)) < 0.1
            seen = None
            for n, checkpoint in [(1, None), (1, 20), (2, None), (3, None), (8, None), (8, 20)]:
                _core.set_num_threads(n)
                layer.zero_grads()
                (y, _), pullback = layer.vjp(x, lengths=lengths, reset_mask=resets, seed=SEED, checkpoint=checkpoint)
                dx, _ = pullback(y * 1.0)
                found = [y, dx, *(a.copy() for a in layer.grads.values())]
                seen = seen or found
                for a, b in zip(found, seen, strict=True):
                    np.testing.assert_array_equal(a, b, err_msg=f"{variant} {shape} {n} {checkpoint}")
    finally:
        _core.set_num_threads(threads)


@pytest.mark.parametrize("cell", LAYERS)
def test_a_loop_in_pytorch_agrees(cell):
    torch = pytest.importorskip("torch")
    from . import torch_loops

    layer = make(cell, {}, 4, 19)
    loop = {"fast_rnn": torch_loops.FastRNNLoop, "fast_grnn": torch_loops.FastGRNNLoop}[cell](
        4, 19, dtype=torch.float64
    )
    loop.load_state_dict({name.removesuffix("_l0"): torch.tensor(a) for name, a in layer.params.items()})
    x, h_0 = np.random.default_rng(0).normal(size=(11, 5, 4)), np.random.default_rng(1).normal(size=(1, 5, 19))
    (y, h_n), pullback = layer.vjp(x, h_0)
    dy, dh = np.cos(y), np.sin(h_n)
    dx, dh_0 = pullback(dy, dh)
    x_t, h_t = (torch.tensor(a, requires_grad=True) for a in (x, h_0[0]))
    y_t, (end,), _ = loop(x_t, (h_t,))
    ((y_t * torch.tensor(dy)).sum() + (end * torch.tensor(dh[0])).sum()).backward()
    pairs = [(y, y_t), (h_n[0], end), (dx, x_t.grad), (dh_0[0], h_t.grad)]
    pairs += [(layer.grads[f"{name}_l0"], p.grad) for name, p in loop.named_parameters()]
    for got, right in pairs:
        close(got, right.detach().numpy(), 1e-12, cell)


@pytest.mark.parametrize("cell", LAYERS)
def test_low_rank(cell):
    """A layer of low rank is the layer of the products; gradients come twice into grads when asked twice."""
    low = make(cell, {"num_layers": 2, "rank_ih": 2, "rank_hh": 3})
    full = make(cell, {"num_layers": 2})
    full.load_state_dict(whole(low)[0])
    x = np.random.default_rng(0).normal(size=(8, 3, 4))
    (y, _), pullback = low.vjp(x, retain=True)
    np.testing.assert_allclose(y, full(x)[0], rtol=1e-13, atol=1e-15)
    pullback(np.ones_like(y))
    once = {name: a.copy() for name, a in low.grads.items()}
    pullback(np.ones_like(y))
    for name, a in low.grads.items():
        np.testing.assert_allclose(a, 2 * once[name], rtol=1e-13, atol=1e-13, err_msg=name)
    assert low.params["weight_ih_1_l1"].shape == (7, 2)
    assert low.params["weight_ih_2_l1"].shape == (2, 7)
    assert low.num_params == sum(7 * 2 + 2 * i + 2 * 7 * 3 for i in (4, 7)) + 2 * (9 if cell == "fast_rnn" else 16)


def test_initial_values():
    """The scalars of the paper's code, and products of low rank that vary as whole matrices do."""
    layer = fr.FastRNN(8, 9, seed=0)
    assert [layer.params[f"{name}_l0"].tolist() for name in ("alpha", "beta")] == [[-3], [3]]
    layer = fr.FastGRNN(300, 400, rank_ih=20, rank_hh=30, seed=0)
    assert [layer.params[f"{name}_l0"].tolist() for name in ("zeta", "nu")] == [[1], [-4]]
    assert set(np.concatenate([layer.params["bias_z_l0"], layer.params["bias_h_l0"]])) == {1}
    for name in ("weight_ih", "weight_hh"):
        product = layer.params[f"{name}_1_l0"] @ layer.params[f"{name}_2_l0"]
        assert product.std() == pytest.approx((3 * 400) ** -0.5, rel=0.1)
    same = fr.FastGRNN(300, 400, rank_ih=20, rank_hh=30, seed=0)
    for name, array in layer.params.items():
        np.testing.assert_array_equal(array, same.params[name])


def test_scalars_far_out():
    """σ and its slope neither overflow nor vanish before their time."""
    layer = fr.FastRNN(2, 3, dtype=np.float64, seed=0)
    layer.params["alpha_l0"][:], layer.params["beta_l0"][:] = -30, 800
    with np.errstate(all="raise"):
        (y, _), pullback = layer.vjp(np.ones((1, 1, 2)), np.ones((1, 1, 3)))
        pullback(np.ones_like(y))
    np.testing.assert_allclose(y, 1, rtol=1e-12)
    assert 0 < layer.grads["alpha_l0"][0] < 1e-12
    assert layer.grads["beta_l0"][0] == 0


@pytest.mark.parametrize("cell", LAYERS)
@pytest.mark.parametrize("k", range(3))
def test_files_specs_and_pickles(cell, k, tmp_path):
    options = [{}, {"num_layers": 2, "rank_ih": 2, "clip": 0.5}, {**VARIANTS[cell][-1], **VARIANTS[cell][2]}][k]
    layer = make(cell, options)
    fr.save(layer, tmp_path / "layer.frnn")
    x = np.random.default_rng(0).normal(size=(5, 2, 4))
    for other in (fr.load(tmp_path / "layer.frnn"), pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        assert repr(other) == repr(layer)
        np.testing.assert_array_equal(other(x)[0], layer(x)[0])
        (y, _), pullback = other.vjp(x, seed=1)
        pullback(np.ones_like(y))
        assert all(np.abs(grad).max() > 0 for grad in other.grads.values())


@pytest.mark.parametrize("cell", LAYERS)
def test_one_hot_input_and_one_sequence(cell):
    layer = make(cell, {"rank_ih": 3}, 6)
    codes = np.array([[0, 5], [2, 2], [4, 1]])
    x = np.eye(6)[codes]
    y = layer(x)[0]
    np.testing.assert_allclose(layer(fr.one_hot(codes, 6))[0], y, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(layer(x[:, 1])[0], y[:, 1], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("cell", "options"), [pytest.param(cell, o, id=f"{cell} {o}") for cell in LAYERS for o in VARIANTS[cell]]
)
def test_streams_have_the_bits_of_the_layer(cell, options, dtype):
    layer = make(cell, {"num_layers": 2, **options}, dtype=dtype)
    x = np.random.default_rng(3).standard_normal((7, 3, 4)).astype(dtype)
    y, h_n = layer(x)
    s = layer.stream(3)
    np.testing.assert_array_equal([s.step(x_t) for x_t in x[:4]], y[:4])
    np.testing.assert_array_equal(s.run(x[4:]), y[4:])
    np.testing.assert_array_equal(s.state, h_n)
    for array in layer.params.values():  # scalars and factors go through σ and a product on their way into the stream
        array *= 0.5
    s.refresh()
    s.reset()
    np.testing.assert_array_equal(s.run(x), layer(x)[0])


@pytest.mark.parametrize("cell", LAYERS)
def test_in_a_model_with_the_tape(cell):
    model = fr.Sequential(make(cell, {"rank_hh": 2}, 4, 7, np.float32), fr.Last(), fr.Linear(7, 3, seed=0))
    x = np.random.default_rng(0).normal(size=(5, 2, 4)).astype(np.float32)
    (y, _), pullback = model.vjp(x, lengths=[5, 3])
    assert pullback(np.ones_like(y))[0].shape == x.shape
    assert all(np.abs(grad).max() > 0 for grad in model.grads.values())


@pytest.mark.parametrize("cell", ["fastrnn", "fastgrnn"])
def test_language_model(cell, tmp_path):
    model = fr.models.LanguageModel(5, cell, embedding_dim=6, hidden_size=8, num_layers=2, seed=0)
    assert isinstance(model.rnn, REGISTRY[cell])
    tokens = np.tile(np.arange(5), 400)
    data = fr.TokenWindows(tokens, batch_size=8, seq_len=20)
    before = model.bits_per_token(tokens)
    fr.fit(model, data, None, fr.optim.Adam(model, lr=0.02), epochs=12, progress=False)
    assert model.bits_per_token(tokens) < 0.2 * before
    fr.save(model, tmp_path / "model.frnn")
    np.testing.assert_array_equal(fr.load(tmp_path / "model.frnn")(tokens[:9, None])[0], model(tokens[:9, None])[0])


@pytest.mark.parametrize("cell", LAYERS)
def test_it_learns_to_add_two_marked_numbers(cell):
    """Hochreiter & Schmidhuber's adding problem of 20 steps: the mean squared error of guessing 1 is 1/6."""
    model = fr.Sequential(LAYERS[cell](2, 24, rank_hh=12, seed=0), fr.Last(), fr.Linear(24, 1, seed=1))
    optimizer = fr.optim.Adam(model, lr=0.02)
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(800):
        x = np.zeros((20, 64, 2), np.float32)
        x[..., 0] = rng.random((20, 64))
        x[rng.integers(0, 10, 64), np.arange(64), 1] = x[rng.integers(10, 20, 64), np.arange(64), 1] = 1
        target = (x[..., 0] * x[..., 1]).sum(axis=0)[:, None]
        model.zero_grads()
        (y, _), pullback = model.vjp(x)
        pullback((y - target) / 32)
        optimizer.step()
        losses.append(float(((y - target) ** 2).mean()))
    assert np.mean(losses[:3]) > 0.1
    assert np.mean(losses[-20:]) < 0.03


@pytest.mark.parametrize(
    ("build", "kind", "message"),
    [
        (lambda: fr.FastRNN(0, 3), ValueError, "input_size: expected"),
        (lambda: fr.FastGRNN(3, 2.5), TypeError, "hidden_size: expected"),
        (lambda: fr.FastRNN(3, 8, rank_ih=4), ValueError, "rank_ih: expected at most 3, .* got 4"),
        (lambda: fr.FastGRNN(3, 8, rank_hh=9), ValueError, "rank_hh: expected at most 8, .* got 9"),
        (lambda: fr.FastGRNN(3, 8, rank_hh=0), ValueError, "rank_hh: expected"),
        (lambda: fr.FastGRNN(3, 8, rank_ih="2"), TypeError, "rank_ih: expected"),
        (lambda: fr.FastRNN(3, 8, nonlinearity="gelu"), ValueError, "nonlinearity: expected one of"),
        (
            lambda: fr.FastRNN(3, 8, nonlinearity="relu", activations=("tanh",)),
            ValueError,
            "activations: expected without nonlinearity",
        ),
        (lambda: fr.FastGRNN(3, 8, activations=("tanh",)), ValueError, "activations: expected 2 of them"),
        (lambda: fr.FastGRNN(3, 8, clip=-1), ValueError, "clip: expected"),
        (lambda: fr.FastGRNN(3, 8, zoneout=(0.1, 0.2)), (TypeError, ValueError), "zoneout: expected"),
        (lambda: fr.FastRNN(3, 8)(np.ones((5, 2, 4), np.float32)), ValueError, "x: expected"),
        (lambda: fr.FastRNN(3, 8)(np.ones((5, 2, 3))), TypeError, "x: expected float32"),
        (lambda: _core.forward_layers(_core.FAST_RNN, np.ones((5, 2, 3), np.float32), (
            ((np.ones((8, 3), np.float32), np.ones((8, 8), np.float32), None, None, None),),
        ), None, None, None, False, False, 0, 0.0, 0), ValueError, "cell, weights: out of range"),
    ],
)  # fmt: skip
def test_bad_input(build, kind, message):
    with pytest.raises(kind, match=message):
        build()
