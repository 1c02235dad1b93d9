"""Searches: against every text there is, the reference, and other threads."""

import itertools

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import _core, reference

F32, F64 = np.float32, np.float64
BOS, EOS = 0, 1
ENDS = {"bos": BOS, "eos": EOS}


class Writer:
    """A small decoder, its tokens, and what it reads; `next_log_p` runs it step by step for one sentence."""

    def __init__(self, vocabulary, cell="lstm", attention="general", dtype=F64, layers=1, seed=0, batch=3):
        E, H, S = 5, 7, 6
        rng = np.random.default_rng(seed)
        self.table = fr.Embedding(vocabulary, E, dtype=dtype, seed=seed)
        self.output = fr.Linear(H, vocabulary, dtype=dtype, seed=seed + 1)
        self.output.params["weight"] *= 5  # or no token would be more probable than another
        self.output.params["bias"] *= 2
        self.decoder = fr.nn.AttentionDecoder(
            E, H, H, layers, cell=cell, attention=attention, dtype=dtype, seed=seed + 2
        )
        self.source = rng.standard_normal((S, batch, H)).astype(dtype)
        self.source_lengths = rng.integers(1, S + 1, batch)
        h, c = (rng.standard_normal((layers, batch, H)).astype(dtype) for _ in range(2))
        self.state = (h, c) if cell == "lstm" else h

    @property
    def layers(self):
        return self.decoder, self.table, self.output

    def arguments(self):
        return (*self.layers, self.source, self.state)

    def steps(self, b, tokens):
        """(log p after each of the beginnings of tokens, attention of each)"""
        one = slice(b, b + 1)
        state = tuple(s[:, one] for s in self.state) if isinstance(self.state, tuple) else self.state[:, one]
        x = self.table(np.array([BOS, *tokens]))[:, None]
        y, _, w = self.decoder(x, self.source[:, one], state, source_lengths=self.source_lengths[one], weights=True)
        z = self.output(y)[:, 0].astype(F64)
        z -= z.max(-1, keepdims=True)
        return z - np.log(np.exp(z).sum(-1, keepdims=True)), w[:, 0]

    def next_log_p(self, b):
        def ask(tokens):
            log_p, w = self.steps(b, tokens)
            return log_p[-1], w.sum(0, dtype=F64)[: self.source_lengths[b]]

        return ask

    def every_text(self, b, most, alpha, beta):
        """All texts of up to `most` tokens, the best first."""
        found = []
        V = self.table.num_embeddings
        others = [v for v in range(V) if v != EOS]
        for n in range(most + 1):
            for tokens in itertools.product(others, repeat=n):
                written = [*tokens, EOS] if n < most else [*tokens]
                log_p, w = self.steps(b, written[:-1])
                score = log_p[range(len(written)), written].sum() / ((5 + len(written)) / 6) ** alpha
                if beta:
                    covered = w.sum(0, dtype=F64)[: self.source_lengths[b]]
                    score += beta * np.log(np.minimum(covered, 1)).sum()
                found.append((score, list(tokens)))
        return sorted(found, key=lambda text: -text[0])


def check(texts, b, wanted, tolerance):
    for k, (score, tokens) in enumerate(wanted):
        n = texts.lengths[b, k]
        assert texts.tokens[b, k, :n].tolist() == tokens
        assert (texts.tokens[b, k, n:] == EOS).all()
        assert texts.scores[b, k] == pytest.approx(score, rel=tolerance)


PENALTIES = [(0.0, 0.0), (0.7, 0.0), (0.6, 0.3)]


