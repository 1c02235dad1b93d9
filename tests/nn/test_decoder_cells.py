"""Decoders and searches of variants and of users' cells: against the layers, differences, the reference."""

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import _core, reference
from tests.jit.cells import CELLS

F32, F64 = np.float32, np.float64
T, B, S, E, H, K, L = 5, 3, 6, 4, 7, 6, 2
LENGTHS, SOURCES = [5, 0, 3], [6, 2, 4]
VARIANTS = [
    ("lstm", {"peephole": True}),
    ("lstm", {"coupled": True, "clip": 1.0}),
    ("lstm", {"layer_norm": True, "peephole": True}),
    ("lstm", {"zoneout": (0.2, 0.3), "recurrent_dropout": 0.3, "weight_dropout": 0.2}),
    ("lstm", {"layer_norm": True, "zoneout": 0.1, "recurrent_dropout": 0.3}),
    ("gru", {"layer_norm": True}),
    ("gru", {"layer_norm": True, "reset_after": False, "zoneout": 0.2, "recurrent_dropout": 0.3}),
    ("gru", {"clip": 0.9, "reset_after": False, "activations": ("hard_sigmoid", "tanh")}),
    ("rnn", {"layer_norm": True}),
    ("rnn", {"nonlinearity": "leaky_relu", "zoneout": 0.3}),
]
OWN = [pytest.param(cell, {}, marks=[], id=name) for name, cell in CELLS.items()]
ALL = [pytest.param(cell, options, id=f"{cell}-{'-'.join(options)}") for cell, options in VARIANTS] + OWN


def needs_numba(cell):
    if not isinstance(cell, str):
        pytest.importorskip("numba")


def decoder_of(cell, options, dtype=F64, **more):
    given = {"attention": "general", "cell_options": options, "dtype": dtype, "seed": 0} | more
    found = fr.nn.AttentionDecoder(E, H, K, L, cell=cell, **given)
    rng = np.random.default_rng(1)
    for name, value in found.params.items():
        value += (0.1 * rng.standard_normal(value.shape)).astype(dtype)
        assert found.grads[name].shape == value.shape
    return found


def arrays(decoder, seed=0):
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.standard_normal(shape).astype(decoder.dtype)

    def state():
        parts = tuple(draw(L, B, H) for _ in range(decoder.num_states))
        return parts if len(parts) > 1 else parts[0]

    return draw(T, B, E), draw(S, B, K), state(), draw(B, H), draw(T, B, H), state()


def parts(state):
    return state if isinstance(state, tuple) else (state,)


ENDS = {"lengths": LENGTHS, "source_lengths": SOURCES}


@pytest.mark.parametrize("feeding", [True, False])
@pytest.mark.parametrize(("cell", "options"), ALL)
def test_gradients_are_differences(cell, options, feeding):
    needs_numba(cell)
    decoder = decoder_of(cell, options, input_feeding=feeding)
    x, source, state, feed, dy, dstate = arrays(decoder)
    dy[np.arange(T)[:, None] >= LENGTHS] = 0

    def loss():
        (y, last), _ = decoder.vjp(x, source, state, feed, seed=3, **ENDS)
        return (y * dy).sum() + sum((a * b).sum() for a, b in zip(parts(last), parts(dstate), strict=True))

    _, pullback = decoder.vjp(x, source, state, feed, seed=3, **ENDS)
    dx, dsource, dstate_0, dfeed = pullback(dy, dstate)
    pairs = [(x, dx), (source, dsource), (feed, dfeed), *zip(parts(state), parts(dstate_0), strict=True)]
    pairs += [(decoder.params[name], decoder.grads[name]) for name in decoder.params]
    rng = np.random.default_rng(2)
    for array, gradient in pairs:
        for _ in range(3):
            at = tuple(rng.integers(size) for size in array.shape)
            before, step = array[at], 1e-5
            array[at] = before + step
            above = loss()
            array[at] = before - step
            below = loss()
            array[at] = before
            # an error of rounding of 1e-11 in a loss near 10, and the square of the step
            assert gradient[at] == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=2e-7)


