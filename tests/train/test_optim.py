"""Optimisers: PyTorch's trajectories, the reference, groups, lazy rows, exact state."""

import json
from pathlib import Path

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import reference
from fastrnn.train.optim import Optimizer

CLASSES = {
    "sgd": fr.optim.SGD,
    "rmsprop": fr.optim.RMSprop,
    "adam": fr.optim.Adam,
    "adamw": fr.optim.AdamW,
}


def torch_cases():
    with np.load(Path(__file__).parents[1] / "data" / "torch_reference.npz") as data:
        names = sorted({key.split("/")[0] for key in data if key.startswith("optimiser_")})
        return {
            name: (json.loads(str(data[f"{name}/config"])), data[f"{name}/grads"], data[f"{name}/params"])
            for name in names
        }


CASES = torch_cases()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_follows_pytorch(name, dtype):
    config, grads, params = CASES[name]
    options = config["options"]
    p, g = params[0].astype(dtype), np.zeros(params[0].shape, dtype)
    opt = CLASSES[name.split("_")[1]]({"p": (p, g)}, **options)
    for grad, expected in zip(grads, params[1:], strict=True):
        g[...] = grad
        opt.step()
        # Six steps of a handful of roundings each.
        np.testing.assert_allclose(p, expected, rtol=1e-12 if dtype == np.float64 else 2e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("sgd", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
        ("rmsprop", {"lr": 0.01, "momentum": 0.3, "centered": True}),
        ("adam", {"lr": 0.01, "betas": (0.7, 0.9)}),
        ("adamw", {"lr": 0.01, "weight_decay": 0.2}),
    ],
)
@pytest.mark.parametrize("size", [1, 15, 17, 1000])
def test_follows_the_reference(kind, options, size):
    rng = np.random.default_rng(size)
    p, g = rng.standard_normal(size), np.zeros(size)
    expected, state = p.copy(), {}
    opt = CLASSES[kind]({"p": (p, g)}, **options)
    for _ in range(5):
        g[...] = rng.standard_normal(size)
        opt.step()
        getattr(reference, kind)(expected, g, state, **options)
    np.testing.assert_allclose(p, expected, rtol=1e-12, atol=1e-14)


def linear():
    return fr.Linear(5, 3, seed=0)


def fill(model, rng):
    for g in model.grads.values():
        g[...] = rng.standard_normal(g.shape)


def test_groups_by_name_pattern():
    model = linear()
    before = model.state_dict()
    fill(model, np.random.default_rng(0))
    opt = fr.optim.SGD(model, lr=0.1, groups={"*": {"lr": 0.5}, "*bias*": {"lr": 0.0}})
    assert opt.options("weight")["lr"] == 0.5
    opt.lr_factor = 0.5
    opt.step()
    np.testing.assert_array_equal(model.params["bias"], before["bias"])
    moved = before["weight"] - model.params["weight"]
    np.testing.assert_allclose(moved, 0.25 * model.grads["weight"], rtol=1e-5, atol=1e-6)


def test_gradients_are_left_alone():
    model = linear()
    fill(model, np.random.default_rng(0))
    before = {name: g.copy() for name, g in model.grads.items()}
    fr.optim.AdamW(model, weight_decay=0.5).step()
    for name, g in model.grads.items():
        np.testing.assert_array_equal(g, before[name])


@pytest.mark.parametrize("kind", CLASSES)
def test_lazy_rows_equal_dense_ones_where_touched(kind):
    options = {"momentum": 0.9} if kind in ("sgd", "rmsprop") else {}
    models = [fr.Embedding(50, 4, lazy=lazy, seed=0) for lazy in (False, True)]
    opts = [CLASSES[kind](model, lr=0.1, **options) for model in models]
    start = models[0].params["weight"].copy()
    for model, opt in zip(models, opts, strict=True):
        y, pullback = model.vjp(np.array([3, 7, 3]))
        pullback(np.ones_like(y))
        opt.step()
    dense, lazy = (model.params["weight"] for model in models)
    np.testing.assert_array_equal(lazy[[3, 7]], dense[[3, 7]])
    others = np.setdiff1d(np.arange(50), [3, 7])
    np.testing.assert_array_equal(lazy[others], start[others])


def test_lazy_rows_that_were_not_touched_keep_still():
    model = fr.Embedding(10, 4, lazy=True, seed=0)
    opt = fr.optim.Adam(model, lr=0.1)
    for rows in ([1], [2]):
        model.zero_grads()
        y, pullback = model.vjp(np.array(rows))
        pullback(np.ones_like(y))
        before = model.params["weight"].copy()
        assert fr.optim.clip_grad_norm(model, 0.5) == 2.0
        opt.step()
        changed = np.flatnonzero((model.params["weight"] != before).any(axis=1))
        np.testing.assert_array_equal(changed, rows)