@pytest.mark.parametrize("isa", _core.isas())
@pytest.mark.parametrize(("alpha", "beta"), PENALTIES)
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_beam_that_holds_everything_finds_the_best(isa, cell, alpha, beta):
    before = _core.isa()
    _core.select_isa(isa)
    try:
        for dtype, tolerance in ((F64, 1e-10), (F32, 2e-5)):
            writer = Writer(4, cell, dtype=dtype, layers=2)
            texts = fr.nn.beam_search(
                *writer.arguments(), source_lengths=writer.source_lengths, **ENDS, max_length=4, beam_size=256,
                n_best=5, length_penalty=alpha, coverage_penalty=beta, weights=True,
            )  # fmt: skip
            for b in range(3):
                wanted = writer.every_text(b, 4, alpha, beta)[:5]
                check(texts, b, wanted, tolerance)
                w = writer.steps(b, wanted[0][1])[1][:4]
                np.testing.assert_allclose(texts.weights[b, 0, : len(w)], w, rtol=1e-5, atol=1e-7)
                assert not texts.weights[b, 0, len(w) :].any()
    finally:
        _core.select_isa(before)


@pytest.mark.parametrize(("alpha", "beta"), PENALTIES)
@pytest.mark.parametrize(("width", "n_best", "least"), [(1, 1, 0), (3, 2, 3), (5, 5, 0)])
@pytest.mark.parametrize("attention", ["general", "additive", "dot"])
def test_beam_search_is_the_references(attention, width, n_best, least, alpha, beta):
    for seed in range(3):
        writer = Writer(700, attention=attention, seed=seed)  # more than one piece of logits
        options = {
            "max_length": 9, "beam_size": width, "n_best": n_best, "min_length": least, "length_penalty": alpha,
            "coverage_penalty": beta,
        }  # fmt: skip
        texts = fr.nn.beam_search(*writer.arguments(), source_lengths=writer.source_lengths, **ENDS, **options)
        for b in range(3):
            check(texts, b, reference.beam_search(writer.next_log_p(b), eos=EOS, **options), 1e-10)


def test_greedy_is_a_beam_of_one_that_ends():
    writer = Writer(40, "gru", seed=3)
    texts = fr.nn.greedy_search(*writer.arguments(), source_lengths=writer.source_lengths, **ENDS, max_length=12)
    for b in range(3):
        tokens, log_p = [], 0.0
        while len(tokens) < 12:
            log_ps = writer.steps(b, tokens)[0][-1]
            best = int(log_ps.argmax())
            log_p += log_ps[best]
            if best == EOS:
                break
            tokens.append(best)
        check(texts, b, [(log_p, tokens)], 1e-10)


LIMITS = [{}, {"top_k": 4}, {"top_p": 0.8}, {"top_k": 6, "top_p": 0.7}, {"temperature": 0.5}, {"temperature": 0.0}]


@pytest.mark.parametrize("limits", LIMITS)
def test_samples_are_the_references(limits):
    writer, seed, count = Writer(500, seed=1), 11, 4
    texts = fr.nn.sample_search(
        *writer.arguments(), source_lengths=writer.source_lengths, **ENDS, max_length=8, num_samples=count, seed=seed,
        **limits,
    )  # fmt: skip
    temperature, further = limits.get("temperature", 1.0), {k: v for k, v in limits.items() if k != "temperature"}
    for b, k in itertools.product(range(3), range(count)):
        tokens, total = [], 0.0
        while len(tokens) < 8:
            log_p = writer.steps(b, tokens)[0][-1]
            u = reference.uniform(seed, (b * count + k) << 32 | len(tokens))
            v = int(log_p.argmax()) if temperature == 0 else reference.draw(log_p, u, temperature, **further)
            total += log_p[v]
            if v == EOS:
                break
            tokens.append(v)
        n = texts.lengths[b, k]
        assert texts.tokens[b, k, :n].tolist() == tokens
        assert texts.scores[b, k] == pytest.approx(total, rel=1e-10)


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize(("limits", "choices"), [({}, 10), ({"top_k": 5}, 5), ({"top_p": 0.9}, 9)])
def test_temperatures_beyond_what_floats_hold(dtype, limits, choices):
    """Nearly 0 is the most probable token; nearly infinite draws all alike, but for those that are banned."""
    writer = Writer(12, dtype=dtype)
    call = {**ENDS, "max_length": 6, "seed": 0, **limits}
    best = fr.nn.greedy_search(*writer.arguments(), **ENDS, max_length=6).tokens[:, 0]
    for temperature in (1e-39, 1e-310, 5e-324):
        cold = fr.nn.sample_search(*writer.arguments(), **call, temperature=temperature).tokens[:, 0]
        np.testing.assert_array_equal(cold, best)
    for temperature in (1e46, 1e300):
        hot = fr.nn.sample_search(
            *writer.arguments(), **call, num_samples=300, temperature=temperature, banned=[3, BOS]
        )
        drawn = np.bincount(hot.tokens[:, :, 0].ravel(), minlength=12)
        assert not drawn[[3, BOS]].any()
        assert (drawn > 0).sum() == choices, drawn


