"""Seq2SeqRegressor: gradients, a loop in PyTorch, lengths, scheduled sampling, fitting, files."""

import numpy as np
import pytest

import fastrnn as fr
from tests.models.helpers import check_loss, same_after_files

CELLS = ["lstm", "gru", "rnn"]


def make(cell="lstm", inputs=2, outputs=2, **options):
    return fr.models.Seq2SeqRegressor(
        inputs, outputs, 4, cell=cell, **{"dtype": np.float64, "seed": 0, "sampling": 0.5, **options}
    )


def batch(covariates=0, ragged=True, seed=0):
    rng = np.random.default_rng(seed)
    target = rng.standard_normal((6, 3, 2 + covariates))
    if ragged:
        target[2:, 1] = np.nan
    weight = [1, 2, 0.5] if ragged else None
    return fr.Batch(rng.standard_normal((5, 3, 2)), target, [5, 2, 4] if ragged else None, weight)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("attention", [None, "additive"])
@pytest.mark.parametrize(
    "more",
    [
        {"bidirectional": True, "num_layers": 2, "covariate_size": 1},
        {"sampling": 1.0, "start": "last"},
        {"sampling": 0.0, "covariate_size": 1},
    ],
)
def test_gradients_by_finite_differences(cell, attention, more):
    model = make(cell, attention=attention, **more)
    data = batch(model.covariate_size)
    for name, param in model.params.items():  # else queries' gradients are below what differences can tell
        param *= 4 if name.endswith(("_query", "_key", ".v")) else 1.5
    check_loss(model, data, skip=["annealing.step"], most=12)


@pytest.mark.parametrize("feedback_grad", [True, False])
def test_training_step_is_that_of_a_loop_in_pytorch(feedback_grad):
    torch = pytest.importorskip("torch")
    model = make(sampling=1.0, feedback_grad=feedback_grad)
    data = batch(ragged=False)
    loss, grads = fr.value_and_grad(model.loss, model)(data)
    encoder, cell = torch.nn.LSTM(2, 4).double(), torch.nn.LSTMCell(2, 4).double()
    output = torch.nn.Linear(4, 2).double()
    with torch.no_grad():
        for layer, theirs, suffix in ((model.encoder, encoder, "_l0"), (model.decoder.rnn, cell, "")):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(theirs, name + suffix).copy_(torch.tensor(layer.params[name + "_l0"]))
        output.weight.copy_(torch.tensor(model.decoder.output.params["weight"]))
        output.bias.copy_(torch.tensor(model.decoder.output.params["bias"]))
    _, (h, c) = encoder(torch.tensor(data.x))
    h, c, value, values = h[0], c[0], torch.zeros(3, 2, dtype=torch.float64), []
    for _ in range(6):
        h, c = cell(value if feedback_grad else value.detach(), (h, c))
        value = output(h)
        values.append(value)
    expected = torch.nn.functional.mse_loss(torch.stack(values), torch.tensor(data.target))
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    for ours, theirs in (
        ("encoder.weight_hh_l0", encoder.weight_hh_l0),
        ("decoder.rnn.weight_ih_l0", cell.weight_ih),
        ("decoder.rnn.weight_hh_l0", cell.weight_hh),
        ("decoder.output.weight", output.weight),
        ("decoder.output.bias", output.bias),
    ):
        np.testing.assert_allclose(grads[ours], theirs.grad.numpy(), rtol=1e-9, atol=1e-12, err_msg=ours)


@pytest.mark.parametrize("options", [{}, {"attention": "general", "bidirectional": True}, {"cell": "gru"}])
def test_padding_changes_nothing_and_one_series_is_a_batch_of_one(options):
    model = make(**options)
    rng = np.random.default_rng(3)
    x = rng.standard_normal((7, 2, 2))
    y = model(x, 5, lengths=[7, 3])
    x[3:, 1] = np.nan
    np.testing.assert_array_equal(model(x, 5, lengths=[7, 3]), y)
    np.testing.assert_allclose(model(x[:3, 1], 5), y[:, 1], rtol=0, atol=1e-14)
    found = model.predict([x[:, 0], x[:3, 1]], 5)
    np.testing.assert_allclose(found, y.swapaxes(0, 1), rtol=0, atol=1e-14)


