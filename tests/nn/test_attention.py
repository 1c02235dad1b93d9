"""Attention layers: gradients, layouts, dropout, errors; and PyTorch's numbers where it is installed."""

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import functional as F
from fastrnn import reference
from tests.reference.finite_differences import assert_close, check_gradients

KINDS = ["additive", "concat", "general", "dot", "scaled_dot"]
DOUBLE = {"dtype": np.float64}


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def layer_of(kind, **options):
    return fr.Attention(4, 4 if "dot" in kind else 5, kind=kind, hidden_size=6, seed=0, **DOUBLE | options)


def check(layer, arrays, **options):
    """All gradients against finite differences; returns the outputs."""
    layer.zero_grads()
    outputs, pullback = layer.vjp(*arrays.values(), **options)
    y = outputs[0] if isinstance(outputs, tuple) else outputs
    dy = np.random.default_rng(0).standard_normal(y.shape)
    found = pullback(dy)
    gradients = dict(zip(arrays, found if isinstance(found, tuple) else (found,), strict=True))
    gradients |= {name: grad.copy() for name, grad in layer.grads.items()}

    def forward():
        result = layer(*arrays.values(), **options)
        return result[0] if isinstance(result, tuple) else result

    np.testing.assert_array_equal(forward(), y)
    check_gradients(forward, {**arrays, **layer.params}, dy, gradients)
    return outputs


