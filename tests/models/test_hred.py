"""HRED: gradients, raggedness on two levels, learning, replies, files, batches of dialogues."""

import itertools

import numpy as np
import pytest

import fastrnn as fr
from fastrnn.models._dialogue import place_rows, places, take_rows
from tests.models.helpers import check_loss, same_after_files

NAMES = ["ann", "bob", "cleo", "dan"]
DIALOGUES = [[f"i am {name}", "hello", *talk, "who am i ?", name]
             for name in NAMES for talk in ([], ["how are you ?", "fine"])]  # fmt: skip


def small(vocabulary=9, cell="gru", **options):
    sizes = {"embedding_dim": 3, "hidden_size": 4, "context_size": 5, "seed": 0}
    return fr.models.HRED(vocabulary, cell, **{**sizes, "dtype": np.float64, **options})


def ragged():
    """Five dialogues: one of one utterance, one of none, some utterances of no words."""
    rng = np.random.default_rng(0)
    return [[rng.integers(4, 9, rng.integers(0, 5)) for _ in range(turns)] for turns in (3, 1, 4, 2, 0)]


@pytest.mark.parametrize(
    "cell, options, weight",
    [
        ("gru", {"peeky": False}, None),
        ("gru", {}, [1, 2, 0.5, 0, 1, 1]),
        ("rnn", {}, None),
        ("lstm", {"bidirectional": True, "num_layers": 2, "dropout": 0.3}, None),
    ],
)
def test_gradients_by_finite_differences(cell, options, weight):
    model = small(cell=cell, **options)
    for name, array in model.params.items():  # so that gradients from far stand out from rounding
        array *= 3 if name.startswith(("encoder", "context", "to_")) and "bias" not in name else 1
    check_loss(model, fr.Batch(fr.Dialogues.from_lists(ragged()), None, None, weight), most=12)


def test_the_loss_is_that_of_each_utterance_alone():
    """Word by word with layers of one sequence each: no batch, no padding, no other dialogue."""
    model, nats, tokens = small(cell="lstm", bidirectional=True), 0.0, 0
    for dialogue in ragged():
        context_state = None
        for before, after in itertools.pairwise(dialogue):
            h = np.zeros(8)
            if len(before):
                _, (h, _) = model.encoder(model.embedding(before)[:, None])
            y, context_state = model.context_rnn(np.reshape(h, (1, 1, 8)), context_state)
            thought = y[-1]
            h_0, c_0 = model.to_state(thought).reshape(2, 1, 1, 4)
            x = model.embedding([1, *after])[:, None]
            x = np.concatenate([x, np.repeat(thought[None], len(x), 0)], -1)
            out, _ = model.decoder(x, (np.tanh(h_0), c_0))
            log_p = fr.ops.log_softmax(model.output(out)[:, 0])
            nats -= log_p[np.arange(len(after) + 1), [*after, 2]].sum()
            tokens += len(after) + 1
    assert model.loss(fr.Batch(fr.Dialogues.from_lists(ragged()))) == pytest.approx(nats / tokens, rel=1e-12)
    assert model.perplexity(ragged()) == pytest.approx(np.exp(nats / tokens), rel=1e-12)
    several = [dialogue for dialogue in ragged() if len(dialogue) > 1]
    assert model.perplexity(several, batch_size=1) == pytest.approx(np.exp(nats / tokens), rel=1e-12)


def test_padding_is_not_read():
    model, x = small(), fr.Dialogues.from_lists(ragged())
    spoiled = x.tokens.copy()
    for column, length in enumerate(x.lengths):
        spoiled[length:, column] = -100
    spoiled = fr.Dialogues(np.concatenate([spoiled, np.full((3, 10), 99)]), x.lengths, x.turns)
    run = fr.value_and_grad(model.loss, model)
    loss, grads = run(fr.Batch(x))
    grads = {name: grad.copy() for name, grad in grads.items()}
    again, others = run(fr.Batch(spoiled))
    assert loss == again
    for name, grad in grads.items():
        np.testing.assert_array_equal(grad, others[name])


def test_what_stands_beside_a_dialogue_does_not_matter():
    model, dialogues = small(), ragged()
    together = model.context(dialogues)
    for row, dialogue in enumerate(dialogues):
        np.testing.assert_array_equal(model.context([dialogue])[0], together[row])
    assert not together[4].any()
    texts = model.reply(dialogues, max_length=8)
    assert all(
        np.array_equal(text, model.reply([d], max_length=8)[0]) for d, text in zip(dialogues, texts, strict=True)
    )


