"""AttentionDecoder and TokenDecoder: against the reference, finite differences, single steps, and other threads."""

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import _core, reference
from tests.reference.finite_differences import assert_close, check_gradients

isas = pytest.mark.parametrize("isa", _core.isas(), indirect=True)
F32, F64 = np.float32, np.float64
CELLS = [
    {"cell": "lstm"},
    {"cell": "gru"},
    {"cell": "gru", "reset_after": False},
    {"cell": "rnn"},
    {"cell": "rnn", "nonlinearity": "relu"},
    {"cell": "rnn", "nonlinearity": "sigmoid"},
]
SCORES = ["dot", "scaled_dot", "general", "additive"]
# T, B, S, E, H, K, A, L: sizes around the vectors' widths; more rows than a thread must have
SIZES = [(1, 1, 1, 1, 1, 1, 1, 1), (4, 3, 5, 3, 15, 7, 6, 1), (5, 9, 6, 17, 16, 33, 17, 2), (3, 2, 4, 5, 33, 16, 15, 3)]


@pytest.fixture
def isa(request):
    before = _core.isa()
    _core.select_isa(request.param)
    yield request.param
    _core.select_isa(before)


@pytest.fixture
def threads():
    before = fr.get_num_threads()
    yield fr.set_num_threads
    fr.set_num_threads(before)


class Case:
    """A decoder in float64 and its data, representable in float32; ragged ones have an empty row."""

    def __init__(self, size, ragged, **options):
        T, B, S, E, H, K, A, L = size
        K = H if "dot" in options.get("attention", "") else K
        rng = np.random.default_rng(0)
        self.options = {"num_layers": L, "output_size": A, **options}
        self.sizes = (E, H, K)
        layer = fr.nn.AttentionDecoder(*self.sizes, **self.options, seed=1)
        self.params = {name: a.astype(F64) for name, a in layer.params.items()}
        draw = lambda *shape: rng.standard_normal(shape).astype(F32).astype(F64)  # noqa: E731
        self.x, self.source, self.feed = draw(T, B, E), draw(S, B, K), draw(B, A)
        self.state = tuple(draw(L, B, H) for _ in range(2)) if layer.cell == "lstm" else draw(L, B, H)
        self.dy = draw(T, B, A)
        self.dstate = tuple(draw(L, B, H) for _ in range(2)) if layer.cell == "lstm" else draw(L, B, H)
        self.lengths = self.source_lengths = None
        if ragged:
            self.lengths, self.source_lengths = rng.integers(0, T + 1, B), rng.integers(0, S + 1, B)
            self.lengths[-1], self.source_lengths[0] = T, S
            past = np.arange(T)[:, None] >= self.lengths
            self.dy[past] = 0

    def layer(self, dtype):
        layer = fr.nn.AttentionDecoder(*self.sizes, **self.options, dtype=dtype)
        layer.load_state_dict(self.params)
        return layer

    def arguments(self, dtype):
        cast = lambda a: tuple(map(cast, a)) if isinstance(a, tuple) else a.astype(dtype)  # noqa: E731
        return tuple(map(cast, (self.x, self.source, self.state, self.feed)))

    def ends(self):
        return {"lengths": self.lengths, "source_lengths": self.source_lengths}

    def reference(self):
        names = ("cell", "reset_after", "nonlinearity", "input_feeding")
        options = {name: self.options[name] for name in names if name in self.options}
        scale = 1 / np.sqrt(self.sizes[1]) if self.options.get("attention") == "scaled_dot" else 1.0
        return reference.decoder_vjp(
            self.x, self.source, self.state, self.params, feed=self.feed, scale=scale, **options, **self.ends()
        )


def flat(*trees):
    """The arrays of nested tuples, one after the other."""
    return [a for tree in trees for a in (flat(*tree) if isinstance(tree, tuple) else [tree])]


def run(case, dtype):
    """Outputs and all gradients of the compiled layer."""
    layer = case.layer(dtype)
    outputs, pullback = layer.vjp(*case.arguments(dtype), weights=True, **case.ends())
    again = layer(*case.arguments(dtype), weights=True, **case.ends())
    for a, b in zip(flat(outputs), flat(again), strict=True):
        np.testing.assert_array_equal(a, b)
    cast = lambda a: tuple(map(cast, a)) if isinstance(a, tuple) else a.astype(dtype)  # noqa: E731
    return outputs, (*pullback(cast(case.dy), cast(case.dstate)), layer.grads)


