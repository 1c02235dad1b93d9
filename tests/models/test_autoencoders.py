"""Autoencoder and VAE: gradients, bounds, draws, files, arguments."""

import numpy as np
import pytest

import fastrnn as fr
from fastrnn.nn._random import split
from tests.models.helpers import check_loss, same_after_files
from tests.reference.finite_differences import assert_close, numerical_gradient

KINDS = {"auto": fr.models.Autoencoder, "vae": fr.models.VAE}
LIKELIHOODS = ["gaussian", "bernoulli"]


def small(kind="vae", **options):
    return KINDS[kind](5, 3, 6, **{"activation": "tanh", "dtype": np.float64, "seed": 0, **options})


def data(count=7, dtype=np.float64):
    return np.random.default_rng(1).random((count, 5)).astype(dtype)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("weight", [None, [1, 0, 2, 0.5, 1, 3, 1]])
@pytest.mark.parametrize("kind, options", [("auto", {}), ("auto", {"corruption": 0.4}), ("vae", {"beta": 0.7})])
def test_gradients_by_finite_differences(kind, options, likelihood, weight):
    model = small(kind, likelihood=likelihood, **options)
    check_loss(model, fr.Batch(data(), weight=weight))


@pytest.mark.parametrize("kind", KINDS)
def test_vjp_is_the_gradient_of_the_reconstruction(kind):
    model, x = small(kind, likelihood="bernoulli"), data()
    y, pullback = model.vjp(x, seed=3)
    dy = np.random.default_rng(2).standard_normal(y.shape)
    dx = pullback(dy)
    expected = numerical_gradient(lambda: float((model.vjp(x, seed=3)[0] * dy).sum()), x)
    assert_close(dx, expected, what="dx")


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_bound_is_what_its_definition_says(likelihood):
    model, x = small(likelihood=likelihood, scale=0.5, beta=1.0), data()
    mean, log_var = model.encode(x)
    noise = np.random.default_rng(5).standard_normal(mean.shape)
    p = model.decode(mean + np.exp(log_var / 2) * noise)
    if likelihood == "gaussian":
        log_p = -0.5 * ((x - p) / 0.5) ** 2 - np.log(0.5) - 0.5 * np.log(2 * np.pi)
    else:
        log_p = x * np.log(p) + (1 - x) * np.log(1 - p)
    kl = 0.5 * (np.exp(log_var) + mean**2 - 1 - log_var).sum(1).mean()
    z = model.draw(mean, log_var, dropout=True, seed=5)
    assert_close(z, mean + np.exp(log_var / 2) * noise, 1e-12, "z")
    assert float(model._terms(x, None, 5)[0]) == pytest.approx(-log_p.sum(1).mean(), rel=1e-10)
    assert model.elbo(x).kl == pytest.approx(kl, rel=1e-10)
    bound = model.elbo(x, samples=3, seed=1)
    assert bound.elbo == pytest.approx(-bound.reconstruction - bound.kl)