def test_the_call_gives_the_logits_of_the_loss():
    model, x = small(dropout=0.4), fr.Dialogues.from_lists(ragged())
    logits = model(x)
    ends = x.lengths[places(x.turns, last=False).answered] + 1
    target = np.full(logits.shape[:2], 2)
    column = 0
    for dialogue in ragged():
        for after in dialogue[1:]:
            target[: len(after), column] = after
            column += 1
    loss, dlogits = fr.losses.cross_entropy(logits, target, lengths=ends)
    assert loss == pytest.approx(model.loss(fr.Batch(x), train=False), rel=1e-12)
    plain, pullback = model.vjp(x, dropout=False)
    np.testing.assert_array_equal(plain, logits)
    pullback(dlogits)
    by_hand = {name: grad.copy() for name, grad in model.grads.items()}
    _, grads = fr.value_and_grad(model.loss, model)(fr.Batch(x), dropout=False)
    for name, grad in grads.items():
        np.testing.assert_allclose(grad, by_hand[name], atol=1e-14)


def test_rows_go_where_they_belong():
    where = places(np.array([3, 1, 0, 2]), last=False)
    assert where.asked.tolist() == [0, 1, 4] and where.answered.tolist() == [1, 2, 5]
    assert where.slots.tolist() == [0, 4, 3] and where.steps.tolist() == [2, 0, 0, 1]
    where = places(np.array([3, 1, 0, 2]), last=True)
    assert where.slots.tolist() == [0, 4, 8, 1, 3, 7]
    x = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(take_rows(place_rows(x, np.array([3, 0, 4]), 5), np.array([3, 0, 4])), x)


@pytest.fixture(scope="module")
def learned():
    vocabulary = fr.text.Vocabulary.from_texts(text for dialogue in DIALOGUES for text in dialogue)
    model = fr.models.HRED(vocabulary, embedding_dim=16, hidden_size=64, context_size=64, seed=0)
    data = fr.DialogueBatches(DIALOGUES, batch_size=8, vocabulary=vocabulary)
    fr.fit(model, data, None, fr.optim.Adam(model, lr=0.005), epochs=500, clip_norm=1.0, progress=False)
    return model


def test_it_remembers_what_was_said(learned, tmp_path):
    asked, names = [d[:-1] for d in DIALOGUES], [d[-1] for d in DIALOGUES]
    assert learned.reply(asked) == names
    assert learned.reply(asked, beam_size=3) == names
    assert learned.reply(asked, temperature=0.1, seed=0) == names
    assert learned.reply([d[:1] for d in DIALOGUES]) == ["hello"] * 8
    ten = learned.reply(asked[:2], beam_size=10, num_samples=10)
    assert [len(group) for group in ten] == [10, 10] and [group[0] for group in ten] == names[:2]
    assert 1 < learned.perplexity(DIALOGUES) < 1.6  # after "hello" there are two ways on
    again = same_after_files(learned, tmp_path / "m.safetensors")
    assert again.vocabulary == learned.vocabulary and again.reply(asked) == names


def test_draws_are_reproducible(learned):
    before = [["i am ann", "hello"]]
    draw = {"temperature": 2.0, "num_samples": 20}
    first = learned.reply(before, seed=1, **draw)
    assert first == learned.reply(before, seed=1, **draw) != learned.reply(before, seed=2, **draw)
    assert len(set(first[0])) > 2
    assert {"<unk>", "<pad>", "<bos>"}.isdisjoint(" ".join(first[0]).split())
    assert learned.reply(before, temperature=2.0, top_k=1, seed=5) == learned.reply(before)
    banned = learned.vocabulary.encode("who how")
    assert all(text[:3] not in ("who", "how") for text in learned.reply(before, banned=banned, seed=1, **draw)[0])
    assert learned.reply([]) == []


def test_other_vocabularies(tmp_path):
    model = small(fr.text.CharVocabulary.from_text("abc?"))
    assert model.vocab_size == 8
    before = [["ab", "c"], ["?"]]
    texts = model.reply(before, max_length=4)
    assert same_after_files(model, tmp_path / "m.safetensors").reply(before, max_length=4) == texts
    assert all(isinstance(text, str) for text in texts)
    numbers = small().reply([[[5, 6], [7]], [[8]]], max_length=4)
    assert [n.dtype for n in numbers] == [np.int64] * 2 and len(numbers[0]) <= 4
    same_after_files(small(), tmp_path / "n.safetensors")


