"""Weights and lengths reach the real losses along the right axes."""

import numpy as np
import pytest

import fastrnn as fr
from fastrnn.nn import losses


def trained(model, data, loss):
    """The loss of one step of plain SGD."""
    history = fr.fit(model, data, loss, fr.optim.SGD(model, lr=0.1), steps=1, progress=False)
    return history.steps["loss"][0]


@pytest.mark.parametrize("loss", [losses.mse, losses.bce_with_logits])
@pytest.mark.parametrize("own", [True, False])
def test_a_weight_is_one_of_a_row(loss, own):
    """As many rows as features: [B] would broadcast along the features."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 2, 4), dtype=np.float32)
    target = rng.random((3, 3), dtype=np.float32)
    weight = np.array([1.0, 0.0, 5.0])
    model = fr.Sequential(fr.RNN(4, 5, seed=0), fr.Last(), fr.Linear(5, 3, seed=1))
    y, _ = model(np.swapaxes(x, 0, 1))
    expected, _ = loss(y, target, weight=weight[:, None])
    if own:
        data = [fr.Batch(np.swapaxes(x, 0, 1), target, weight=weight)]
    else:
        data = fr.SequenceBatches(list(x), list(target), batch_size=3, shuffle=False, weight=weight, per_step=False)
        (batch,) = data
        assert batch.weight.shape == (3, 1)
    assert trained(model, data, loss) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("batch_first, own", [(True, True), (False, True), (False, False)])
def test_a_weight_is_one_of_a_row_along_time(batch_first, own):
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((2, 3, 3, 3), dtype=np.float32)  # T = B = F
    weight = np.array([1.0, 0.0, 5.0])
    model = fr.RNN(3, 3, batch_first=batch_first, seed=0)
    shape = (3, 1, 1) if batch_first else (1, 3, 1)
    expected, _ = losses.mse(model(x)[0], target, weight=weight.reshape(shape))
    data = [fr.Batch(x, target, weight=weight)]
    if not own:
        rows = list(np.swapaxes(x, 0, 1)), list(np.swapaxes(target, 0, 1))
        data = fr.SequenceBatches(*rows, batch_size=3, shuffle=False, weight=weight)
        (batch,) = data
        assert batch.weight.shape == (1, 3, 1)
    assert trained(model, data, losses.mse) == pytest.approx(expected, rel=1e-6)


def test_lengths_of_a_batch_first_model():
    """As many rows as steps: a time-major mask would be the transposed one."""
    x, target = np.random.default_rng(0).standard_normal((2, 3, 3, 2), dtype=np.float32)
    lengths = np.array([1, 3, 2])
    model = fr.Sequential(fr.GRU(2, 4, batch_first=True, seed=0), fr.Linear(4, 2, seed=1))
    expected, _ = losses.mse(model(x, lengths=lengths)[0], target, lengths=lengths, batch_first=True)
    wrong, _ = losses.mse(model(x, lengths=lengths)[0], target, lengths=lengths)
    assert abs(wrong - expected) > 0.01
    assert trained(model, [fr.Batch(x, target, lengths)], losses.mse) == pytest.approx(expected, rel=1e-6)


def test_a_loss_that_knows_no_batch_first_says_so():
    x = np.zeros((2, 2, 3), np.float32)
    model = fr.RNN(3, 3, batch_first=True)

    def loss(y, target, lengths=None):
        return losses.mse(y, target)

    with pytest.raises(TypeError, match="takes no `batch_first`"):
        trained(model, [fr.Batch(x, x, [1, 2])], loss)
