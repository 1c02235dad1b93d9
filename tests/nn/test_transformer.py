"""Transformer layers: gradients, masks, and PyTorch's numbers where it is installed."""

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import reference
from fastrnn.nn.positional import positions
from tests.reference.finite_differences import assert_close, check_gradients

DOUBLE = {"dtype": np.float64}


@pytest.fixture
def rng():
    return np.random.default_rng(2)


def check(model, arrays, **options):
    model.zero_grads()
    y, pullback = model.vjp(*arrays.values(), **options)
    dy = np.random.default_rng(0).standard_normal(y.shape)
    found = pullback(dy)
    gradients = dict(zip(arrays, found if isinstance(found, tuple) else (found,), strict=True))
    gradients |= {name: grad.copy() for name, grad in model.grads.items()}

    def forward():
        return model(*arrays.values(), **options)

    np.testing.assert_array_equal(forward(), y)
    check_gradients(forward, {**arrays, **model.params}, dy, gradients)


def scattered(model, rng):
    """Parameters away from where they start: biases of zero and norms of one hide mistakes."""
    for name, value in model.params.items():
        model.params[name] = value + 0.3 * rng.standard_normal(value.shape)
    return model


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_gradients(rng, norm_first, batch_first):
    options = {"dropout": 0.0, "norm_first": norm_first, "batch_first": batch_first, "activation": "gelu", "seed": 0}
    x, memory = rng.standard_normal((4, 2, 6)), rng.standard_normal((3, 2, 6))
    if batch_first:
        x, memory = x.swapaxes(0, 1).copy(), memory.swapaxes(0, 1).copy()
    encoder = scattered(fr.TransformerEncoder(6, 2, 1, 5, **options, **DOUBLE), rng)
    check(encoder, {"x": x}, lengths=[4, 2])
    decoder = scattered(fr.TransformerDecoder(6, 3, 1, 5, **options, **DOUBLE), rng)
    check(decoder, {"x": x, "memory": memory}, memory_lengths=[1, 3])


def test_causal(rng):
    """What a step gives doesn't depend on those after it."""
    model = fr.TransformerEncoder(8, 2, 2, 16, seed=0, **DOUBLE)
    x = rng.standard_normal((5, 3, 8))
    assert_close(model(x[:3], causal=True), model(x, causal=True)[:3], 1e-12)
    decoder, memory = fr.TransformerDecoder(8, 2, 2, 16, seed=0, **DOUBLE), rng.standard_normal((4, 3, 8))
    assert_close(decoder(x[:3], memory), decoder(x, memory)[:3], 1e-12)
    padded = np.concatenate([memory, np.full((2, 3, 8), 9.0)])
    assert_close(decoder(x, padded, memory_lengths=[4, 4, 4]), decoder(x, memory), 1e-12)


