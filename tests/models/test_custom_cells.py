"""Every model of a variant, of a scan, and of a user's cell that is a built-in one."""

import numpy as np
import pytest

import fastrnn as fr
from tests.jit.cells import CELLS

SCANS = ["sru", "mingru", "minlstm", "indrnn"]
SIZES = {"embedding_dim": 6, "hidden_size": 8, "dtype": np.float64, "seed": 0}
SERIES = np.random.default_rng(0).standard_normal((5, 3, 2))
TARGET = np.random.default_rng(1).standard_normal((4, 3, 1))
TOKENS = np.random.default_rng(2).integers(0, 9, (6, 3))
TURNS = [[[5, 6], [7], [8, 5]], [[6], [7, 8]]]


def seq2seq(attention="general", **given):
    return lambda cell, **more: fr.models.Seq2Seq(12, 12, cell, attention=attention, **SIZES, **given, **more)


def pairs(model):
    source, target = (np.array([[2, 3, 4], [5, 6, 4]]), np.array([[4, 3, 7], [2, 5, 2]]))
    return source, target, None, None


MODELS = {
    "language model": (lambda cell, **more: fr.models.LanguageModel(9, cell, **SIZES, **more), None),
    "masked": (lambda cell, **more: fr.models.MaskedLanguageModel(9, cell, **SIZES, **more), (TOKENS, None)),
    "classifier": (
        lambda cell, **more: fr.models.SequenceClassifier(2, 3, 8, cell=cell, dtype=np.float64, seed=0, **more),
        (SERIES, np.array([0, 1, 2])),
    ),
    "regressor": (
        lambda cell, **more: fr.models.SequenceRegressor(2, None, 8, cell=cell, dtype=np.float64, seed=0, **more),
        (SERIES, np.array([0.0, 1.0, 2.0])),
    ),
    "sequence vae": (
        lambda cell, **more: fr.models.SequenceVAE(9, 4, cell, annealing=0, **SIZES, **more),
        (TOKENS, None),
    ),
    "hred": (lambda cell, **more: fr.models.HRED(9, cell, context_size=7, **SIZES, **more), TURNS),
    "vhred": (
        lambda cell, **more: fr.models.VHRED(9, cell, context_size=7, latent_size=3, annealing=0, **SIZES, **more),
        TURNS,
    ),
    "seq2seq": (seq2seq(bidirectional=True), pairs),
    "seq2seq without attention": (seq2seq(None), pairs),
    "seq2seq peeky": (seq2seq(None, peeky=True, bridge="linear"), pairs),
    "forecast": (
        lambda cell, **more: fr.models.Seq2SeqRegressor(2, 1, 8, cell=cell, dtype=np.float64, seed=0, **more),
        (SERIES, TARGET),
    ),
    "forecast with attention": (
        lambda cell, **more: fr.models.Seq2SeqRegressor(
            2, 1, 8, cell=cell, attention="general", bidirectional=True, dtype=np.float64, seed=0, **more
        ),
        (SERIES, TARGET),
    ),
}
STEPWISE = [name for name in MODELS if name.startswith(("seq2seq", "forecast"))]


def gradients(model, batch):
    """(loss, gradients)"""
    if batch is None:  # a language model takes no loss of its own
        logits, pullback = (found := model.vjp(TOKENS))[0][0], found[1]
        dlogits = np.sin(np.arange(logits.size, dtype=np.float64)).reshape(logits.shape)
        model.zero_grads()
        pullback(dlogits)
        return float((logits * dlogits).sum()), {name: value.copy() for name, value in model.grads.items()}
    batch = batch(model) if callable(batch) else batch
    run = fr.value_and_grad(lambda model: model.loss(batch, seed=3), model)
    loss, found = run(seed=5)
    return loss, {name: value.copy() for name, value in found.items()}


def measured(model, batch):
    """The loss without training: no annealing goes on."""
    if batch is None:
        return gradients(model, batch)[0]
    return float(np.asarray(model.loss(batch(model) if callable(batch) else batch, seed=3, train=False)))