# ---- fr.Attention


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [None, [6, 0, 2]])
def test_attention_gradients(rng, kind, batch_first, lengths):
    layer = layer_of(kind, batch_first=batch_first)
    query, source = rng.standard_normal((4, 3, 4)), rng.standard_normal((6, 3, layer.source_size))
    if batch_first:
        query, source = query.swapaxes(0, 1).copy(), source.swapaxes(0, 1).copy()
    context, weights = check(layer, {"q": query, "x": source}, lengths=lengths, return_weights=True)
    assert weights.shape == ((3, 4, 6) if batch_first else (4, 3, 6))
    if batch_first:
        context, weights, source = (a.swapaxes(0, 1) for a in (context, weights, source))
    np.testing.assert_allclose(context, np.einsum("tbs,sbk->tbk", weights, source), atol=1e-12)
    np.testing.assert_allclose(weights.sum(-1), np.ones((4, 3)) if lengths is None else [[1, 0, 1]] * 4)
    if lengths:
        assert not context[:, 1].any() and not weights[:, 2, 2:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_one_step_and_one_sequence(rng, kind):
    layer = layer_of(kind)
    query, source = rng.standard_normal((7, 3, 4)), rng.standard_normal((6, 3, layer.source_size))
    whole = layer(query, source, lengths=[6, 2, 5])
    assert_close(layer(query[2], source, lengths=[6, 2, 5]), whole[2], 1e-14)
    assert_close(layer(query[:, 1], source[:, 1], lengths=2), whole[:, 1], 1e-14)
    check(layer, {"q": query[2].copy(), "x": source}, lengths=[6, 0, 5])
    context, weights = check(layer, {"q": query[:, 1].copy(), "x": source[:, 1].copy()}, return_weights=True)
    assert context.shape == (7, layer.source_size) and weights.shape == (7, 6)


def test_scores(rng):
    """The weights are the softmax of the documented scores."""
    q, x = rng.standard_normal((4, 1, 4)), rng.standard_normal((6, 1, 5))
    for kind in KINDS:
        layer = layer_of(kind)
        source = x[..., : layer.source_size].copy()
        w, (a, b) = layer.params, (q[:, 0, None], source[:, 0])
        if kind == "additive":
            scores = np.tanh(a @ w["weight_query"].T + b @ w["weight_source"].T) @ w["v"]
        elif kind == "concat":
            pairs = np.concatenate([a.repeat(6, 1), np.broadcast_to(b, (4, 6, 5))], -1)
            scores = np.tanh(pairs @ w["weight"].T) @ w["v"]
        else:
            scores = (a[:, 0] @ w["weight"] if kind == "general" else a[:, 0]) @ b.T
            scores /= np.sqrt(4) if kind == "scaled_dot" else 1
        assert_close(layer(q, source, return_weights=True)[1][:, 0], reference.softmax(scores), 1e-12)


def test_attention_in_a_model(rng):
    """Both inputs get gradients through the tape; saved and loaded it is the same."""

    class Reader(fr.Model):
        def __init__(self, size):
            self.enc, self.dec = fr.GRU(3, size, seed=1, **DOUBLE), fr.GRU(3, size, seed=2, **DOUBLE)
            self.attention = fr.Attention(size, kind="additive", seed=3, **DOUBLE)

        def forward(self, x, y, *, lengths=None):
            states, final = self.enc(x, lengths=lengths)
            h, _ = self.dec(y, final)
            context, _ = self.attention(h, states, lengths=lengths, return_weights=True)
            return fr.concat([h, context], -1)

    model = Reader(4)
    check(model, {"x": rng.standard_normal((5, 2, 3)), "y": rng.standard_normal((3, 2, 3))}, lengths=[5, 2])
    assert model.grads["attention.v"].any()


@pytest.mark.parametrize("layer", [*map(layer_of, KINDS), fr.MultiHeadAttention(8, 2, dropout=0.1, kdim=3, vdim=5)])
def test_saving(layer, tmp_path):
    fr.save(layer, tmp_path / "a.safetensors")
    other = fr.load(tmp_path / "a.safetensors")
    assert repr(other) == repr(layer)
    for name, value in layer.params.items():
        np.testing.assert_array_equal(other.params[name], value)


# ---- fr.MultiHeadAttention


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("given", [1, 2, 3])
@pytest.mark.parametrize("options", [{}, {"kdim": 3, "vdim": 5}, {"bias": False}], ids=str)
def test_multi_head_gradients(rng, given, options, batch_first):
    if given == 1 and "kdim" in options:
        return
    layer = fr.MultiHeadAttention(8, 2, batch_first=batch_first, seed=0, **DOUBLE, **options)
    for name in layer.params.keys() & {"in_proj_bias", "out_proj.bias"}:
        layer.params[name] = rng.standard_normal(layer.params[name].shape)
    sizes = [(4, 3, 8), (6, 3, layer.kdim), (6, 3, layer.vdim)]
    if "kdim" in options and given == 2:
        layer = fr.MultiHeadAttention(8, 2, batch_first=batch_first, seed=0, kdim=3, vdim=3, **DOUBLE)
    arrays = {name: rng.standard_normal(size) for name, size in zip(("q", "k", "v"), sizes[:given], strict=False)}
    if batch_first:
        arrays = {name: a.swapaxes(0, 1).copy() for name, a in arrays.items()}
    lengths = [4, 0, 2] if given == 1 else [6, 1, 0]
    check(layer, arrays, causal=given == 1)
    check(layer, arrays, lengths=lengths)


def test_multi_head_options(rng):
    layer = fr.MultiHeadAttention(8, 2, seed=0, **DOUBLE)
    x = rng.standard_normal((5, 3, 8))
    mask = rng.random((3, 1, 5, 5)) < 0.7
    check(layer, {"x": x}, mask=mask)
    check(layer, {"x": x}, mask=np.where(mask, rng.standard_normal(mask.shape), -np.inf))
    check(layer, {"x": x[:, 0].copy()}, lengths=3)
    causal = np.tri(5, dtype=bool)
    np.testing.assert_array_equal(layer(x, mask=causal), layer(x, causal=True))
    y, weights = layer(x, lengths=[5, 0, 2], return_weights=True)
    assert weights.shape == (5, 3, 2, 5)
    np.testing.assert_allclose(weights.sum(-1), [[[1, 1], [0, 0], [1, 1]]] * 5)
    np.testing.assert_array_equal(y[:, 1], np.broadcast_to(layer.params["out_proj.bias"], (5, 8)))
    assert layer.vjp(x, input_grad=False)[1](y) is None


def test_dropout_of_weights(rng):
    """The mask is a function of the seed, the mean stays, and the gradient goes through the same mask."""
    layer = fr.MultiHeadAttention(8, 2, dropout=0.4, seed=0, **DOUBLE)
    x = rng.standard_normal((5, 3, 8))
    np.testing.assert_array_equal(layer(x), layer(x, dropout=False))
    np.testing.assert_array_equal(layer.vjp(x, dropout=False)[0], layer(x))
    assert (layer(x, dropout=True, seed=1) != layer(x, dropout=True, seed=2)).any()
    y, pullback = layer.vjp(x, seed=4)
    np.testing.assert_array_equal(y, layer(x, dropout=True, seed=4))
    dy = rng.standard_normal(y.shape)
    dx = pullback(dy)
    gradients = {"x": dx, **layer.grads}
    check_gradients(lambda: layer(x, dropout=True, seed=4), {"x": x, **layer.params}, dy, gradients)
    kept = reference.dropped_weights((8, 4, 50, 60), 0.4, 123)
    assert abs(kept.mean() - 0.6) < 0.005
    assert abs(kept.mean(axis=(0, 1, 2)) - 0.6).max() < 0.06 and abs(kept.mean(axis=(0, 1, 3)) - 0.6).max() < 0.06


def test_multi_head_in_a_sequential(rng):
    model = fr.Sequential(fr.MultiHeadAttention(6, 3, seed=0), fr.MeanPool())
    x = rng.standard_normal((5, 2, 6)).astype(np.float32)
    np.testing.assert_allclose(model(x, lengths=[5, 2])[1], model(x[:2])[1], rtol=1e-5)


# ---- F.attention


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("options", [{}, {"dropout": 0.3, "seed": 8}], ids=["plain", "dropout"])
def test_functional(rng, batch_first, options):
    q, k, v = rng.standard_normal((4, 3, 8)), rng.standard_normal((6, 3, 8)), rng.standard_normal((6, 3, 10))
    if batch_first:
        q, k, v = (a.swapaxes(0, 1) for a in (q, k, v))
    shared = {"num_heads": 2, "lengths": [6, 0, 3], "mask": rng.random((4, 6)) < 0.8, "batch_first": batch_first}
    (expected, weights), pull = reference.attention_vjp(q, k, v, return_weights=True, **shared, **options)
    (y, found), pullback = F.attention_vjp(q, k, v, return_weights=True, **shared, **options)
    assert not y.flags.writeable
    assert_close(y, expected, 1e-13)
    assert_close(found, weights, 1e-13)
    dy = rng.standard_normal(y.shape)
    for actual, wanted in zip(pullback(dy), pull(dy), strict=True):
        assert_close(actual, wanted, 1e-12)
    with pytest.raises(RuntimeError, match="has already run"):
        pullback(dy)
    if not options:
        np.testing.assert_array_equal(F.attention(q, k, v, **shared), y)


def test_functional_of_one_sequence(rng):
    q, k, v = rng.standard_normal((4, 8)), rng.standard_normal((6, 8)), rng.standard_normal((6, 10))
    y, weights = F.attention(q, k, v, num_heads=2, lengths=5, return_weights=True)
    expected = reference.attention(q, k, v, num_heads=2, lengths=5, return_weights=True)
    assert_close(y, expected[0], 1e-13)
    assert_close(weights, expected[1], 1e-13)
    assert weights.shape == (4, 2, 6)
    for actual, wanted in zip(F.attention_vjp(q, k, v)[1](v[:4]), (q, k, v), strict=True):
        assert actual.shape == wanted.shape


# ---- errors


def raises(message, call, error=ValueError):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, "heads", "heads and values"])
def test_what_padding_holds_does_not_matter(rng, kind, batch_first):
    shape = (3, 4) if batch_first else (4, 3)
    layer = layer_of(kind, batch_first=batch_first) if kind in KINDS else fr.MultiHeadAttention(
        4, 2, batch_first=batch_first, seed=0, **DOUBLE
    )  # fmt: skip
    source = rng.standard_normal((3, 3, getattr(layer, "source_size", 4)))  # as many steps as rows
    query, lengths = rng.standard_normal((*shape, 4)), np.array([3, 1, 0])
    past = np.arange(3)[:, None] >= lengths
    results = []
    for filling in (0.0, np.nan):
        filled = source.copy()
        (filled.swapaxes(0, 1) if batch_first else filled)[past] = filling
        layer.zero_grads()
        y, pullback = layer.vjp(query, filled, *[filled.copy()] * (kind == "heads and values"), lengths=lengths)
        results.append([y, *pullback(np.ones_like(y)), *(g.copy() for g in layer.grads.values())])
        assert np.isnan(filled).any() == np.isnan(filling)  # and it is as it was
    for zeros, nans in zip(*results, strict=True):
        np.testing.assert_array_equal(zeros, nans)