@pytest.mark.parametrize("isa", _core.isas())
@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize(("cell", "options"), ALL)
def test_its_layers_are_the_layers(isa, cell, options, dtype):
    """Without input feeding the states are those of a layer, in training with the masks of the same seed."""
    needs_numba(cell)
    before = _core.isa()
    _core.select_isa(isa)
    try:
        decoder = decoder_of(cell, options, dtype, input_feeding=False)
        make = {"lstm": fr.LSTM, "gru": fr.GRU, "rnn": fr.RNN}[cell] if isinstance(cell, str) else None
        more = {"dtype": dtype, **options}
        layer = make(E, H, L, **more) if make else fr.CustomRNN(cell, E, H, L, **more)
        for name, value in layer.params.items():
            value[...] = decoder.params[name]
        x, source, state, _, _, dstate = arrays(decoder)
        tolerance = 1e-5 if dtype == F32 else 1e-12
        last, expected = decoder(x, source, state, **ENDS)[1], layer(x, state, lengths=LENGTHS)[1]
        for a, b in zip(parts(last), parts(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
        (_, last), pull = decoder.vjp(x, source, state, seed=5, **ENDS)
        (_, expected), pull_layer = layer.vjp(x, state, lengths=LENGTHS, seed=5)
        found, wanted = pull(None, dstate), pull_layer(None, dstate)
        both = zip(
            (*parts(last), found[0], *parts(found[2])), (*parts(expected), wanted[0], *parts(wanted[1])), strict=True
        )
        for a, b in [*both, *((decoder.grads[name], layer.grads[name]) for name in layer.params)]:
            np.testing.assert_allclose(a, b, rtol=20 * tolerance, atol=20 * tolerance)
    finally:
        _core.select_isa(before)


@pytest.mark.parametrize("name", ["gru", "lstm"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(F32, 1e-5), (F64, 1e-10)])
def test_own_cells_are_the_built_in_ones(name, dtype, tolerance):
    pytest.importorskip("numba")
    ours, theirs = decoder_of(name, None, dtype), decoder_of(CELLS[name], None, dtype)
    assert list(ours.params) == list(theirs.params)
    theirs.load_state_dict(ours.state_dict())  # a cell may have initial values of its own
    x, source, state, feed, dy, dstate = arrays(ours)
    found = []
    for decoder in (ours, theirs):
        outputs, pullback = decoder.vjp(x, source, state, feed, **ENDS)
        gradients = pullback(dy, dstate)
        found.append([outputs[0], *parts(outputs[1]), *gradients[:2], *parts(gradients[2]), gradients[3]])
        found[-1] += [decoder.grads[key] for key in decoder.params]
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("cell", "options"), ALL[3:8] + OWN)
def test_any_number_of_threads_gives_the_same(cell, options):
    needs_numba(cell)
    before = _core.get_num_threads()
    rng = np.random.default_rng(0)
    decoder = fr.nn.AttentionDecoder(20, 40, 30, 2, cell=cell, cell_options=options, seed=0)
    x, source = (rng.standard_normal(shape, dtype=F32) for shape in ((30, 24, 20), (11, 24, 30)))
    lengths = rng.integers(1, 31, 24)
    found = []
    try:
        for threads in (1, 3):
            _core.set_num_threads(threads)
            decoder.zero_grads()
            (y, state), pullback = decoder.vjp(x, source, lengths=lengths, seed=1)
            gradients = pullback(np.ones_like(y), state)
            found.append([y, *parts(state), *gradients[:2], *parts(gradients[2])])
            found[-1] += [decoder.grads[name].copy() for name in decoder.params]
    finally:
        _core.set_num_threads(before)
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


# ---- searches


def next_log_p(ask, tokens):
    z, w = ask(np.array([0, *tokens]))
    z = z - z.max()
    return z - np.log(np.exp(z).sum()), w


@pytest.mark.parametrize("feeding", [True, False])
@pytest.mark.parametrize(("cell", "options"), ALL)
def test_beam_search_is_the_references(cell, options, feeding):
    needs_numba(cell)
    decoder = decoder_of(cell, options, input_feeding=feeding)
    table, output = fr.Embedding(30, E, dtype=F64, seed=1), fr.Linear(H, 30, dtype=F64, seed=2)
    output.params["weight"] *= 5
    _, source, state, _, _, _ = arrays(decoder)
    limits = {"max_length": 7, "beam_size": 4, "n_best": 3, "length_penalty": 0.6, "coverage_penalty": 0.3}
    texts = fr.nn.beam_search(decoder, table, output, source, state, bos=0, eos=1, source_lengths=SOURCES, **limits)
    for b in range(B):
        one = slice(b, b + 1)
        first = tuple(s[:, one] for s in parts(state))

        def ask(tokens, b=b, one=one, first=first):
            begin = first if len(first) > 1 else first[0]
            y, _, w = decoder(table(tokens)[:, None], source[:, one], begin, source_lengths=SOURCES[one], weights=True)
            return output(y)[-1, 0], w[:, 0].sum(0)[: SOURCES[b]]

        wanted = reference.beam_search(lambda tokens, ask=ask: next_log_p(ask, tokens), eos=1, **limits)
        assert wanted
        for k, (score, tokens) in enumerate(wanted):
            assert texts.tokens[b, k, : texts.lengths[b, k]].tolist() == list(tokens)
            assert texts.scores[b, k] == pytest.approx(score, rel=1e-9)


@pytest.mark.parametrize(("cell", "options"), ALL)
def test_searches_without_attention(cell, options):
    """Greedy texts are those of a stream of calls."""
    needs_numba(cell)
    make = {"lstm": fr.LSTM, "gru": fr.GRU, "rnn": fr.RNN}.get(cell) if isinstance(cell, str) else None
    more = {"dtype": F64, "seed": 0, **options}
    layer = make(E, H, L, **more) if make else fr.CustomRNN(cell, E, H, L, **more)
    table, output = fr.Embedding(30, E, dtype=F64, seed=1), fr.Linear(H, 30, dtype=F64, seed=2)
    output.params["weight"] *= 5
    rng = np.random.default_rng(0)
    state = tuple(rng.standard_normal((L, B, H)) for _ in range(layer.num_states))
    state = state if len(state) > 1 else state[0]
    texts = fr.nn.greedy_search(layer, table, output, state=state, bos=0, eos=1, max_length=8)
    tokens = np.zeros(B, np.int64)
    for t in range(8):
        y, state = layer(table(tokens)[None], state)
        best = output(y)[0].argmax(-1)
        for b in range(B):
            if t < texts.lengths[b, 0]:
                assert best[b] == texts.tokens[b, 0, t]
            elif t == texts.lengths[b, 0]:
                assert best[b] == 1
        tokens = best


# ---- rules


def test_zoneout_is_expected_in_inference_and_drawn_in_training():
    decoder = decoder_of("lstm", {"zoneout": 0.5})
    x, source, *_ = arrays(decoder)
    a, b, c = (decoder.vjp(x, source, seed=seed)[0][0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 1e-3
    np.testing.assert_array_equal(decoder(x, source)[0], decoder.vjp(x, source, dropout=False)[0][0])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"cell": "sru"},
            ValueError,
            "cell: expected one of lstm, gru, rnn, .* a decoder goes step by step; got 'sru'",
        ),
        (
            {"cell_options": {"input_dropout": 0.1}},
            ValueError,
            "cell_options: expected some of .*, got 'input_dropout'",
        ),
        ({"cell_options": {"dropout": 0.1}}, ValueError, "cell_options: expected what makes the cell"),
        ({"cell": "gru", "cell_options": {"peephole": True}}, ValueError, "cell_options: GRU has no 'peephole'"),
        ({"cell_options": 3}, TypeError, "cell_options: expected a dict"),
        ({"cell_options": {"zoneout": 2.0}}, ValueError, "zoneout"),
    ],
)
def test_bad_cells(arguments, error, message):
    with pytest.raises(error, match=message):
        fr.nn.AttentionDecoder(E, H, K, **arguments)


