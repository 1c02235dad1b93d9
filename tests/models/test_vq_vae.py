"""VQVAE and its table: choice, straight-through gradient, moving averages, restarts, files."""

import numpy as np
import pytest

import fastrnn as fr
from tests.models.helpers import same_after_files
from tests.reference.finite_differences import assert_close, numerical_gradient


def table(**options):
    return fr.models.VectorQuantizer(4, 2, **{"dtype": np.float64, "seed": 0, **options})


def small(**options):
    sizes = {"num_codes": 6, "code_size": 2, "num_latents": 3, "hidden_sizes": 7, "activation": "tanh"}
    return fr.models.VQVAE(5, **{**sizes, "dtype": np.float64, "seed": 0, **options})


def vectors(*shape):
    return np.random.default_rng(1).standard_normal((*shape, 2))


def test_it_is_the_nearest():
    layer, z = table(), vectors(5, 3)
    q, penalty, codes = layer(z)
    distance = ((z[..., None, :] - layer.params["codebook"]) ** 2).sum(-1)
    np.testing.assert_array_equal(codes, distance.argmin(-1))
    np.testing.assert_array_equal(q, layer.lookup(codes))
    assert_close(penalty, 0.25 * distance.min(-1), 1e-12)


@pytest.mark.parametrize("decay", [None, 0.9])
def test_gradients_stop_where_the_equation_says(decay):
    """Of q + sg(z) − sg(z) …: the finite differences are taken with what stands under sg held."""
    layer, z = table(decay=decay, commitment=0.4, restart=0), vectors(6)
    rng = np.random.default_rng(2)
    dq, dpenalty = rng.standard_normal((6, 2)), rng.standard_normal(6)
    (q, _, codes), pullback = layer.vjp(z)
    codebook, fixed = layer.params["codebook"].copy(), z.copy()
    table_now = codebook.copy()

    def surrogate():
        commit = 0.4 * ((z - codebook[codes]) ** 2).sum(-1)
        learn = ((fixed - table_now[codes]) ** 2).sum(-1) if decay is None else 0
        return float(((z + (q - fixed)) * dq).sum() + ((commit + learn) * dpenalty).sum())

    dz = pullback(dq, dpenalty)
    assert_close(dz, numerical_gradient(surrogate, z), what="dz")
    if decay is None:
        assert_close(layer.grads["codebook"], numerical_gradient(surrogate, table_now), what="de")
        np.testing.assert_array_equal(layer.params["codebook"], codebook)
    else:
        assert not layer.grads["codebook"].any()


def test_the_table_is_a_moving_average():
    layer = table(decay=0.8, restart=0)
    layer.params["usage"], layer.params["sums"] = 2.0, 2.0 * layer.params["codebook"]
    before, z = layer.params["codebook"].copy(), vectors(50)
    (_, _, codes), pullback = layer.vjp(z)
    pullback(np.zeros_like(z))
    for code in range(4):
        chose = z[codes == code]
        n = 0.8 * 2 + 0.2 * len(chose)
        assert layer.params["usage"][code] == pytest.approx(n)
        assert_close(layer.params["codebook"][code], (0.8 * 2 * before[code] + 0.2 * chose.sum(0)) / n, 1e-12)


def test_the_average_converges_to_the_means_of_clusters():
    rng = np.random.default_rng(0)
    centers = np.array([[-4.0, 0], [4, 0], [0, 4], [0, -4]])
    layer = table(decay=0.9)
    layer.params["codebook"], layer.params["usage"] = 0.3 * centers, 1.0
    for step in range(200):
        z = centers[rng.integers(0, 4, 64)] + 0.1 * rng.standard_normal((64, 2))
        layer.vjp(z, seed=step)[1](np.zeros_like(z))
    assert np.abs(layer.params["codebook"] - centers).max() < 0.1


@pytest.mark.parametrize("decay", [None, 0.5])
def test_dead_codes_are_moved_onto_vectors(decay):
    layer, z = table(decay=decay, restart=0.1), vectors(20)
    layer.params["usage"] = 5.0
    layer.params["codebook"][3] = 1e6
    if decay is not None:
        layer.params["sums"] = 5.0 * layer.params["codebook"]
    for step in range(20 if decay else 500):
        if (layer.params["codebook"][3] < 1e3).all():
            break
        layer.vjp(z, seed=step)[1](np.zeros_like(z))
    assert (layer.params["codebook"][3] == z).all(1).any()
    assert layer.params["usage"][3] == pytest.approx(layer.params["usage"].mean(), rel=0.5)
    still = table(decay=decay, restart=0)
    still.params["codebook"][3] = 1e6
    for _ in range(50):
        still.vjp(z)[1](np.zeros_like(z))
    assert (still.params["codebook"][3] == 1e6).all()


def test_a_first_batch_places_all_codes():
    layer, z = table(), 100 + vectors(9)
    layer.vjp(z, seed=0)[1](np.zeros_like(z))
    first = layer.params["codebook"].copy()
    assert (first[:, None] == z).all(-1).any(-1).all()
    assert len(np.unique(first, axis=0)) == 4
    other = table()
    other.vjp(z, seed=0)[1](np.zeros_like(z))
    np.testing.assert_array_equal(other.params["codebook"], first)