def test_errors():
    x = np.ones((4, 3, 8), np.float32)
    layer, plain = fr.MultiHeadAttention(8, 2), fr.Attention(8, 5)
    raises("num_heads: expected a divisor of embed_dim=8, got 3", lambda: fr.MultiHeadAttention(8, 3))
    raises("dropout: expected 0 ≤ dropout < 1, got 1.0", lambda: fr.MultiHeadAttention(8, 2, dropout=1))
    raises("query: expected [..., 8] (embed_dim=8), got shape (4, 3, 7)", lambda: layer(x[..., :7]))
    raises("query: expected [T, B, 8], or [T, 8] for one sequence, got shape (8,)", lambda: layer(x[0, 0]))
    raises("key: expected [S, 3, 8] with S ≥ 1, to fit query, got shape (4, 2, 8)", lambda: layer(x, x[:, :2]))
    raises("value: expected as many steps as key, of shape (4, 3, 8), got shape (2, 3, 8)", lambda: layer(x, x, x[:2]))
    raises("key: expected an array, since there is a value, got None", lambda: layer(x, None, x), TypeError)
    raises("lengths: expected integers from 0 to S=4, got 5 in row 2", lambda: layer(x, lengths=[4, 4, 5]))
    raises(
        "mask: expected a shape that broadcasts to [B, N, T, S] = (3, 2, 4, 4), got (3, 4)",
        lambda: layer(x, mask=np.ones((3, 4), bool)),
    )
    raises(
        "mask: expected a shape that broadcasts to [B, N, T, S] = (3, 2, 4, 4), got (3, 4, 4); "
        "mask[:, None] is one for each row",
        lambda: layer(x, mask=np.ones((3, 4, 4), bool)),
    )
    with pytest.raises(TypeError, match=r"^query: expected float32, got float64; use query.astype"):
        layer(x.astype(np.float64))
    with pytest.raises(TypeError, match=r"^mask: expected float32, got float64; use mask.astype"):
        layer(x, mask=np.zeros((4, 4)))
    with pytest.raises(TypeError, match=r"^mask: expected bools, True where .* got int64; use mask.astype\(bool\)"):
        layer(x, mask=np.ones((4, 4), int))
    raises(
        "dweights: expected None; no gradient is handed through the returned weights",
        lambda: layer.vjp(x, return_weights=True)[1](x, x),
    )
    raises(
        "source_size: expected query_size=8 for kind='dot', got 5; kind='general' takes both",
        lambda: fr.Attention(8, 5, kind="dot"),
    )
    raises(
        "kind: expected one of 'additive', 'concat', 'general', 'dot', 'scaled_dot', got 'mlp'",
        lambda: fr.Attention(8, kind="mlp"),
    )
    raises("source: expected [..., 5] (source_size=5), got shape (4, 3, 8)", lambda: plain(x, x))
    raises("source: expected [S, B, 5], or [S, 5] for one sequence, got shape (5,)", lambda: plain(x, x[0, 0, :5]))
    raises(
        "query: expected [T, 3, 8], or [3, 8] for one step, to fit source, got shape (4, 2, 8)",
        lambda: plain(x[:, :2], x[..., :5]),
    )
    raises("query: expected [T, 8], for one sequence like source, got shape (4, 3, 8)", lambda: plain(x, x[:, 0, :5]))
    raises(
        "lengths: expected 3 integers, one for each row, got shape (2,)", lambda: plain(x, x[..., :5], lengths=[1, 2])
    )
    raises(
        "q: expected [T, B, F] or [T, F] with F divisible by num_heads=3, got shape (4, 3, 8)",
        lambda: F.attention(x, x, x, num_heads=3),
    )
    raises("k: expected [S, 3, 8] with S ≥ 1, to fit q, got shape (4, 3, 7)", lambda: F.attention(x, x[..., :7], x))
    raises(
        "v: expected as many source steps as k, of shape (4, 3, 8), got shape (2, 3, 8)",
        lambda: F.attention(x, x, x[:2]),
    )
    raises("q: expected at least one time step, got shape (0, 3, 8)", lambda: F.attention(x[:0], x, x))