@isas
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("attention", SCORES)
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: "-".join(map(str, c.values())))
def test_matches_the_reference(isa, cell, attention, ragged):
    for number, size in enumerate(SIZES):
        case = Case(size, ragged, attention=attention, input_feeding=number != 2, bias=number != 3, **cell)
        wanted, pullback = case.reference()
        gradients = pullback(case.dy, case.dstate)
        for dtype, forward, backward in ((F64, 1e-12, 1e-12), (F32, 1e-5, 1e-4)):
            outputs, found = run(case, dtype)
            for a, b in zip(flat(outputs), flat(wanted), strict=True):
                assert_close(a, b, forward, "output")
            for a, b in zip(flat(*found[:-1]), flat(*gradients[:-1]), strict=True):
                assert_close(a, b, backward, "gradient of an input")
            assert set(found[-1]) == set(gradients[-1])
            for name, a in found[-1].items():
                assert_close(a, gradients[-1][name], backward, f"gradient of {name}")


@pytest.mark.parametrize("attention", SCORES)
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_finite_differences(cell, attention):
    case = Case((3, 3, 4, 2, 5, 3, 4, 2), True, cell=cell, attention=attention)
    layer = case.layer(F64)
    x, source, state, feed = case.arguments(F64)
    _, pullback = layer.vjp(x, source, state, feed, **case.ends())
    dx, dsource, dstate, dfeed = pullback(case.dy, case.dstate)
    inputs = {"x": x, "source": source, "feed": feed, **layer.params}
    gradients = {"x": dx, "source": dsource, "feed": dfeed, **layer.grads}
    for k, (s, d) in enumerate(zip(flat(state), flat(dstate), strict=True)):
        inputs[f"state {k}"], gradients[f"state {k}"] = s, d
    check_gradients(lambda: layer(x, source, state, feed, **case.ends()), inputs, (case.dy, case.dstate), gradients)


@isas
@pytest.mark.parametrize("dtype", [F32, F64])
def test_threads_and_company_change_no_bit(isa, dtype, threads):
    for attention, cell in (("general", "lstm"), ("additive", "gru"), ("dot", "rnn")):
        case = Case((40, 37, 33, 20, 48, 21, 48, 2), True, attention=attention, cell=cell)
        runs = []
        for n in (1, 2, 3, 8):
            threads(n)
            outputs, found = run(case, dtype)
            runs.append([a.copy() for a in flat(outputs, *found[:-1])] + [g.copy() for g in found[-1].values()])
        for other in runs[1:]:
            for a, b in zip(runs[0], other, strict=True):
                np.testing.assert_array_equal(a, b)
        x, source, state, feed = case.arguments(dtype)
        one = tuple(s[:, 3:4] for s in state) if cell == "lstm" else state[:, 3:4]
        ends = {name: value[3:4] for name, value in case.ends().items()}
        alone = case.layer(dtype)(x[:, 3:4], source[:, 3:4], one, feed[3:4], **ends)[0]
        np.testing.assert_array_equal(alone[:, 0], runs[0][0][:, 3])


def test_batch_first_and_strides():
    case = Case((4, 3, 5, 3, 8, 7, 6, 1), True)
    wanted, gradients = run(case, F32)
    case.options["batch_first"] = True
    turn = lambda a: np.ascontiguousarray(a.swapaxes(0, 1))  # noqa: E731
    case.x, case.source, case.dy = turn(case.x), turn(case.source), turn(case.dy)
    outputs, found = run(case, F32)
    np.testing.assert_array_equal(outputs[0], turn(wanted[0]))
    np.testing.assert_array_equal(found[1], turn(gradients[1]))
    case.x = np.asfortranarray(case.x)
    np.testing.assert_array_equal(run(case, F32)[0][0], outputs[0])


def test_a_sequence_in_two_parts():
    case = Case((6, 3, 5, 3, 8, 7, 6, 2), False)
    layer = case.layer(F64)
    x, source, state, feed = case.arguments(F64)
    whole, last = layer(x, source, state, feed)
    first, middle = layer(x[:2], source, state, feed)
    second, end = layer(x[2:], source, middle, first[-1])
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)
    np.testing.assert_array_equal(end[1], last[1])