@pytest.mark.parametrize("kind", CLASSES)
def test_state_is_exact(kind):
    options = {"momentum": 0.9} if kind in ("sgd", "rmsprop") else {}

    def run(model, opt, rng, steps):
        for _ in range(steps):
            fill(model, rng)
            opt.step()

    whole, rng = linear(), np.random.default_rng(1)
    opt = CLASSES[kind](whole, lr=0.01, **options)
    run(whole, opt, rng, 3)
    state, weights = opt.state_dict(), whole.state_dict()
    run(whole, opt, rng, 3)

    again, rng = linear(), np.random.default_rng(1)
    run(linear(), CLASSES[kind](linear()), rng, 3)  # brings the generator to the same place
    again.load_state_dict(weights)
    opt = CLASSES[kind](again, lr=9.0, **options)
    opt.load_state_dict(state)
    run(again, opt, rng, 3)
    for name, array in whole.params.items():
        np.testing.assert_array_equal(array, again.params[name])


def test_state_that_does_not_fit():
    opt = fr.optim.Adam(linear())
    with pytest.raises(ValueError, match="is of 'SGD', expected 'Adam'"):
        opt.load_state_dict(fr.optim.SGD(linear()).state_dict())
    with pytest.raises(ValueError, match=r"weight\.m has shape \(3, 4\), expected \(3, 5\)"):
        opt.load_state_dict(fr.optim.Adam(fr.Linear(4, 3)).state_dict())
    with pytest.raises(ValueError, match="bias is missing"):
        opt.load_state_dict(fr.optim.Adam(fr.Linear(5, 3, bias=False)).state_dict())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: fr.optim.SGD(m, lr=-1.0), "lr: expected a finite number >= 0, got -1.0"),
        (lambda m: fr.optim.SGD(m, lr=float("nan")), "lr: expected a finite number"),
        (lambda m: fr.optim.Adam(m, betas=(0.9, 1.0)), r"beta2: expected a finite number in \[0, 1\)"),
        (lambda m: fr.optim.SGD(m, nesterov=True), "nesterov: needs momentum"),
        (lambda m: fr.optim.SGD(m, groups={"*": {"momentum": 0.5}}), "needs an optimiser with momentum"),
        (lambda m: fr.optim.Adam(m, groups={"x*": {"lr": 1.0}}), r"matches none of the parameters"),
        (lambda m: fr.optim.Adam(m, groups={"*": {"lrr": 1.0}}), r"unknown options \['lrr'\]"),
        (lambda m: fr.optim.Adam({}), "has no parameters"),
    ],
)
def test_bad_options(make, message):
    with pytest.raises(ValueError, match=message):
        make(linear())


def test_bad_model():
    with pytest.raises(TypeError, match="model: expected a layer, or name -> "):
        fr.optim.Adam([1, 2])
    with pytest.raises(TypeError, match="lr: expected a number"):
        fr.optim.Adam(linear(), lr="high")


@pytest.mark.parametrize(
    "use", [fr.optim.Adam, lambda m: fr.optim.clip_grad_norm(m, 1.0), lambda m: fr.optim.clip_grad_value(m, 1.0)]
)
def test_parameters_alone_are_no_model(use):
    p = np.zeros((2, 3))
    for bad in (linear().params, {"p": p}, {"p": (p, p[0])}, {"p": (p, p.astype(np.float32))}, {"p": ([1], [2])}):
        with pytest.raises(TypeError, match=r"pass the model itself, not model\.params"):
            use(bad)
    use({"p": (p, p.copy())})


def test_clip_by_norm():
    model = linear()
    fill(model, np.random.default_rng(0))
    flat = np.concatenate([g.ravel() for g in model.grads.values()]).astype(np.float64)
    norm = fr.optim.clip_grad_norm(model, 0.5)
    assert norm == pytest.approx(np.linalg.norm(flat), rel=1e-12)
    clipped = np.concatenate([g.ravel() for g in model.grads.values()])
    np.testing.assert_allclose(clipped, flat * 0.5 / (norm + 1e-6), rtol=1e-5)
    before = model.grads["weight"].copy()
    fr.optim.clip_grad_norm(model, 100.0)
    np.testing.assert_array_equal(model.grads["weight"], before)


def test_huge_gradients_of_float32_have_a_norm():
    g = np.full(4, 1e30, np.float32)
    assert fr.optim.clip_grad_norm({"p": (np.zeros_like(g), g)}, 1.0) == pytest.approx(2e30, rel=1e-6)
    np.testing.assert_allclose(g, 0.5, rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_norm_that_is_not_finite(bad):
    model = linear()
    fill(model, np.random.default_rng(0))
    model.grads["bias"][1] = bad
    before = model.grads["weight"].copy()
    with pytest.raises(FloatingPointError, match="gradients of bias"):
        fr.optim.clip_grad_norm(model, 1.0)
    assert not np.isfinite(fr.optim.clip_grad_norm(model, 1.0, error_if_nonfinite=False))
    np.testing.assert_array_equal(model.grads["weight"], before)


def test_clip_by_value():
    g = np.array([-5.0, 0.5, np.nan, 5.0])
    fr.optim.clip_grad_value({"p": (np.zeros(4), g)}, 2.0)
    np.testing.assert_array_equal(g, [-2.0, 0.5, np.nan, 2.0])
    for clip in (fr.optim.clip_grad_norm, fr.optim.clip_grad_value):
        with pytest.raises(ValueError, match="expected a number > 0"):
            clip(linear(), 0.0)


def test_base_class_has_no_formula():
    with pytest.raises(NotImplementedError):
        Optimizer(linear(), lr=0.1).step()