# ---- PyTorch


def pytorch_pair(torch, dtype, **options):
    peer = torch.nn.MultiheadAttention(16, 4, **options).to(dtype)
    for name in ("in_proj_bias", "out_proj.bias"):
        torch.nn.init.normal_(dict(peer.named_parameters())[name])
    layer = fr.MultiHeadAttention(16, 4, dtype=np.dtype(str(dtype).removeprefix("torch.")), **options)
    layer.load_state_dict({name: value.numpy() for name, value in peer.state_dict().items()})
    return layer, peer


@pytest.mark.parametrize(("name", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"kdim": 6, "vdim": 9}, {"bias": True}], ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_pytorch_multi_head(rng, options, causal, name, tolerance):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layer, peer = pytorch_pair(torch, getattr(torch, name), **options)
    first = options.get("batch_first", False)
    lengths = np.array([7, 1, 4])
    shapes = [(5, 3, 16), (7, 3, layer.kdim), (7, 3, layer.vdim)]
    arrays = [rng.standard_normal(shape).astype(name) for shape in shapes]
    if first:
        arrays = [a.swapaxes(0, 1).copy() for a in arrays]
    peers = [torch.tensor(a, requires_grad=True) for a in arrays]
    expected, weights = peer(
        *peers,
        key_padding_mask=torch.tensor(np.arange(7) >= lengths[:, None]),
        attn_mask=torch.ones(5, 7, dtype=torch.bool).triu(1) if causal else None,
        average_attn_weights=False,
    )
    (y, found), pullback = layer.vjp(*arrays, lengths=lengths, causal=causal, return_weights=True)
    dy = rng.standard_normal(y.shape).astype(name)
    expected.backward(torch.tensor(dy))
    assert_close(y, expected.detach().numpy(), tolerance, "y")
    found = found if first else found.swapaxes(0, 1)  # [B, T, N, S]
    assert_close(found.swapaxes(1, 2), weights.detach().numpy(), tolerance, "weights")
    for actual, wanted in zip(pullback(dy), peers, strict=True):
        assert_close(actual, wanted.grad.numpy(), tolerance, "input")
    for parameter, value in peer.named_parameters():
        assert_close(layer.grads[parameter], value.grad.numpy(), tolerance, parameter)


