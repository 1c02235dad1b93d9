"""VHRED: gradients, the bound, the closed form of its KL term, variety of replies, files."""

import numpy as np
import pytest

import fastrnn as fr
from fastrnn.models import _parts
from fastrnn.models.vhred import kl_between
from tests.models.helpers import check_loss, same_after_files
from tests.models.test_hred import ragged

REPLIES = ["good day", "hello", "how are you", "nice to see you"]


def small(vocabulary=9, cell="gru", **options):
    sizes = {"embedding_dim": 3, "hidden_size": 4, "context_size": 5, "latent_size": 2, "annealing": 0, "seed": 0}
    return fr.models.VHRED(vocabulary, cell, **{**sizes, "dtype": np.float64, "word_dropout": 0.0, **options})


def batch(weight=None):
    return fr.Batch(fr.Dialogues.from_lists(ragged()), None, None, weight)


@pytest.mark.parametrize(
    "cell, options, weight",
    [
        ("gru", {"peeky": False}, None),
        ("gru", {"word_dropout": 0.4}, [1, 2, 0.5, 0, 1, 1]),
        ("rnn", {}, None),
        ("lstm", {"bidirectional": True, "num_layers": 2, "dropout": 0.3, "latent_hidden": 3}, None),
    ],
)
def test_gradients_by_finite_differences(cell, options, weight):
    model = small(cell=cell, **options)
    for name, array in model.params.items():  # so that gradients from far stand out from rounding
        array *= 3 if name.startswith(("encoder", "context", "to_", "prior", "posterior")) and "bias" not in name else 1
    check_loss(model, batch(weight), skip=["kl_weight.step"], most=12)


def test_kl_is_that_of_the_densities():
    """Against the mean of log q(z) − log p(z) by Gauss-Hermite quadrature, value by value."""
    rng = np.random.default_rng(0)
    mean, log_var, prior_mean, prior_log_var = rng.standard_normal((4, 3, 2))
    share = np.array([0.2, 0.5, 0.3])
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    z = mean[..., None] + np.exp(log_var / 2)[..., None] * nodes

    def log_density(z, mean, log_var):
        return -0.5 * (np.log(2 * np.pi) + log_var[..., None] + (z - mean[..., None]) ** 2 / np.exp(log_var)[..., None])

    gap = log_density(z, mean, log_var) - log_density(z, prior_mean, prior_log_var)
    each = (gap * weights / weights.sum()).sum(-1).sum(-1)
    found = kl_between(mean, log_var, prior_mean, prior_log_var, share)
    assert found == pytest.approx(each @ share, rel=1e-12)
    assert kl_between(mean, log_var, mean, log_var, share) == 0
    standard = kl_between(mean, log_var, 0 * mean, 0 * mean, share)
    assert standard == pytest.approx(_parts.kl_to_standard(mean, log_var, share), rel=1e-12)


def test_the_loss_is_the_bound_per_token():
    model, tokens = small(), sum(len(u) + 1 for dialogue in ragged() for u in dialogue[1:])
    bound = model.elbo(ragged(), samples=3)
    assert bound.elbo == pytest.approx(-bound.reconstruction - bound.kl) and bound.kl > 0
    assert model.loss(batch(), seed=3, train=False) == model.loss(batch(), seed=3, train=False)
    one = model.elbo(ragged())
    x, where = model._answers(ragged())
    nats, kl = model._terms(x, where, None, [*fr.nn._random.split(0, 1), None])
    assert (nats + kl) * tokens == pytest.approx(-one.elbo * 6, rel=1e-12)
    nats, kl = model._terms(x, where, None, _parts.noise_seeds(None, False, 2))
    assert model.loss(batch(), train=False) == pytest.approx(nats + kl, rel=1e-12)
    assert model.perplexity(ragged()) == pytest.approx(np.exp(nats + kl), rel=1e-12)


def test_without_noise_the_loss_is_that_of_the_call():
    model, x = small(), fr.Dialogues.from_lists(ragged())
    last = model.posterior.params
    last["2.weight"][2:], last["2.bias"][2:] = 0, -60  # σ of nothing: z = μ
    ends = np.array([len(u) + 1 for dialogue in ragged() for u in dialogue[1:]])
    logits = model(x)
    target = np.full(logits.shape[:2], 2)
    for column, after in enumerate(u for dialogue in ragged() for u in dialogue[1:]):
        target[: len(after), column] = after
    nats, _ = model._terms(*model._answers(x), None, [0, None])
    assert fr.losses.cross_entropy(logits, target, lengths=ends)[0] == pytest.approx(nats, rel=1e-9)