def test_dropout(rng):
    model = fr.TransformerEncoderLayer(8, 2, 16, dropout=0.5, seed=0, **DOUBLE)
    x = rng.standard_normal((5, 3, 8))
    np.testing.assert_array_equal(model(x), model(x))
    first, again, other = (model.vjp(x, seed=seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and (first != model(x)).any()
    np.testing.assert_array_equal(model.vjp(x, dropout=False)[0], model(x))


def test_learns(rng):
    """Reversing a sequence needs attention: no step sees its answer otherwise."""

    class Reverse(fr.Model):
        def __init__(self):
            self.embedding, self.position = fr.Embedding(8, 16, seed=1), fr.PositionalEncoding(16)
            self.body, self.out = fr.TransformerEncoder(16, 2, 1, 32, dropout=0.0, seed=2), fr.Linear(16, 8, seed=3)

        def forward(self, tokens):
            return self.out(self.body(self.position(self.embedding(tokens))))

    model = Reverse()
    optimizer = fr.optim.Adam(model, lr=5e-3)

    def loss(tokens):
        return fr.losses.cross_entropy(model(tokens), tokens[::-1].copy())[0]

    step = fr.value_and_grad(loss, model)
    for _ in range(150):
        step(rng.integers(0, 8, (6, 32)))
        optimizer.step()
    tokens = rng.integers(0, 8, (6, 100))
    assert (model(tokens).argmax(-1) == tokens[::-1]).mean() > 0.95


@pytest.mark.parametrize("kind", [fr.TransformerEncoder, fr.TransformerDecoder])
def test_saving(kind, tmp_path):
    model = kind(8, 2, 2, 16, norm_first=True, activation="gelu", dtype=np.float64, batch_first=True, seed=0)
    fr.save(model, tmp_path / "a.safetensors")
    other = fr.load(tmp_path / "a.safetensors")
    assert other.config() == model.config()
    x = np.random.default_rng(0).standard_normal((3, 4, 8))
    arguments = (x, x) if kind is fr.TransformerDecoder else (x,)
    np.testing.assert_array_equal(other(*arguments), model(*arguments))


def test_positions(rng):
    table = positions(np.arange(50), 6, 10000.0)
    for i in range(3):
        np.testing.assert_allclose(table[:, 2 * i], np.sin(np.arange(50) / 10000 ** (2 * i / 6)))
        np.testing.assert_allclose(table[:, 2 * i + 1], np.cos(np.arange(50) / 10000 ** (2 * i / 6)))
    x = rng.standard_normal((7, 2, 5)).astype(np.float32)
    layer = fr.PositionalEncoding(5)
    whole = layer(x)
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(layer(x[4:], offset=4), whole[4:])
    for offset in (8187, 8190, 100_000):  # positions that are kept, not all, none
        expected = x + positions(np.arange(offset, offset + 7), 5, 10000.0).astype(np.float32)[:, None]
        np.testing.assert_array_equal(layer(x, offset=offset), expected)
    assert layer(x.astype(np.float64)).dtype == np.float64
    np.testing.assert_array_equal(fr.PositionalEncoding(5, batch_first=True)(x.swapaxes(0, 1)), whole.swapaxes(0, 1))
    np.testing.assert_array_equal(layer(x[:, 1]), whole[:, 1])
    y, pullback = fr.PositionalEncoding(5, dropout=0.5).vjp(x, seed=3)
    dx = pullback(np.ones_like(y))
    assert set(np.unique(dx)) == {0, 2} and not y[dx == 0].any()
    np.testing.assert_allclose(y[dx != 0], 2 * whole[dx != 0], rtol=1e-6)


def test_gelu(rng):
    """Against the definition, over the whole range, in both types."""
    for dtype, tolerance in ((np.float32, 2e-7), (np.float64, 1e-15)):
        x = np.concatenate([np.linspace(-40, 40, 4001), rng.standard_normal(999) * 1e-3, [1e30, -1e30]]).astype(dtype)
        exact = x.astype(np.float64)
        y, pullback = fr.GELU().vjp(x)
        assert (np.abs(y - reference.gelu(exact)) <= tolerance * np.maximum(np.abs(exact), 1e-3)).all()
        with np.errstate(over="ignore", under="ignore"):
            assert np.abs(pullback(np.ones_like(x)) - reference.gelu_derivative(exact)).max() <= 4 * tolerance
        assert np.isnan(fr.GELU()(np.array([np.nan], dtype))).all()
    x = rng.standard_normal(50)
    y, pullback = fr.GELU().vjp(x)
    dy = rng.standard_normal(50)
    check_gradients(lambda: fr.GELU()(x), {"x": x}, dy, {"x": pullback(dy)})


def test_errors():
    def raises(message, call):
        with pytest.raises(ValueError, match="expected") as caught:
            call()
        assert str(caught.value) == message

    x = np.ones((3, 2, 8), np.float32)
    raises("nhead: expected a divisor of d_model=8, got 3", lambda: fr.TransformerEncoderLayer(8, 3))
    raises(
        "activation: expected one of 'relu', 'gelu', got 'tanh'",
        lambda: fr.TransformerEncoderLayer(8, 2, activation="tanh"),
    )
    raises("num_layers: expected a positive integer, got 0", lambda: fr.TransformerDecoder(8, 2, 0))
    layer = fr.TransformerDecoderLayer(8, 2, 16)
    raises("key: expected [S, 2, 8] with S ≥ 1, to fit query, got shape (3, 1, 8)", lambda: layer(x, x[:, :1]))
    raises("x: expected [..., 8] (d_model=8), got shape (3, 2, 7)", lambda: fr.PositionalEncoding(8)(x[..., :7]))
    raises("offset: expected a number ≥ 0, got -1.0", lambda: fr.PositionalEncoding(8)(x, offset=-1))


# ---- PyTorch


def same(torch, ours, peer, arrays, options, peer_options, dtype, tolerance, rng):
    """Outputs and all gradients of a module in training (dropout 0), and outputs in inference."""
    with torch.no_grad():
        for value in peer.parameters():
            value += 0.1 * torch.randn_like(value)
    ours.load_state_dict({name: value.numpy() for name, value in peer.state_dict().items()})
    peer.zero_grad()
    ours.zero_grads()
    peers = [torch.tensor(a, requires_grad=True) for a in arrays]
    expected = peer(*peers, **peer_options)
    y, pullback = ours.vjp(*arrays, **options)
    np.testing.assert_array_equal(ours(*arrays, **options), y)
    dy = rng.standard_normal(y.shape).astype(dtype)
    expected.backward(torch.tensor(dy))
    assert_close(y, expected.detach().numpy(), tolerance, "y")
    found = pullback(dy)
    for actual, wanted in zip(found if isinstance(found, tuple) else (found,), peers, strict=True):
        assert_close(actual, wanted.grad.numpy(), tolerance, "input")
    grads = ours.grads
    assert {name for name, _ in peer.named_parameters()} == set(grads)
    for name, value in peer.named_parameters():
        assert_close(grads[name], value.grad.numpy(), tolerance, name)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-11)])
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_pytorch(rng, norm_first, activation, batch_first, dtype, tolerance):
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    kind = getattr(torch, dtype)
    shared = {"dropout": 0.0, "activation": activation, "norm_first": norm_first, "batch_first": batch_first}
    x, memory = rng.standard_normal((6, 3, 16)).astype(dtype), rng.standard_normal((5, 3, 16)).astype(dtype)
    if batch_first:
        x, memory = x.swapaxes(0, 1).copy(), memory.swapaxes(0, 1).copy()
    lengths, memory_lengths = np.array([6, 1, 4]), np.array([2, 5, 3])
    padding = torch.tensor(np.arange(6) >= lengths[:, None])
    memory_padding = torch.tensor(np.arange(5) >= memory_lengths[:, None])
    triangle = torch.ones(6, 6, dtype=torch.bool).triu(1)
    norm = torch.nn.LayerNorm(16) if norm_first else None
    layer = torch.nn.TransformerEncoderLayer(16, 4, 24, **shared)
    peer = torch.nn.TransformerEncoder(layer, 2, norm, enable_nested_tensor=False).to(kind)
    ours = fr.TransformerEncoder(16, 4, 2, 24, dtype=np.dtype(dtype), **shared)
    options, peer_options = {"lengths": lengths}, {"src_key_padding_mask": padding}
    same(torch, ours, peer, [x], options, peer_options, dtype, tolerance, rng)
    options, peer_options = options | {"causal": True}, peer_options | {"mask": triangle}
    same(torch, ours, peer, [x], options, peer_options, dtype, tolerance, rng)
    peer = torch.nn.TransformerDecoder(torch.nn.TransformerDecoderLayer(16, 4, 24, **shared), 2, norm).to(kind)
    ours = fr.TransformerDecoder(16, 4, 2, 24, dtype=np.dtype(dtype), **shared)
    options = {"lengths": lengths, "memory_lengths": memory_lengths}
    peer_options = {
        "tgt_mask": triangle, "tgt_key_padding_mask": padding, "memory_key_padding_mask": memory_padding,
    }  # fmt: skip
    same(torch, ours, peer, [x, memory], options, peer_options, dtype, tolerance, rng)