def test_nan_in_gives_nan_out():
    layer = fr.models.VectorQuantizer(3, 2, seed=0)
    q, penalty, _ = layer(np.array([[0.5, 1.0], [np.nan, 1.0]], np.float32))
    assert np.isfinite(q[0]).all() and np.isfinite(penalty[0])
    assert np.isnan(q[1]).all() and np.isnan(penalty[1])


def test_vectors_that_are_not_finite_leave_the_table_alone():
    layer, z = table(), vectors(5)
    before = layer.state_dict()
    z[0] = np.nan
    layer.vjp(z, seed=0)[1](np.zeros_like(z))
    for name, array in layer.params.items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("decay", [None, 0.9])
@pytest.mark.parametrize("weight", [None, [1, 0, 2, 0.5, 1, 3, 1, 1]])
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_gradients_of_the_whole_model(decay, weight, likelihood):
    """The decoder's by finite differences of the loss; the encoder's with q − z and the codes held."""
    model = small(decay=decay, restart=0, likelihood=likelihood)
    x = np.random.default_rng(0).random((8, 5))
    batch = fr.Batch(x, weight=weight)
    state = model.state_dict()
    _, grads = fr.value_and_grad(model.loss, model)(batch)
    grads = {name: grad.copy() for name, grad in grads.items()}
    model.load_state_dict(state)
    z = model._latents(x)
    q, _, codes = model.quantizer(z)
    shift, share = q - z, np.ones(8) / 8 if weight is None else np.array(weight) / np.sum(weight)

    def surrogate():
        now = model._latents(x)
        commit = (0.25 * ((now - q) ** 2).sum(-1) * share[:, None]).sum()
        learn = 0.0
        if decay is None:
            learn = (((z - model.quantizer.params["codebook"][codes]) ** 2).sum(-1) * share[:, None]).sum()
        return float(model._nats(model._outputs(now + shift), x, weight) + commit + learn)

    for name, param in model.params.items():
        if name in ("quantizer.usage", "quantizer.sums") or (name == "quantizer.codebook" and decay is not None):
            assert not grads[name].any()
        else:
            assert_close(grads[name], numerical_gradient(surrogate, param), what=name)


def test_optimisers_leave_the_table_to_its_average():
    """Weight decay would shrink what has no gradient."""
    model, x = small(), np.random.default_rng(0).random((8, 5))
    fr.value_and_grad(model.loss, model)((x,), seed=0)
    before = model.state_dict()
    optimizers = (fr.optim.AdamW(model, weight_decay=0.5), fr.optim.SGD(model, lr=0.1, momentum=0.9, weight_decay=0.5))
    for optimizer in optimizers:
        optimizer.step()
        for name, array in model.params.items():
            changed = (array != before[name]).any()
            assert changed != name.startswith("quantizer."), name


def test_fit_learns_repeats_itself_and_resumes(tmp_path):
    rng = np.random.default_rng(0)
    x = (np.eye(5)[rng.integers(0, 5, 240)] + 0.05 * rng.standard_normal((240, 5))).astype(np.float32)
    batches = [(rows,) for rows in np.split(x, 6)]

    def run(epochs, **options):
        model = small(dtype=np.float32, scale=0.2, decay=0.9, seed=1)
        optimizer = fr.optim.Adam(model, lr=0.01)
        return model, fr.fit(model, batches, None, optimizer, epochs=epochs, progress=False, **options)

    model, history = run(60)
    run(25, checkpoint=tmp_path / "run")
    again, resumed = run(60, checkpoint=tmp_path / "run", resume=True)
    assert history.steps["loss"] == resumed.steps["loss"]
    for name, array in model.params.items():
        np.testing.assert_array_equal(array, again.params[name])
    assert np.abs(model.reconstruct(x) - x).mean() < 0.1
    codes = model.encode(x)
    assert codes.shape == (240, 3)
    np.testing.assert_array_equal(model.decode(codes), model(x))
    assert len(np.unique(codes, axis=0)) >= 5
    counts = np.bincount(codes.ravel(), minlength=6) / codes.size
    entropy = -sum(p * np.log(p) for p in counts if p)
    assert model.perplexity(x) == pytest.approx(np.exp(entropy)) and 1 < model.perplexity(x) <= 6
    loaded = same_after_files(model, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(loaded.encode(x), codes)


@pytest.mark.parametrize(
    "use, message",
    [
        (lambda: table(decay=1.0), "decay: expected 0 ≤ decay < 1, got 1.0"),
        (lambda: table(commitment=-1), "commitment: expected a number ≥ 0, got -1"),
        (lambda: table(restart=2), "restart: expected 0 ≤ restart < 1, got 2"),
        (lambda: small(num_codes=0), "num_codes: expected a positive integer"),
        (lambda: small(num_latents=0), "num_latents: expected a positive integer"),
        (lambda: table()(np.ones((3, 3))), r"z: expected \[..., 2\] \(code_size=2\), got shape \(3, 3\)"),
        (lambda: table().lookup([4]), r"codes: expected integers from 0 to 3 \(num_codes=4\), got 4"),
        (lambda: small().decode([[0, 1]]), r"codes: expected \[B, 3\], got shape \(1, 2\)"),
    ],
)
def test_bad_arguments_are_named(use, message):
    with pytest.raises(ValueError, match=message):
        use()