def test_padding_and_other_dialogues_are_not_read():
    model, x = small(), fr.Dialogues.from_lists(ragged())
    spoiled = np.where(np.arange(len(x.tokens))[:, None] < x.lengths, x.tokens, -100)
    assert model.loss((fr.Dialogues(spoiled, x.lengths, x.turns),), seed=1) == model.loss((x,), seed=1)
    contexts, _, (mean, log_var) = model._latents(*model._answers(ragged()))
    row = 0
    for dialogue in ragged():
        if len(dialogue) > 1:
            alone = model._latents(*model._answers([dialogue]))
            for part, whole in zip((alone[0], *alone[2]), (contexts, mean, log_var), strict=True):
                np.testing.assert_array_equal(part, whole[row : row + len(part)])
            row += len(dialogue) - 1


def test_annealing_weighs_the_kl_term_and_hidden_words_are_for_training(tmp_path):
    model = small(annealing=4)
    run = fr.value_and_grad(lambda b: model.loss(b, seed=4), model)
    losses = [run(batch(), seed=0)[0] for _ in range(6)]
    x, where = model._answers(ragged())
    nats, kl = model._terms(x, where, None, fr.nn._random.split(4, 2))
    np.testing.assert_allclose(losses, nats + np.array([0, 0.25, 0.5, 0.75, 1, 1]) * kl, rtol=1e-12)
    assert float(same_after_files(model, tmp_path / "m.safetensors").kl_weight()) == 1
    model = small(word_dropout=0.6)
    assert fr.value_and_grad(model.loss, model)(batch(), seed=1)[0] != model.loss(batch(), seed=1)


@pytest.fixture(scope="module")
def learned():
    dialogues = [["hi", reply] for reply in REPLIES] + [["bye", "bye"]]
    vocabulary = fr.text.Vocabulary.from_texts(text for dialogue in dialogues for text in dialogue)
    sizes = {"embedding_dim": 16, "hidden_size": 32, "context_size": 16, "latent_size": 4}
    model = fr.models.VHRED(vocabulary, **sizes, annealing=300, seed=0)
    data = fr.DialogueBatches(dialogues * 4, batch_size=20, vocabulary=vocabulary)
    fr.fit(model, data, None, fr.optim.Adam(model, lr=0.01), epochs=500, progress=False, seed=0)
    return model


def test_each_reply_has_a_latent_vector_of_its_own(learned, tmp_path):
    (replies, only) = learned.reply([["hi"], ["bye"]], num_samples=60, seed=0)
    share = [replies.count(text) / 60 for text in REPLIES]
    assert sum(share) > 0.9 and min(share) > 0.05  # most probable words, yet all four replies
    assert only == ["bye"] * 60
    assert learned.elbo([["hi", text] for text in REPLIES], samples=4).kl > 1  # log 4 = 1.4 would tell them apart
    assert learned.reply([["hi"]], num_samples=60, seed=0) == [replies]
    assert learned.reply([["hi"]], num_samples=60, seed=1) != [replies]
    beams = learned.reply([["hi"]], num_samples=20, beam_size=3, seed=2)[0]
    assert len(set(beams) & set(REPLIES)) > 2
    again = same_after_files(learned, tmp_path / "m.safetensors")
    assert again.reply([["hi"]], num_samples=60, seed=0) == [replies]


def test_a_resumed_run_is_the_run(tmp_path):
    def run(epochs, **options):
        model = small(annealing=30, word_dropout=0.3, dropout=0.2, dtype=np.float32)
        data = fr.DialogueBatches([d for d in ragged() if len(d) > 1] * 5, batch_size=4)
        return model, fr.fit(model, data, epochs=epochs, progress=False, **options)

    model, history = run(8)
    run(3, checkpoint=tmp_path / "run")
    again, resumed = run(8, checkpoint=tmp_path / "run", resume=True)
    assert history.steps["loss"] == resumed.steps["loss"]
    for name, array in model.params.items():
        np.testing.assert_array_equal(array, again.params[name])


@pytest.mark.parametrize(
    "use, error, message",
    [
        (lambda m: small(latent_size=0), ValueError, "latent_size: expected a positive integer, got 0"),
        (lambda m: small(latent_hidden=0), ValueError, "latent_hidden: expected a positive integer, got 0"),
        (lambda m: small(word_dropout=1), ValueError, "word_dropout: expected 0 ≤ word_dropout < 1, got 1"),
        (lambda m: small(annealing=-1), ValueError, "annealing: expected a number of steps ≥ 0, got -1"),
        (lambda m: small(annealing_shape="step"), ValueError, "annealing_shape: expected one of 'linear', 'sigmoid'"),
        (lambda m: m.elbo(ragged(), samples=0), ValueError, "samples: expected a positive integer, got 0"),
        (lambda m: m.elbo([[[5]]]), ValueError, "dialogues: expected one of two utterances or more"),
    ],
)
def test_bad_arguments_are_named(use, error, message):
    with pytest.raises(error, match=message):
        use(small())
