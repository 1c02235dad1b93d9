"""Reverse, Ends, Masked, and the lengths that a mask says."""

import numpy as np
import pytest

import fastrnn as fr
from fastrnn.nn import Ends, Masked, Reverse, lengths_from_mask
from tests.reference.finite_differences import check_gradients

T, B, F = 5, 4, 6
LENGTHS = [5, 0, 1, 3]


def data(batch_first=False):
    return np.random.default_rng(0).standard_normal((B, T, F) if batch_first else (T, B, F))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_reverse(batch_first, lengths):
    layer, x = Reverse(batch_first=batch_first), data(batch_first)
    y = layer(x, lengths=lengths)
    rows, found = (x, y) if batch_first else (x.swapaxes(0, 1), y.swapaxes(0, 1))
    for row, turned, n in zip(rows, found, lengths or [T] * B):
        assert np.array_equal(turned[:n], row[:n][::-1]) and np.array_equal(turned[n:], row[n:])
    assert np.array_equal(layer(y, lengths=lengths), x)


@pytest.mark.parametrize("layer", [Reverse(), Ends()], ids=["reverse", "ends"])
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_gradients(layer, lengths):
    x = data()
    y, pullback = layer.vjp(x, lengths=lengths)
    assert np.array_equal(y, layer(x, lengths=lengths))
    dy = np.random.default_rng(1).standard_normal(y.shape)
    check_gradients(lambda: layer(x, lengths=lengths), {"x": x}, dy, {"x": pullback(dy)})
    assert layer.vjp(x, lengths=lengths, input_grad=False)[1](dy) is None


def test_one_sequence():
    x = data()[:, 0]
    assert np.array_equal(Reverse()(x), x[::-1])
    assert np.array_equal(Ends()(x), np.concatenate([x[-1, :3], x[0, 3:]]))
    with pytest.raises(
        ValueError, match=r"^x: expected an even number of features, two directions side by side, got 5"
    ):
        Ends()(x[:, :5])


@pytest.mark.parametrize("kind", [fr.LSTM, fr.GRU, fr.RNN])
def test_ends_are_final_states(kind):
    layer = kind(F, 3, bidirectional=True, dtype=np.float64, seed=0)
    y, state = layer(data(), lengths=LENGTHS)
    h_n = state[0] if isinstance(state, tuple) else state
    assert np.array_equal(Ends()(y, lengths=LENGTHS), np.concatenate(h_n, -1))


def test_reverse_then_forward_is_the_second_direction():
    both = fr.GRU(F, 3, bidirectional=True, dtype=np.float64, seed=0)
    one = fr.GRU(F, 3, dtype=np.float64)
    one.load_state_dict({name.removesuffix("_reverse"): a for name, a in both.params.items() if "_reverse" in name})
    y, _ = fr.Sequential(Reverse(), one, Reverse())(data(), lengths=LENGTHS)
    assert np.array_equal(y, both(data(), lengths=LENGTHS)[0][..., 3:])


def test_masked():
    model = Masked(fr.Embedding(9, F, seed=0), fr.GRU(F, 3, batch_first=True, seed=0), fr.Last(batch_first=True))
    x = np.array([[4, 3, 2], [5, 0, 0], [0, 0, 0]])
    plain = fr.Sequential(*model)
    assert np.array_equal(model.lengths(x), [3, 1, 0])
    assert np.array_equal(model(x)[0], plain(x, lengths=[3, 1, 0])[0])
    assert np.array_equal(model(x, lengths=[1, 1, 1])[0], plain(x, lengths=[1, 1, 1])[0])
    (y, _), pullback = model.vjp(x)
    pullback(np.ones_like(y))
    found = {name: grad.copy() for name, grad in model.grads.items()}
    model.zero_grads()
    (y, _), pullback = plain.vjp(x, lengths=[3, 1, 0])
    pullback(np.ones_like(y))
    assert all(np.array_equal(found[name], model.grads[name]) for name in found)
    _, grads = fr.value_and_grad(lambda: fr.ops.sum(model(x)[0]), model)()
    assert all(np.array_equal(found[name], grads[name]) for name in found)
    assert repr(model).startswith("Masked(\n  0: Embedding")


def test_masked_vectors_in_a_file(tmp_path):
    model = Masked(fr.GRU(2, 3, seed=0), mask_value=-1, batch_first=False)
    x = np.where(np.arange(4)[:, None, None] < np.array([4, 2])[:, None], np.float32(0.5), np.float32(-1))
    x = np.broadcast_to(x, (4, 2, 2)).copy()
    assert np.array_equal(model.lengths(x), [4, 2])
    fr.save(model, tmp_path / "m.safetensors")
    assert np.array_equal(fr.load(tmp_path / "m.safetensors")(x)[0], model(x)[0])


def test_lengths_from_mask():
    mask = np.arange(T) < np.array(LENGTHS)[:, None]
    assert np.array_equal(lengths_from_mask(mask), LENGTHS)
    assert np.array_equal(lengths_from_mask(mask.T, batch_first=False), LENGTHS)
    assert lengths_from_mask(np.zeros((0, 3), bool)).shape == (0,)
    with pytest.raises(ValueError, match=r"row 2 begins with steps that are masked: pad sequences on the right"):
        lengths_from_mask(mask[:, ::-1])
    mask[3] = [True, False, True, False, False]
    with pytest.raises(ValueError, match="row 3 has masked steps between others"):
        lengths_from_mask(mask)
    with pytest.raises(ValueError, match=r"^mask: expected bools \[B, T\], got int64 of shape \(2,\)"):
        lengths_from_mask([1, 0])