def test_start_last_reads_each_rows_own_last_value():
    model = make(start="last")
    x = np.random.default_rng(0).standard_normal((5, 3, 2))
    ends, seen = [5, 2, 0], []
    rnn = model.decoder

    class Spy:
        attends = False

        def __call__(self, inputs, *args, **options):
            seen.append(inputs.copy())
            return rnn(inputs, *args, **options)

    model.decoder = Spy()
    model(x, 4, lengths=ends)
    np.testing.assert_array_equal(seen[0][0], [x[4, 0], x[1, 1], [0, 0]])


def test_sampling_goes_from_one_share_to_the_other():
    model = make(sampling=fr.models.ScheduledSampling("linear", k=4))
    run, data, shares = fr.value_and_grad(model.loss, model), batch(ragged=False), []
    forward = model.forward

    def spy(*args, own, **options):
        shares.append(own[1:].mean())
        return forward(*args, own=own, **options)

    model.forward = spy
    for seed in range(6):
        run(data, seed=seed)
    assert shares[0] == 0 and shares[4] == shares[5] == 1 and 0 < sum(shares[1:4]) < 3
    with_seed = [run(data, seed=7)[0] for _ in range(2)]
    assert with_seed[0] == with_seed[1]


def test_validation_is_free_running():
    model = make(sampling=0.0)
    data = batch(ragged=False)
    expected = np.square(model(data.x, 6) - data.target).mean()
    assert float(model.loss(data, train=False)) == pytest.approx(expected, rel=1e-12)
    assert float(fr.value_and_grad(model.loss, model)(data)[0]) != pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    "options", [{"sampling": 1.0}, {"attention": "general", "sampling": fr.models.ScheduledSampling("linear", k=60)}]
)
def test_it_learns_from_ragged_series_with_covariates(options, tmp_path):
    rng = np.random.default_rng(0)
    x, y, known = [], [], []
    for _ in range(80):
        phase, n, m = rng.uniform(0, 6), rng.integers(8, 16), rng.integers(3, 9)
        t, gain = phase + np.arange(n + m) / 2, rng.integers(0, 2, (m, 1)).astype(np.float32)
        x.append(np.sin(t[:n, None]).astype(np.float32))
        y.append((gain[:, 0] * np.sin(t[n:])).astype(np.float32))  # [H_i]: one value a step
        known.append(gain)
    model = fr.models.Seq2SeqRegressor(1, 1, 16, covariate_size=1, start="last", seed=1, **options)
    model.fit(x, y, known, epochs=60, lr=0.01, validation=(x[:9], y[:9], known[:9]), clip_norm=1.0)
    assert model.history_.validations[-1]["loss"] < 0.05
    assert model.score(x, y, known) > 0.9
    again = same_after_files(model, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.predict(x, covariates=known), model.predict(x, covariates=known))
    assert model.predict(x[:5], 4, [k[:1].repeat(4, 0) for k in known[:5]], batch_size=2).shape == (5, 4, 1)