@pytest.mark.parametrize(("cell", "options"), ALL)
def test_saved_and_loaded(cell, options, tmp_path):
    needs_numba(cell)
    decoder = decoder_of(cell, options)
    fr.save(decoder, tmp_path / "decoder.safetensors")
    again = fr.load(tmp_path / "decoder.safetensors")
    x, source, state, *_ = arrays(decoder)
    np.testing.assert_array_equal(again(x, source, state)[0], decoder(x, source, state)[0])


@pytest.mark.parametrize(
    "rnn", [fr.LSTM(3, 5, layer_norm=True), fr.LSTM(3, 5, peephole=True, coupled=True), fr.GRU(3, 5, clip=1.0)]
)
def test_values_that_are_read_back(rnn):
    """Own steps are the same as values that were written before."""
    layer = fr.nn.ValueDecoder(rnn, fr.Linear(5, 1, seed=1))
    x = np.random.default_rng(0).standard_normal((6, 2, 3), dtype=F32)
    v, _ = layer(x, own=[False] + [True] * 5)
    x[1:, :, :1] = v[:-1]
    np.testing.assert_allclose(layer(x)[0], v, atol=1e-6)


def test_values_with_masks_are_refused():
    with pytest.raises(ValueError, match="rnn: expected no zoneout"):
        fr.nn.ValueDecoder(fr.LSTM(3, 5, zoneout=0.1), fr.Linear(5, 1))