@pytest.mark.parametrize(("name", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("kind", ["causal", "bools", "floats"])
def test_pytorch_scaled_dot_product(rng, kind, name, tolerance):
    torch = pytest.importorskip("torch")
    arrays = [rng.standard_normal((20, 3, 32)).astype(name) for _ in range(3)]
    heads = [torch.tensor(a.reshape(20, 3, 2, 16).transpose(1, 2, 0, 3), requires_grad=True) for a in arrays]
    mask = None
    if kind == "bools":
        mask = rng.random((3, 1, 20, 20)) < 0.7
        mask[..., 0] = True  # PyTorch gives NaN to queries that see nothing
    elif kind == "floats":
        mask = rng.standard_normal((2, 20, 20)).astype(name)
    causal = kind == "causal"
    peer_mask = None if mask is None else torch.tensor(mask)
    expected = torch.nn.functional.scaled_dot_product_attention(*heads, attn_mask=peer_mask, is_causal=causal)
    y, pullback = F.attention_vjp(*arrays, num_heads=2, mask=mask, causal=causal)
    dy = rng.standard_normal(y.shape).astype(name)
    expected.backward(torch.tensor(dy.reshape(20, 3, 2, 16).transpose(1, 2, 0, 3)))

    def joined(a):
        return a.detach().numpy().transpose(2, 0, 1, 3).reshape(20, 3, 32)

    assert_close(y, joined(expected), tolerance)
    for actual, wanted in zip(pullback(dy), heads, strict=True):
        assert_close(actual, joined(wanted.grad), tolerance)