@pytest.mark.parametrize("vocabulary", [3, 6])
def test_samples_that_have_ended_stay_ended(vocabulary):
    """Their places in the reused memory hold what other calls left there."""
    writer, count = Writer(vocabulary, seed=2), 8
    given = {"source_lengths": writer.source_lengths, **ENDS, "num_samples": count, "seed": 3}
    runs = []
    for noise in (1e-3, 1e3, np.nan):
        x = np.full((40, 16, 32), noise)
        for hidden in (4, 16, 64):
            fr.LSTM(32, hidden, dtype=F64, seed=0)(x)
        runs.append(fr.nn.sample_search(*writer.arguments(), max_length=15, **given))
    for other in runs[1:]:
        np.testing.assert_array_equal(runs[0].tokens, other.tokens)
        np.testing.assert_array_equal(runs[0].scores, other.scores)
    assert len(set(runs[0].lengths.ravel())) > 3
    for b, k in itertools.product(range(3), range(count)):
        n = runs[0].lengths[b, k]
        assert (runs[0].tokens[b, k, n:] == EOS).all()
        tokens = runs[0].tokens[b, k, :n].tolist()
        log_p = writer.steps(b, tokens)[0]
        taken = [*tokens, EOS][: len(log_p)] if n < 15 else tokens
        assert runs[0].scores[b, k] == pytest.approx(sum(log_p[t, v] for t, v in enumerate(taken)), rel=1e-10)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_threads_change_no_bit(cell):
    writer, before = Writer(300, cell, dtype=F32, layers=2, batch=23), fr.get_num_threads()
    runs = []
    try:
        for n in (1, 2, 3, 8):
            fr.set_num_threads(n)
            call = {**ENDS, "max_length": 20, "source_lengths": writer.source_lengths, "weights": True}
            beams = fr.nn.beam_search(*writer.arguments(), **call, beam_size=4, n_best=4, length_penalty=1.0)
            runs.append([*beams, *fr.nn.sample_search(*writer.arguments(), **call, num_samples=3, seed=0)])
    finally:
        fr.set_num_threads(before)
    for other in runs[1:]:
        for a, b in zip(runs[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_other_sentences_change_no_bit(cell):
    """A step may compute what beams have in common once, or for each: that turns on all rows together."""
    writer = Writer(300, cell, dtype=F32, layers=2, batch=23)
    call = {**ENDS, "max_length": 20, "beam_size": 4, "n_best": 4, "length_penalty": 1.0}
    states = writer.state if isinstance(writer.state, tuple) else (writer.state,)

    def search(part):
        state = tuple(s[:, part] for s in states)
        return fr.nn.beam_search(
            *writer.layers, writer.source[:, part], state if cell == "lstm" else state[0],
            source_lengths=writer.source_lengths[part], **call,
        )  # fmt: skip

    together, alone = search(slice(None)), [search(slice(b, b + 1)) for b in range(23)]
    np.testing.assert_array_equal(together.tokens, np.concatenate([one.tokens for one in alone]))
    np.testing.assert_array_equal(together.scores, np.concatenate([one.scores for one in alone]))


def test_memory_that_was_used_before_changes_nothing():
    writer = Writer(300, dtype=F32, layers=2, batch=23)
    call = {**ENDS, "max_length": 20, "source_lengths": writer.source_lengths, "num_samples": 3}
    first, _, again = (fr.nn.sample_search(*writer.arguments(), **call, seed=seed) for seed in (0, 5, 0))
    np.testing.assert_array_equal(first.tokens, again.tokens)
    np.testing.assert_array_equal(first.scores, again.scores)


@pytest.mark.parametrize("kind", [fr.LSTM, fr.GRU, fr.RNN])
def test_a_stack_without_attention_that_peeks(kind):
    rng = np.random.default_rng(0)
    stack = kind(5 + 3, 7, 2, dtype=F64, seed=0)
    table, output = fr.Embedding(4, 5, dtype=F64, seed=1), fr.Linear(7, 4, dtype=F64, seed=2)
    output.params["weight"] *= 5
    h, c = (rng.standard_normal((2, 3, 7)) for _ in range(2))
    state, extra = ((h, c) if kind is fr.LSTM else h), rng.standard_normal((3, 3))
    texts = fr.nn.beam_search(
        stack, table, output, state=state, extra=extra, **ENDS, max_length=3, beam_size=64, n_best=4
    )

    def next_log_p(tokens, b):
        x = np.concatenate([table(np.array([BOS, *tokens])), np.repeat(extra[b : b + 1], len(tokens) + 1, 0)], -1)
        own = (h[:, b : b + 1], c[:, b : b + 1]) if kind is fr.LSTM else h[:, b : b + 1]
        z = output(stack(x[:, None], own)[0])[-1, 0]
        return z - np.log(np.exp(z).sum()), None

    for b in range(3):
        options = {"eos": EOS, "max_length": 3, "beam_size": 64, "n_best": 4}
        check(texts, b, reference.beam_search(lambda tokens, b=b: next_log_p(tokens, b), **options), 1e-10)


def test_banned_tokens_and_early_stopping():
    writer = Writer(12, seed=2)
    call = {**ENDS, "max_length": 10, "beam_size": 4, "n_best": 4}
    texts = fr.nn.beam_search(*writer.arguments(), **call, banned=[3, 5, BOS])
    written = texts.tokens[np.arange(10) < texts.lengths[..., None]]
    assert not np.isin(written, [3, 5, BOS]).any()
    free = fr.nn.beam_search(*writer.arguments(), **call)
    early = fr.nn.beam_search(*writer.arguments(), **call, early_stopping=True)
    assert (early.scores <= free.scores + 1e-12).all()
    nothing = fr.nn.greedy_search(*writer.arguments(), **ENDS, max_length=10, banned=[EOS])
    assert (nothing.lengths == 10).all()


def test_broken_weights_are_noticed():
    writer = Writer(12)
    writer.output.params["weight"][:] = np.nan
    for search in (fr.nn.beam_search, fr.nn.greedy_search, fr.nn.sample_search):
        with pytest.raises(FloatingPointError, match="not finite"):
            search(*writer.arguments(), **ENDS, max_length=4)


def test_no_sentences():
    writer = Writer(12, batch=0)
    texts = fr.nn.beam_search(*writer.arguments(), **ENDS, max_length=4)
    assert texts.tokens.shape == (0, 1, 4)


def test_bad_input():
    writer = Writer(12)
    call = {**ENDS, "max_length": 4}
    decoder, table, output = writer.layers
    with pytest.raises(ValueError, match="n_best: expected at most beam_size=2, got 3"):
        fr.nn.beam_search(*writer.arguments(), **call, beam_size=2, n_best=3)
    with pytest.raises(ValueError, match="eos: expected an integer from 0 to 11, got 12"):
        fr.nn.greedy_search(*writer.arguments(), bos=0, eos=12, max_length=3)
    with pytest.raises(ValueError, match="output: expected out_features=12"):
        fr.nn.greedy_search(decoder, table, fr.Linear(7, 9, dtype=F64), writer.source, **call)
    with pytest.raises(TypeError, match="decoder: expected an AttentionDecoder"):
        fr.nn.greedy_search(table, table, output, writer.source, **call)
    with pytest.raises(ValueError, match=r"state: expected \[num_layers, B, H\]"):
        fr.nn.greedy_search(fr.GRU(5, 7, dtype=F64), table, output, **call)
    with pytest.raises(ValueError, match="source: expected None, because GRU has no attention"):
        fr.nn.greedy_search(fr.GRU(5, 7, dtype=F64), table, output, writer.source, **call)
    with pytest.raises(ValueError, match="decoder: expected one direction"):
        fr.nn.greedy_search(fr.GRU(5, 7, bidirectional=True, dtype=F64), table, output, **call)
    with pytest.raises(ValueError, match="extra: expected"):
        fr.nn.greedy_search(*writer.arguments(), **call, extra=np.ones((3, 2)))
    with pytest.raises(ValueError, match="top_p: expected 0 < top_p"):
        fr.nn.sample_search(*writer.arguments(), **call, top_p=0.0)


def test_numbers_too_large():
    writer = Writer(12)
    arguments = writer.arguments()
    with pytest.raises(ValueError, match=r"beam_size, max_length: expected fewer than 2\*\*31 tokens"):
        fr.nn.beam_search(*arguments, **ENDS, max_length=4, beam_size=10**30)
    with pytest.raises(
        ValueError, match="beam_size: expected one whose candidates fit into memory, got 65536000 for 3"
    ):
        fr.nn.beam_search(*arguments, **ENDS, max_length=4, beam_size=65536000)
    with pytest.raises(ValueError, match=r"num_samples, max_length: .* got 3 sentences x 1 x 1099511627776"):
        fr.nn.sample_search(*arguments, **ENDS, max_length=1 << 40)
    with pytest.raises(ValueError, match="temperature: expected a finite number"):
        fr.nn.sample_search(*arguments, **ENDS, max_length=4, temperature=10**400)
    call = {**ENDS, "max_length": 4, "seed": 0}
    some = fr.nn.sample_search(*arguments, **call, min_length=4)
    assert (some.lengths == 4).all()
    more = fr.nn.sample_search(*arguments, **call, min_length=4, top_k=10**30)
    np.testing.assert_array_equal(more.tokens, some.tokens)


@pytest.mark.parametrize("search", [fr.nn.beam_search, fr.nn.greedy_search, fr.nn.sample_search])
def test_texts_cannot_be_longer_than_they_may(search):
    arguments = Writer(12).arguments()
    assert (search(*arguments, **ENDS, max_length=4, min_length=4).lengths == 4).all()
    for least in (5, 10**30):
        with pytest.raises(ValueError, match=f"^min_length: expected at most max_length=4, got {least}$"):
            search(*arguments, **ENDS, max_length=4, min_length=least)


@pytest.mark.parametrize("search", [fr.nn.beam_search, fr.nn.greedy_search, fr.nn.sample_search])
def test_a_token_is_left(search):
    writer = Writer(12)
    call = {**ENDS, "max_length": 4}
    others = [v for v in range(12) if v != EOS]
    assert (search(*writer.arguments(), **call, banned=others).lengths == 0).all()
    with pytest.raises(
        ValueError, match="banned: expected to leave a token besides eos, because min_length > 0, got 11"
    ):
        search(*writer.arguments(), **call, banned=others, min_length=2)
    with pytest.raises(ValueError, match="banned: expected to leave a token, got 12 of 12"):
        search(*writer.arguments(), **call, banned=range(12))