def test_the_kl_term_is_an_integral():
    """KL against the mean of log q − log p over draws."""
    model, x = small(), data(1)
    mean, log_var = model.encode(x)
    z = mean + np.exp(log_var / 2) * np.random.default_rng(0).standard_normal((400_000, 3))
    log_q = -0.5 * ((z - mean) ** 2 / np.exp(log_var) + log_var).sum(1)
    assert (log_q + 0.5 * (z**2).sum(1)).mean() == pytest.approx(model.elbo(x).kl, abs=0.01)


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_pytorch_gives_the_same_loss_and_gradients(dtype, tolerance):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    model = fr.models.VAE(20, 3, 16, beta=2.0, dtype=dtype, seed=0)
    x = (np.random.default_rng(0).random((32, 20)) < 0.4).astype(dtype)
    loss, grads = fr.value_and_grad(lambda batch: model.loss(batch, seed=7), model)((x,))
    noise = model.draw(np.zeros((32, 3), dtype), np.zeros((32, 3), dtype), dropout=True, seed=split(7, 1)[0])

    weights = {name: torch.tensor(array, requires_grad=True) for name, array in model.params.items()}

    def linear(h, name):
        return torch.nn.functional.linear(h, weights[f"{name}.weight"], weights[f"{name}.bias"])

    target = torch.tensor(x)
    mean, log_var = linear(torch.relu(linear(target, "encoder.0")), "encoder.2").split(3, -1)
    z = mean + torch.exp(log_var / 2) * torch.tensor(noise)
    logits = linear(torch.relu(linear(z, "decoder.0")), "decoder.2")
    nats = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    kl = 0.5 * (torch.exp(log_var) + mean**2 - 1 - log_var).sum()
    theirs = (nats + 2.0 * kl) / 32
    theirs.backward()
    assert loss == pytest.approx(theirs.item(), rel=tolerance)
    for name, weight in weights.items():
        expected = weight.grad.numpy()
        np.testing.assert_allclose(grads[name], expected, rtol=0, atol=tolerance * np.abs(expected).max(), err_msg=name)


def test_weights_are_those_of_rows():
    model, x = small(), data(4)
    alone = [float(model.encode(row[None])[0].sum()) for row in x]  # rows don't depend on each other
    assert_close(np.array(alone), model.encode(x)[0].sum(1), 1e-12)
    auto = small("auto")
    losses = [auto.loss((row[None],), train=False) for row in x]
    assert auto.loss(fr.Batch(x, weight=[1, 0, 3, 0]), train=False) == pytest.approx((losses[0] + 3 * losses[2]) / 4)
    assert auto.loss(fr.Batch(x), train=False) == pytest.approx(np.mean(losses))


def test_draws_follow_the_seed():
    model, x = small(), data()
    assert model.loss((x,), train=False) == model.loss((x,), train=False)
    assert model.loss((x,), seed=1) == model.loss((x,), seed=1) != model.loss((x,), seed=2)
    assert model.loss((x,)) != model.loss((x,))
    np.testing.assert_array_equal(model.sample(4, seed=1), model.sample(4, seed=1))
    assert model.sample(4, seed=1).shape == (4, 5)
    np.testing.assert_array_equal(model.vjp(x, seed=1)[0], model.vjp(x, seed=1)[0])
    assert (model.vjp(x, seed=1)[0] != model(x)).any()
    np.testing.assert_array_equal(model(x), model.decode(model.encode(x)[0]))


@pytest.mark.parametrize("kind", KINDS)
def test_fit_learns_and_repeats_itself(kind, tmp_path):
    rng = np.random.default_rng(0)
    x = (rng.random((256, 1)) + 0.05 * rng.random((256, 5))).astype(np.float32) * np.float32(0.9)
    batches = [(rows,) for rows in np.split(x, 8)]
    runs = []
    for _ in range(2):
        model = small(kind, likelihood="gaussian", scale=0.1, dtype=np.float32)
        optimizer = fr.optim.Adam(model, lr=0.01)
        runs.append(fr.fit(model, batches, None, optimizer, epochs=30, validation=batches[:2], progress=False))
    assert runs[0].steps["loss"] == runs[1].steps["loss"]
    assert runs[0].validations[-1]["loss"] < runs[0].validations[0]["loss"] - 2
    assert np.abs(model.reconstruct(x) - x).mean() < 0.1 < np.abs(x - x.mean(0)).mean()
    again = same_after_files(model, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again(x), model(x))


def test_interpolation_begins_and_ends_with_reconstructions():
    model, x = small(), data(2)
    path = model.interpolate(x[0], x[1], steps=5)
    assert path.shape == (5, 5)
    assert_close(path[[0, -1]], model(x), 1e-12)
    middle = model.encode(x)[0].mean(0, keepdims=True)
    assert_close(path[2], model.decode(middle)[0], 1e-12)
    both = model.interpolate(x, x[::-1].copy(), steps=3)
    assert both.shape == (3, 2, 5)
    assert_close(both[1, 0], both[1, 1], 1e-12)