def test_padding_is_not_read():
    case = Case((5, 4, 6, 3, 8, 7, 6, 1), True)
    case.lengths, case.source_lengths = np.array([5, 2, 0, 3]), np.array([6, 1, 4, 0])
    before = run(case, F64)
    case.x[np.arange(5)[:, None] >= case.lengths] = np.nan
    case.source[np.arange(6)[:, None] >= case.source_lengths] = np.nan
    case.dy[np.arange(5)[:, None] >= case.lengths] = np.nan
    after = run(case, F64)
    for a, b in zip(flat(before[0], *before[1][:-1]), flat(after[0], *after[1][:-1]), strict=True):
        np.testing.assert_array_equal(a, b)
    for name, grad in after[1][-1].items():
        np.testing.assert_array_equal(grad, before[1][-1][name])


def test_no_rows():
    layer = fr.nn.AttentionDecoder(3, 4, 5)
    empty = np.zeros((2, 0, 3), F32), np.zeros((6, 0, 5), F32)
    (y, _), pullback = layer.vjp(*empty)
    dx, dsource, _, _ = pullback(y)
    assert y.shape == (2, 0, 4) and dx.shape == (2, 0, 3) and dsource.shape == (6, 0, 5)


def test_pullback_runs_once_or_as_often_as_wished():
    case = Case((4, 3, 5, 3, 8, 7, 6, 1), True)
    layer = case.layer(F64)
    _, pullback = layer.vjp(*case.arguments(F64), **case.ends(), retain=True)
    first = flat(*pullback(case.dy))
    grads = {name: g.copy() for name, g in layer.grads.items()}
    for a, b in zip(first, flat(*pullback(case.dy)), strict=True):
        np.testing.assert_array_equal(a, b)
    for name, g in layer.grads.items():
        assert_close(g, 2 * grads[name], 1e-12, name)
    _, once = layer.vjp(*case.arguments(F64))
    once()
    with pytest.raises(RuntimeError, match="already run"):
        once()


def test_on_the_tape():
    class Pair(fr.Model):
        def __init__(self):
            self.encoder = fr.GRU(3, 4, bidirectional=True, dtype=F64, seed=0)
            self.decoder = fr.nn.AttentionDecoder(2, 4, 8, cell="gru", dtype=F64, seed=1)

        def forward(self, source, x):
            seen, h = self.encoder(source)
            y, _, self.w = self.decoder(x, seen, h[:1], weights=True)
            return y

    model, rng = Pair(), np.random.default_rng(0)
    source, x = rng.standard_normal((5, 2, 3)), rng.standard_normal((4, 2, 2))
    y, pullback = model.vjp(source, x)
    dy = rng.standard_normal(y.shape)
    dsource, dx = pullback(dy)
    gradients = {"source": dsource, "x": dx, **model.grads}
    check_gradients(lambda: model(source, x), {"source": source, "x": x, **model.params}, dy, gradients)


def test_saved_and_loaded(tmp_path):
    layer = fr.nn.AttentionDecoder(3, 4, 5, 2, cell="gru", attention="additive", attention_size=6, seed=0)
    fr.save(layer, tmp_path / "d.safetensors")
    other = fr.load(tmp_path / "d.safetensors")
    x, source = np.ones((3, 2, 3), F32), np.ones((4, 2, 5), F32)
    np.testing.assert_array_equal(other(x, source)[0], layer(x, source)[0])