def test_numbers_of_any_type():
    """Those of the data need not be those of the model, as long as they are numbers."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 5, 2)), rng.integers(-3, 4, (6, 4, 1))

    class Frame:  # what pandas and others offer
        def __init__(self, values):
            self.values = values

        def __array__(self, dtype=None, copy=None):
            return np.asarray(self.values, dtype)

    models = [fr.models.Seq2SeqRegressor(2, 1, 4, seed=0) for _ in range(4)]
    models[0].fit(x.astype(np.float32), y.astype(np.float32), epochs=2)
    models[1].fit(x, y, epochs=2)
    models[2].fit(x.tolist(), y[..., 0].tolist(), epochs=2)
    models[3].fit([Frame(one) for one in x], [Frame(one[:, 0]) for one in y], epochs=2)
    for model in models[1:]:
        np.testing.assert_array_equal(model.predict(x, 3), models[0].predict(x.astype(np.float32), 3))
        assert model.predict(x, 3).dtype == np.float32


def test_score_of_constant_series():
    """As scikit-learn has it: nothing to explain, so 1 where all is right and 0 where it isn't."""
    model, x = make(), np.zeros((3, 4, 2))
    assert model.score(x, np.ones((3, 5, 2))) == 0
    for array in model.params.values():
        array[...] = 0
    assert model.score(x, np.zeros((3, 5, 2))) == 1


def test_bad_arguments_are_named():
    x, y = np.zeros((4, 5, 2)), np.zeros((4, 6, 2))
    for options, text in (
        ({"sampling": 1.5}, "sampling: expected 0 ≤ sampling ≤ 1, got 1.5"),
        ({"sampling": (0, 1)}, "sampling: expected a number"),
        ({"cell": "elman"}, "cell: expected"),
        ({"attention": "loud"}, "attention: expected"),
        ({"start": "last", "inputs": 1}, "start: 'last' needs output_size up to input_size=1, got 2"),
        ({"covariate_size": -1}, "covariate_size: expected an integer of at least 0"),
        ({"start": "first"}, "start: expected"),
    ):
        with pytest.raises((ValueError, TypeError), match=text):
            make(**options)
    model, known = make(), make(covariate_size=1)
    bad = np.zeros((6, 3, 2))
    bad[2, 1] = np.nan
    for call, text in (
        (lambda: model.predict(x), "horizon: expected"),
        (lambda: model.predict(x[..., :1], 3), r"x: expected series \[T, 2\] \(input_size=2\)"),
        (lambda: model.predict([], 3), "x: expected at least one series"),
        (lambda: model.predict(x, 3, np.zeros((4, 3, 1))), "covariates: expected None"),
        (lambda: known.predict(x, 7, np.zeros((4, 3, 1))), "covariates: expected at least horizon=7 steps"),
        (lambda: known(x.swapaxes(0, 1), 3), "covariates: expected .*covariate_size=1"),
        (lambda: model.fit(x, y[:3]), "y: expected 4, that of x, got 3"),
        (lambda: model.fit(x, [*y[:3], bad[:, 1]]), "y: expected numbers, got NaN at step 2 of series 3"),
        (lambda: known.fit(x[:3], y[:3], bad[:, :, :1].swapaxes(0, 1)), "covariates: expected numbers, got NaN"),
        (lambda: model.fit(x, y, validation=x), r"validation: expected \(x, y\) or \(x, y, covariates\), got an array"),
        (lambda: model.fit([["a", "b"]], y[:1]), "x: expected numbers, got <U1"),
        (lambda: model.fit(x.astype(complex), y), "x: expected numbers, got complex128"),
        (lambda: model.loss((x,)), r"batch: expected \(x, target, .* got a tuple of length 1"),
        (lambda: model.loss((np.zeros((5, 3, 2)), y[:, :3], None, [1])), r"weight: expected \[3\], one for"),
        (lambda: model.fit(x, y, validation=(x, y[..., :1])), r"validation: y: expected series \[T, 2\]"),
        (lambda: known.fit(x, y, y[:, :, :1][:, :5]), "covariates, steps at 0: expected 6, that of y, got 5"),
        (lambda: model.loss((np.zeros((5, 3, 2)), bad)), "target: expected NaN only past .* at step 2 of row 1"),
        (lambda: model(np.zeros((5, 3, 2)), 3, own=[False] * 3), "own: expected None without target"),
        (lambda: model(np.zeros((5, 3, 2)), 3, target=np.zeros((4, 3, 2))), "horizon: expected 4, the steps of target"),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=text):
            call()