def test_a_resumed_run_is_the_run(tmp_path):
    def run(epochs, **options):
        model = small(dropout=0.2, dtype=np.float32)
        data = fr.DialogueBatches([d for d in ragged() if len(d) > 1] * 5, batch_size=4)
        return model, fr.fit(model, data, epochs=epochs, validation=data, progress=False, **options)

    model, history = run(8)
    run(3, checkpoint=tmp_path / "run")
    again, resumed = run(8, checkpoint=tmp_path / "run", resume=True)
    assert history.steps["loss"] == resumed.steps["loss"]
    for name, array in model.params.items():
        np.testing.assert_array_equal(array, again.params[name])


# ---- batches


def test_batches_hold_each_dialogue_once():
    dialogues = [[[4 + k], [5] * (k + 1)] for k in range(10)]
    data = fr.DialogueBatches(dialogues, batch_size=3, seed=1)
    assert len(data) == 4
    epochs = [[batch.x.tokens[0, ::2].tolist() for batch in data] for _ in range(2)]
    for epoch in epochs:
        assert sorted(itertools.chain(*epoch)) == list(range(4, 14))
        assert all(max(batch) - min(batch) <= 2 for batch in epoch)  # of similar length
    assert epochs[0] != epochs[1]
    assert len(fr.DialogueBatches(dialogues, batch_size=3, drop_last=True)) == 3
    batches = iter(data)
    next(batches)
    state, rest = data.state_dict(), [batch.x.tokens.tolist() for batch in batches]
    again = fr.DialogueBatches(dialogues, batch_size=3, seed=9)
    again.load_state_dict(state)
    assert [batch.x.tokens.tolist() for batch in again] == rest


def test_weights_choose_who_is_learned():
    weight = [[0, 1], 0.5]
    data = fr.DialogueBatches(
        [[[5], [6], [7]], [[8], [5], [4, 4]]], batch_size=2, shuffle=False, bucket=False, weight=weight
    )
    (batch,) = data
    assert batch.weight.tolist() == [0, 1, 0.5, 0.5] and batch.lengths.tolist() == [2, 2, 2, 3]
    model = small()
    alone = [model.loss(fr.Batch(fr.Dialogues.from_lists(d))) * n
             for d, n in (([[[5], [6], [7]]], 4), ([[[5], [6]]], 2), ([[[8], [5], [4, 4]]], 5))]  # fmt: skip
    expected = (alone[0] - alone[1] + 0.5 * alone[2]) / (2 + 0.5 * 5)
    assert model.loss(batch) == pytest.approx(expected, rel=1e-12)