BAD = [
    (lambda: fr.nn.AttentionDecoder(3, 4, 5, attention="dot"), "source_size = hidden_size"),
    (lambda: fr.nn.AttentionDecoder(3, 4, 5, attention="luong"), "attention: expected one of"),
    (lambda: fr.nn.AttentionDecoder(3, 4, 5, cell="mlp"), "cell: expected one of"),
    (lambda: fr.nn.AttentionDecoder(3, 4, 5, attention_size=3), "attention_size: only"),
    (lambda: fr.nn.AttentionDecoder(3, 4, 5, 17), "num_layers: expected at most 16"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_constructor_explains(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_calls_explain():
    layer, x, source = fr.nn.AttentionDecoder(3, 4, 5), np.ones((2, 3, 3), F32), np.ones((6, 3, 5), F32)
    with pytest.raises(ValueError, match=r"^source: expected \[S, B, 5\] \(source_size=5\)"):
        layer(x, source[..., :4])
    with pytest.raises(ValueError, match=r"^source: expected 3 rows"):
        layer(x, source[:, :2])
    with pytest.raises(ValueError, match=r"^source_lengths: expected integers from 0 to S=6, got 7 in row 1"):
        layer(x, source, source_lengths=[1, 7, 2])
    with pytest.raises(ValueError, match=r"^feed: expected shape \(3, 4\)"):
        layer(x, source, None, np.ones((3, 5), F32))
    with pytest.raises(TypeError, match=r"^x: expected float32"):
        layer(x.astype(F64), source)
    with pytest.raises(ValueError, match=r"^dweights: expected None"):
        layer.vjp(x, source, weights=True)[1](None, None, np.ones(1))


# ---- scheduled sampling


def token_decoder(dtype=F64, extra=0):
    table, output = fr.Embedding(30, 4, dtype=dtype, seed=0), fr.Linear(6, 30, dtype=dtype, seed=1)
    decoder = fr.nn.AttentionDecoder(4 + extra, 8, 5, 2, output_size=6, dtype=dtype, seed=2)
    return fr.nn.TokenDecoder(table, decoder, output)


@pytest.mark.parametrize("extra", [0, 3])
@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_scheduled_sampling(rate, extra, threads):
    T, B, seed = 7, 9, 5
    layer, rng = token_decoder(extra=extra), np.random.default_rng(0)
    tokens, source = rng.integers(0, 30, (T, B)), rng.standard_normal((6, B, 5))
    more = rng.standard_normal((B, extra)) if extra else None
    lengths = rng.integers(1, T + 1, B)
    (y, _), pullback = layer.vjp(tokens, source, None, None, more, sampling=rate, seed=seed, lengths=lengths)
    read, last, y_t, state = tokens.copy(), None, None, None
    for t in range(T):  # the same, step by step
        if t:
            own = np.array([reference.uniform(seed, b << 32 | t) < rate for b in range(B)])
            read[t] = np.where(own, layer.output(last).argmax(-1), tokens[t])
        x = layer.embedding(read[t])
        x = x if more is None else np.concatenate([x, more], -1)
        y_t, state = layer.decoder(x[None], source, state, last)
        last = y_t[0]
        np.testing.assert_allclose(y[t, t < lengths], last[t < lengths], rtol=1e-12, atol=1e-14)
    assert (read == tokens).all() == (rate == 0)
    dy = rng.standard_normal(y.shape)
    _, dsource, _, _, dmore = pullback(dy)
    grads = {name: g.copy() for name, g in layer.grads.items()}
    layer.zero_grads()
    read[np.arange(T)[:, None] >= lengths] = tokens[np.arange(T)[:, None] >= lengths]
    (_, _), plain = layer.vjp(read, source, None, None, more, lengths=lengths)
    _, dsource_2, _, _, dmore_2 = plain(dy)
    assert_close(dsource, dsource_2, 1e-12)
    for name, g in layer.grads.items():
        assert_close(grads[name], g, 1e-12, name)
    if extra:
        assert_close(dmore, dmore_2, 1e-12)
    for n in (1, 2, 3):
        threads(n)
        again = layer.vjp(tokens, source, None, None, more, sampling=rate, seed=seed, lengths=lengths)[0][0]
        np.testing.assert_array_equal(again, y)


def test_token_decoder_in_a_model_and_a_file(tmp_path):
    class Writer(fr.Model):
        def __init__(self):
            self.layer = token_decoder()

        def forward(self, source, tokens, sampling=0.0):
            y, _ = self.layer(tokens, source, sampling=sampling)
            return self.layer.output(y)

    model, rng = Writer(), np.random.default_rng(0)
    tokens, source = rng.integers(0, 30, (4, 3)), rng.standard_normal((5, 3, 5))
    z, pullback = model.vjp(source, tokens)
    dz = rng.standard_normal(z.shape)
    dsource, _ = pullback(dz)
    check_gradients(
        lambda: model(source, tokens), {"source": source, **model.params}, dz, {"source": dsource, **model.grads}
    )
    fr.save(model.layer, tmp_path / "t.safetensors")
    other = fr.load(tmp_path / "t.safetensors")
    np.testing.assert_array_equal(other(tokens, source)[0], model.layer(tokens, source)[0])


def test_token_decoder_explains():
    layer, source = token_decoder(), np.zeros((5, 3, 5))
    with pytest.raises(ValueError, match=r"^tokens: expected integers from 0 to 29 \(num_embeddings=30\), got 30"):
        layer([[0, 1, 30]], source)
    with pytest.raises(ValueError, match=r"^sampling: expected 0 ≤ sampling ≤ 1"):
        layer.vjp([[0, 1, 2]], source, sampling=1.5)
    with pytest.raises(ValueError, match=r"^extra: expected"):
        layer([[0, 1, 2]], source, None, None, np.zeros((3, 2)))