def test_other_networks(tmp_path):
    """A GRU over the rows of an image, whose first axis is the batch."""
    encoder = fr.Sequential(
        fr.GRU(4, 6, batch_first=True, dtype=np.float64, seed=0),
        fr.MeanPool(batch_first=True),
        fr.Linear(6, 4, dtype=np.float64, seed=1),
    )
    decoder = fr.Sequential(fr.Linear(2, 12, dtype=np.float64, seed=2), Fold(3, 4))
    model = fr.models.VAE(12, 2, encoder=encoder, decoder=decoder, dtype=np.float64)
    x = np.random.default_rng(0).random((5, 3, 4))
    check_loss(model, (x,))
    assert model.sample(2, seed=0).shape == (2, 3, 4)
    again = same_after_files(model, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again(x), model(x))


class Fold(fr.Model):
    def __init__(self, steps, size):
        self.shape = (steps, size)

    def forward(self, x):
        return x.reshape(len(x), *self.shape)


@pytest.mark.parametrize(
    "use, error, message",
    [
        (lambda: fr.models.VAE(5, 0), ValueError, "latent_size: expected a positive integer, got 0"),
        (lambda: fr.models.VAE(5, 2, (4, 0)), ValueError, "hidden_sizes: expected a positive integer, got 0"),
        (lambda: small(likelihood="poisson"), ValueError, "likelihood: expected one of 'gaussian', 'bernoulli', got"),
        (lambda: small(activation="cos"), ValueError, "activation: expected one of 'relu', 'tanh'"),
        (lambda: small(scale=0), ValueError, "scale: expected a number > 0, got 0"),
        (lambda: small(beta=-1), ValueError, "beta: expected a number ≥ 0, got -1"),
        (lambda: small("auto", corruption=1), ValueError, "corruption: expected 0 ≤ corruption < 1, got 1"),
        (lambda: small(encoder=3), TypeError, "encoder: expected a layer or None, got int"),
        (lambda: small()(np.ones((2, 4))), ValueError, r"x: expected \[B, 5\] \(input_size=5\), got shape \(2, 4\)"),
        (lambda: small()(np.ones(5)), ValueError, r"x: expected \[B, 5\]"),
        (lambda: small()(np.ones((2, 5), np.float32)), TypeError, "x: expected float64, got float32"),
        (lambda: small().decode(np.ones((2, 4))), ValueError, r"z: expected \[B, 3\] \(latent_size=3\)"),
        (lambda: small().loss(fr.Batch(data(), weight=[1, 2])), ValueError, r"weight: .* \(7,\), got \(2,\)"),
        (lambda: small().sample(0), ValueError, "count: expected a positive integer, got 0"),
        (lambda: small().elbo(data(), samples=0), ValueError, "samples: expected a positive integer"),
        (lambda: small().interpolate(data()[0], data()), ValueError, r"b: expected shape \(5,\), that of a"),
        (lambda: small().loss(fr.Batch(data(), lengths=[5] * 7)), ValueError, "lengths: expected None"),
        (lambda: small().loss(fr.Batch(data() + 1)), ValueError, "^x: expected numbers from 0 to 1"),
        (
            lambda: small(encoder=fr.Linear(5, 5, dtype=np.float64))(data()),
            ValueError,
            r"encoder: expected a layer that returns \[B, 6\], this one returned shape \(7, 5\)",
        ),
        (
            lambda: small(decoder=fr.Linear(3, 4, dtype=np.float64)).loss((data(),)),
            ValueError,
            r"decoder: expected outputs of x's shape \(7, 5\), got \(7, 4\)",
        ),
    ],
)
def test_bad_arguments_are_named(use, error, message):
    with pytest.raises(error, match=message):
        use()