def test_some_dialogues():
    lists = [[[5, 6], [7]], [[8]], [], [[5], [], [6, 7, 8]]]
    every = fr.Dialogues.from_lists(lists)
    cases = (([3, 0], [3, 0]), (slice(1, None), [1, 2, 3]), (2, [2]), (np.array([0, 1, 0, 1], bool), [1, 3]), ([], []))
    for index, rows in cases:
        expected, found = fr.Dialogues.from_lists([lists[row] for row in rows]), every[index]
        for name in ("tokens", "lengths", "turns"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_perplexity_of_dialogues_without_an_answer():
    """They don't count, wherever the batches begin."""
    model, lists = small(), [[[5]], [[5, 6], [7]], [], [[8], [5], [6, 7]]]
    expected = model.perplexity([lists[1], lists[3]])
    for size in (1, 2, 9):
        assert model.perplexity(lists, batch_size=size) == pytest.approx(expected, rel=1e-6)
    assert model.perplexity(fr.Dialogues.from_lists(lists)) == pytest.approx(expected, rel=1e-6)
    assert model.perplexity(iter(lists)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "use, error, message",
    [
        (lambda m: small(cell="tcn"), ValueError, "cell: expected one of lstm, gru, rnn, .*, got 'tcn'"),
        (lambda m: small(4), ValueError, "vocabulary: expected at least 5 tokens"),
        (lambda m: small("abc"), TypeError, "vocabulary: expected a number of tokens or a CharVocabulary"),
        (lambda m: small(context_size=0), ValueError, "context_size: expected a positive integer, got 0"),
        (lambda m: small(peeky=3), TypeError, "peeky: expected True or False, got 3"),
        (lambda m: m.reply("hello"), TypeError, "dialogues: expected a list of dialogues, .* got str"),
        (lambda m: m.reply(["hello"]), TypeError, "dialogues: expected .*, got str for a dialogue"),
        (lambda m: m.reply([["hello"]]), TypeError, "dialogues: .* of integers, got text; texts need a vocabulary"),
        (lambda m: m.reply([[5, 6]]), TypeError, "dialogues: expected .*, got int for an utterance"),
        (lambda m: m.reply([[[0.5]]]), TypeError, "dialogues: expected integers, got float64"),
        (lambda m: m.reply([[[[5]]]]), ValueError, r"dialogues: .* \[T\], got one of shape \(1, 1\)"),
        (lambda m: m.reply([[[9]]]), ValueError, r"dialogues: expected integers from 0 to 8 .*, got 9"),
        (lambda m: m([[[5]]]), ValueError, "dialogues: expected one of two utterances or more"),
        (lambda m: m.reply([[[5]]], num_samples=0), ValueError, "num_samples: expected a positive integer, got 0"),
        (lambda m: m.reply([[[5]]], temperature=-1), ValueError, "temperature: expected a finite number >= 0, got -1"),
        (lambda m: m.reply([[[5]]], top_k=0), ValueError, "top_k: expected >= 1, got 0"),
        (lambda m: m.reply([[[5]]], top_p=2), ValueError, "top_p: expected a probability"),
        (lambda m: m.reply([[[5]]], length_penalty="x"), TypeError, "length_penalty: expected a number, got 'x'"),
        (lambda m: m.reply([[[5]]], banned=5), TypeError, "banned: expected integers, got int"),
        (lambda m: small(bidirectional="x"), TypeError, "bidirectional: expected True or False, got 'x'"),
        (lambda m: small(fr.text.Vocabulary([])), ValueError, "vocabulary: expected at least 5 tokens, .* got 4"),
        (lambda m: m.perplexity([]), ValueError, "dialogues: expected one of two utterances or more"),
        (lambda m: m.perplexity(None), TypeError, "dialogues: expected a list of dialogues, .* got NoneType"),
        (
            lambda m: fr.DialogueBatches([[[5], [6]]], batch_size=1, vocabulary=5),
            TypeError,
            "vocabulary: expected a vocabulary, or anything with `encode`, got int",
        ),
        (
            lambda m: fr.DialogueBatches([[[5], [6]]], batch_size=1, weight=5),
            TypeError,
            "weight: expected 1, one for each dialogue, got int",
        ),
        (
            lambda m: fr.DialogueBatches([[[5], [6]]], batch_size=1, seed="x"),
            TypeError,
            "seed: expected None, an int",
        ),
        (lambda m: m.reply([[[5]]], beam_size=3, top_k=2), ValueError, "beam_size: a beam draws nothing"),
        (
            lambda m: m.reply([[[5]]], beam_size=3, num_samples=5),
            ValueError,
            "num_samples: expected at most beam_size=3",
        ),
        (lambda m: m.reply([[[5]]], max_length=0), ValueError, "max_length: expected a positive integer, got 0"),
        (lambda m: m.loss(fr.Batch([[[5], [6]]], None, None, [1, 2])), ValueError, "weight: expected a shape that"),
        (lambda m: fr.DialogueBatches([], batch_size=2), ValueError, "dialogues: expected at least one"),
        (
            lambda m: fr.DialogueBatches([[[5]]], batch_size=2),
            ValueError,
            "expected two utterances or more, got 1 at 0",
        ),
        (
            lambda m: fr.DialogueBatches([[[5], [6]]], batch_size=0),
            ValueError,
            "batch_size: expected a positive integer",
        ),
        (
            lambda m: fr.DialogueBatches([[[5], [6]]], batch_size=2, weight=[[1, 2]]),
            ValueError,
            r"weight: expected a number or 1 of them, one for each utterance but the first, got shape \(2,\) at 0",
        ),
        (
            lambda m: fr.DialogueBatches([[[5], [6]]], batch_size=2, weight=[]),
            ValueError,
            "weight: expected 1, one for",
        ),
        (
            lambda m: fr.Dialogues([[5, 6]], [1, 1], [3]),
            ValueError,
            r"turns: expected integers \[B\] ≥ 0 that sum to N=2",
        ),
        (lambda m: fr.Dialogues([5, 6], [1, 1], [2]), ValueError, r"tokens: expected \[T, N\] with T ≥ 1"),
        (lambda m: fr.Dialogues([[5, 6]], [1, 2], [2]), ValueError, "lengths: expected integers from 0 to T=1, got 2"),
    ],
)
def test_bad_arguments_are_named(use, error, message):
    with pytest.raises(error, match=message):
        use(small())
