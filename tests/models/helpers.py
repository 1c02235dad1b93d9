"""What the tests of models share."""

import numpy as np

import fastrnn as fr
from tests.reference.finite_differences import assert_close, numerical_gradient


def check_loss(model, batch, *, seed=4, skip=(), most=40):
    """Compare all gradients of `model.loss`, float64, with finite differences of the same draws.

    Of large parameters `most` values are looked at. Parameters in `skip` must have no gradient.
    """
    run = fr.value_and_grad(lambda b: model.loss(b, seed=seed), model)
    value, grads = run(batch, seed=seed)
    grads = {name: grad.copy() for name, grad in grads.items()}
    rng = np.random.default_rng(0)
    assert model.dtype == np.float64
    for name, param in model.params.items():
        if name in skip:
            assert not grads[name].any(), name
            continue
        chosen = rng.permutation(param.size)[:most]
        part = param.reshape(-1)[chosen]

        def loss(param=param, chosen=chosen, part=part):
            param.reshape(-1)[chosen] = part
            return run(batch, seed=seed)[0]

        expected = numerical_gradient(loss, part)
        loss()
        assert_close(grads[name].reshape(-1)[chosen], expected, what=f"gradient of {name}")
    return value


def same_after_files(model, path):
    """The model that `load` makes of what `save` wrote."""
    fr.save(model, path)
    again = fr.load(path)
    assert type(again) is type(model)
    for name, array in model.params.items():
        np.testing.assert_array_equal(array, again.params[name], strict=True)
    return again