def check_learns(model, batch):
    loss, found = gradients(model, batch)
    assert np.isfinite(loss) and all(np.isfinite(value).all() for value in found.values())
    assert all(value.any() for name, value in found.items() if "weight_hh" in name)
    square = sum(float((value**2).sum()) for value in found.values())
    step = 1e-6 / square**0.5  # along the gradient a loss falls by its length
    for name, value in found.items():
        model.params[name][...] -= step * value
    below = gradients(model, batch)[0]
    for name, value in found.items():
        model.params[name][...] += 2 * step * value
    above = gradients(model, batch)[0]
    assert (above - below) / (2 * step) == pytest.approx(square, rel=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_variants(name, tmp_path):
    make, batch = MODELS[name]
    model = make("lstm", cell_options={"layer_norm": True, "peephole": True})
    check_learns(model, batch)
    fr.save(model, tmp_path / "model.safetensors")
    again = fr.load(tmp_path / "model.safetensors")
    assert measured(again, batch) == measured(model, batch)


@pytest.mark.parametrize("cell", SCANS)
@pytest.mark.parametrize("name", [name for name in MODELS if name not in STEPWISE])
def test_scans(name, cell):
    make, batch = MODELS[name]
    model = make(cell)
    loss, found = gradients(model, batch)
    assert np.isfinite(loss)
    assert all(np.isfinite(value).all() for value in found.values())
    assert any(value.any() for key, value in found.items() if "rnn" in key or "encoder" in key)


@pytest.mark.parametrize("name", STEPWISE)
def test_decoders_refuse_scans(name):
    with pytest.raises(ValueError, match=r"cell: expected one of lstm, gru, rnn, .* goes step by step; got 'mingru'"):
        MODELS[name][0]("mingru")


@pytest.mark.parametrize("name", MODELS)
def test_own_gru_is_the_built_in_one(name, tmp_path):
    pytest.importorskip("numba")
    make, batch = MODELS[name]
    ours, theirs = make("gru"), make(CELLS["gru"])
    theirs.load_state_dict(ours.state_dict())
    (loss, found), (expected, wanted) = gradients(theirs, batch), gradients(ours, batch)
    assert loss == pytest.approx(expected, rel=1e-10)
    assert list(found) == list(wanted)
    for key in found:
        np.testing.assert_allclose(found[key], wanted[key], rtol=1e-9, atol=1e-10, err_msg=key)
    fr.save(theirs, tmp_path / "model.safetensors")
    assert measured(fr.load(tmp_path / "model.safetensors"), batch) == measured(theirs, batch)


@pytest.mark.parametrize("attention", ["general", "additive", None])
def test_translations_of_an_own_gru(attention):
    pytest.importorskip("numba")
    ours, theirs = (seq2seq(attention)(cell) for cell in ("gru", CELLS["gru"]))
    theirs.load_state_dict(ours.state_dict())
    texts = [[2, 3, 4], [5], [6, 7, 8, 9]]
    for use in ("translate", "greedy"):
        found, wanted = (
            getattr(model, use)(texts, max_length=6, **({"n_best": 3} if use == "translate" else {}))
            for model in (theirs, ours)
        )
        for a, b in zip(found, wanted, strict=True):
            if use == "greedy":
                np.testing.assert_array_equal(a, b)
                continue
            for one, other in zip(a, b, strict=True):
                np.testing.assert_array_equal(one.text, other.text)
                assert one.score == pytest.approx(other.score, rel=1e-10)


@pytest.mark.parametrize("encoder", ["sru", "qrnn", "lru", "gru"])
@pytest.mark.parametrize("bridge", [None, "linear"])
def test_another_encoder(encoder, bridge, tmp_path):
    model = seq2seq(encoder_cell=encoder, bridge=bridge)("lstm")
    check = gradients(model, pairs)
    assert any(value.any() for name, value in check[1].items() if name.startswith("encoder.to_c"))
    assert len(model.translate([[2, 3]], max_length=4)) == 1
    fr.save(model, tmp_path / "model.safetensors")
    assert gradients(fr.load(tmp_path / "model.safetensors"), pairs)[0] == check[0]


def test_masks_in_training():
    model = seq2seq()("lstm", cell_options={"zoneout": 0.3, "recurrent_dropout": 0.2})
    run = fr.value_and_grad(lambda model: model.loss(pairs(model), seed=3), model)
    assert run(seed=1)[0] == run(seed=1)[0] != run(seed=2)[0]
    assert model.translate([[2, 3]], max_length=4) is not None
