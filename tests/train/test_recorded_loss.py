"""A loss computed from calls of a Model: `fit` pulls its gradient."""

import numpy as np
import pytest

import fastrnn as fr


class Tagger(fr.Model):
    """A GRU with dropout and a linear map."""

    def __init__(self):
        self.gru = fr.GRU(3, 4, seed=0)
        self.drop = fr.Dropout(0.3)
        self.out = fr.Linear(4, 2, seed=1)

    def forward(self, x, state=None):
        y, state = self.gru(x, state)
        return self.out(self.drop(y)), state


def batches(count=4):
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal((5, 2, 3), dtype=np.float32) for _ in range(count)]
    return [fr.Batch(x, x[..., :2].cumsum(0, dtype=np.float32)) for x in xs]


def quick(model, loss, **options):
    options = {"epochs": 2, "progress": False, "optimizer": fr.optim.SGD(model, lr=0.1), **options}
    return fr.fit(model, batches(), loss, **options)


def recorded(model, batch, *, seed, train):
    return fr.losses.mse(model(batch.x)[0], batch.target)[0]


def by_hand(model, batch, *, seed, train):
    if not train:
        return fr.losses.mse(model(batch.x)[0], batch.target)[0]
    (y, _), pullback = model.vjp(batch.x, seed=seed)
    loss, dy = fr.losses.mse(y, batch.target)
    pullback(dy)
    return loss


def test_it_is_the_loss_that_pulls_back_by_hand():
    first, second = Tagger(), Tagger()
    histories = [quick(first, recorded, validation=batches(2)), quick(second, by_hand, validation=batches(2))]
    assert histories[0].steps["loss"] == histories[1].steps["loss"]
    assert [v["loss"] for v in histories[0].validations] == [v["loss"] for v in histories[1].validations]
    for name, array in first.params.items():
        np.testing.assert_array_equal(array, second.params[name])
    assert (first.params["gru.weight_hh_l0"] != Tagger().params["gru.weight_hh_l0"]).any()


def test_its_own_method_will_do():
    class Whole(Tagger):
        def loss(self, batch, *, seed=None, train=True):
            return recorded(self, batch, seed=seed, train=train)

    first, second = Whole(), Tagger()
    assert quick(first, None).steps["loss"] == quick(second, recorded).steps["loss"]


def test_a_carried_state_leaves_the_tape():
    seen = []

    def loss(model, batch, *, state, train):
        seen.append(state)
        y, state = model(batch.x, state)
        return fr.losses.mse(y, batch.target)[0], state

    quick(Tagger(), loss, epochs=1, carry_state=True)
    assert seen[0] is None
    assert [type(state) for state in seen[1:]] == [np.ndarray] * 3
    assert seen[1].any()


def test_a_loss_that_lost_its_gradient_is_refused():
    with pytest.raises(TypeError, match="computed from plain arrays"):
        quick(Tagger(), lambda model, batch: float(recorded(model, batch, seed=0, train=True)))
    with pytest.raises(ValueError, match="loss: expected one number, got shape"):
        quick(Tagger(), lambda model, batch: model(batch.x)[0])
