"""What every layer has: names, live arrays, state, copies, specs, and pullbacks that run once."""

import copy
import json
import pickle

import numpy as np
import pytest

from fastrnn import nn
from fastrnn._pullback import Pullback
from fastrnn.nn._layer import Layer

SAMPLES = [
    nn.Linear(3, 2),
    nn.Linear(3, 2, bias=False, dtype=np.float64),
    nn.Embedding(5, 2, padding_idx=1, lazy=True),
    nn.LayerNorm(4, 1e-3),
    nn.Dropout(0.25),
    nn.Last(),
    nn.MeanPool(batch_first=True),
    nn.MaxPool(),
    nn.Sigmoid(),
    nn.Tanh(),
    nn.ReLU(),
    nn.LeakyReLU(0.2),
    nn.Swish(1.5),
    nn.Softmax(),
    nn.Sequential(nn.Embedding(5, 3), nn.Sequential(nn.Linear(3, 3), nn.ReLU()), nn.Last()),
]


@pytest.mark.parametrize("layer", SAMPLES, ids=lambda layer: type(layer).__name__)
class TestEveryLayer:
    def test_config_rebuilds_it(self, layer):
        config = json.loads(json.dumps(layer.config()))
        again = type(layer)(**config)
        assert again.config() == layer.config()
        assert repr(again) == repr(layer)
        assert {n: (a.shape, a.dtype) for n, a in again.params.items()} == {
            n: (a.shape, a.dtype) for n, a in layer.params.items()
        }
        again.load_state_dict(layer.state_dict())
        assert nn.from_spec(nn.to_spec(layer)).config() == layer.config()

    def test_repr_is_python(self, layer):
        assert repr(layer).startswith(type(layer).__name__ + "(")

    def test_params_and_grads_have_the_same_keys(self, layer):
        assert layer.params.keys() == layer.grads.keys()
        for name, array in layer.params.items():
            assert layer.grads[name].shape == array.shape
            assert layer.grads[name].dtype == array.dtype == layer.dtype
            assert layer.params[name] is array
            assert array.flags.c_contiguous
            assert array.flags.writeable
        assert layer.num_params == sum(array.size for array in layer.params.values())

    @pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
    def test_copies_are_independent(self, layer, duplicate):
        for grad in layer.grads.values():
            grad.fill(1)
        again = duplicate(layer)
        layer.zero_grads()
        assert again.config() == layer.config()
        for name, array in layer.params.items():
            np.testing.assert_array_equal(again.params[name], array)
            assert not np.shares_memory(again.params[name], array)
            assert not again.grads[name].any()
        again.zero_grads()
        for array in again.params.values():
            array.fill(0)
        again.load_state_dict(layer.state_dict())


def test_assigning_to_a_parameter_copies():
    layer = nn.Linear(2, 2)
    weight = layer.params["weight"]
    layer.params["weight"] = np.eye(2)
    assert layer.params["weight"] is weight
    np.testing.assert_array_equal(weight, np.eye(2))
    layer.grads["weight"] += 1
    assert layer.grads["weight"].sum() == 4
    with pytest.raises(KeyError):
        layer.params["wieght"] = 0
    model = nn.Sequential(layer)
    model.params["0.weight"] = 2
    assert weight.sum() == 8


@pytest.mark.parametrize("wrap", [False, True], ids=["layer", "Sequential"])
def test_updating_parameters_copies(wrap):
    layer = nn.Linear(2, 2, seed=0)
    model, prefix = (nn.Sequential(layer), "0.") if wrap else (layer, "")
    weight, bias = layer.params["weight"], layer.params["bias"]
    model.params.update({prefix + "weight": np.eye(2)})
    model.params |= {prefix + "bias": [3, 4]}
    if not wrap:
        model.params.update(bias=[3, 4])
    assert layer.params["weight"] is weight and layer.params["bias"] is bias
    np.testing.assert_array_equal(weight, np.eye(2))
    np.testing.assert_array_equal(bias, [3, 4])


def test_assigning_all_parameters_copies():
    layer = nn.Linear(2, 2, seed=0)
    weight = layer.params["weight"]
    layer.params = {"weight": np.eye(2), "bias": np.ones(2)}
    assert layer.params["weight"] is weight and weight.sum() == 2
    with pytest.raises(ValueError, match="missing: bias"):
        layer.params = {"weight": np.zeros((2, 2))}
    assert weight.sum() == 2


def test_an_update_that_does_not_fit_changes_nothing():
    layer = nn.Linear(2, 2, seed=0)
    before = layer.state_dict()
    with pytest.raises(ValueError, match=r"bias: expected shape \(2,\)"):
        layer.params.update({"weight": np.eye(2), "bias": np.ones(3)})
    with pytest.raises(KeyError, match="'wieght' is no parameter here; there are weight, bias"):
        layer.params.update({"weight": np.eye(2), "wieght": 0})
    for name, array in before.items():
        np.testing.assert_array_equal(layer.params[name], array)


@pytest.mark.parametrize(
    "change",
    [
        lambda params: params.pop("weight"),
        lambda params: params.pop("nothing", None),
        lambda params: params.popitem(),
        lambda params: params.clear(),
        lambda params: params.setdefault("weight", np.eye(2)),
        lambda params: params.__delitem__("weight"),
    ],
)
@pytest.mark.parametrize("wrap", [False, True], ids=["layer", "Sequential"])
def test_names_of_parameters_are_fixed(change, wrap):
    layer = nn.Linear(2, 2, seed=0)
    model = nn.Sequential(layer) if wrap else layer
    for arrays in (model.params, model.grads):
        with pytest.raises(TypeError, match="names can't be added or removed"):
            change(arrays)
    assert list(layer.params) == list(layer.grads) == ["weight", "bias"]


def test_what_does_not_fit_a_parameter_is_refused():
    layer = nn.Linear(3, 2, seed=0)
    for value in (np.ones((3, 2)), np.ones(3), np.ones((1, 3))):
        with pytest.raises(ValueError, match=r"weight: expected shape \(2, 3\), or one number for all, got shape"):
            layer.params["weight"] = value
    with pytest.raises(ValueError, match="weight: could not be made into an array"):
        layer.params["weight"] = [[1, 2], [3]]
    for value in (None, "a", np.ones((2, 3), complex)):
        with pytest.raises(TypeError, match="weight: expected numbers, got"):
            layer.params["weight"] = value
    with pytest.raises(KeyError, match="'wieght' is no parameter here; there are weight, bias"):
        layer.params["wieght"] = 0


def test_state_dict_copies_and_load_keeps_the_live_arrays():
    layer = nn.Linear(2, 2)
    state = layer.state_dict()
    weight = layer.params["weight"]
    weight += 1
    assert not np.array_equal(state["weight"], weight)
    layer.load_state_dict({name: array.astype(np.float64) for name, array in state.items()})
    assert layer.params["weight"] is weight
    assert weight.dtype == np.float32
    np.testing.assert_array_equal(weight, state["weight"])


def test_load_state_dict_lists_every_problem():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    state = model.state_dict()
    del state["0.bias"]
    state["0.weight"] = np.ones((2, 3))
    state["2.weight"] = np.ones((1, 3), int)
    state["2.extra"] = np.ones(1)
    before = model.state_dict()
    with pytest.raises(ValueError, match="state does not fit this Sequential") as error:
        model.load_state_dict(state)
    assert str(error.value) == (
        "state does not fit this Sequential:\n"
        "  misshapen: 0.weight, expected (3, 2), got (2, 3)\n"
        "  missing: 0.bias, shape (3,)\n"
        "  not floats: 2.weight, expected float32, got int64\n"
        "  unknown: 2.extra"
    )
    for name, array in model.params.items():
        np.testing.assert_array_equal(array, before[name])
    with pytest.raises(TypeError, match="state: expected a mapping from names to arrays, got list"):
        model.load_state_dict([])


def test_seeds_fix_the_weights_in_both_float_types():
    for make in (lambda **k: nn.Linear(3, 4, **k), lambda **k: nn.Embedding(3, 4, **k)):
        a, b = make(seed=5), make(seed=5, dtype=np.float64)
        rng = np.random.default_rng(5)
        c, d = make(seed=rng), make(seed=rng)
        for name, array in a.params.items():
            np.testing.assert_array_equal(array, b.params[name].astype(np.float32))
            np.testing.assert_array_equal(array, c.params[name])
            assert not np.array_equal(array, d.params[name])
        assert not np.array_equal(make().params["weight"], make().params["weight"])


def test_a_shared_layer_counts_once():
    shared = nn.Linear(2, 2)
    model = nn.Sequential(shared, nn.Tanh(), nn.Sequential(shared, nn.Linear(2, 1)), shared)
    assert list(model.params) == ["0.weight", "0.bias", "2.1.weight", "2.1.bias"]
    assert model.num_params == 6 + 3
    again = copy.deepcopy(model)
    assert again[0] is again[3] is again[2][0]


def test_pullback_runs_once():
    layer, x = nn.Linear(2, 3), np.ones((4, 2), np.float32)
    y, pullback = layer.vjp(x)
    assert repr(pullback) == "<pullback of Linear, ready>"
    pullback(y)
    assert repr(pullback) == "<pullback of Linear, spent>"
    with pytest.raises(RuntimeError, match=r"Linear: this pullback has already run.*retain=True"):
        pullback(y)
    y, pullback = layer.vjp(x, retain=True)
    pullback(y)
    pullback(y)


def test_a_refused_gradient_does_not_use_the_pullback_up():
    y, pullback = nn.Tanh().vjp(np.ones((2, 3), np.float32))
    with pytest.raises(ValueError, match=r"dy: expected shape \(2, 3\), that of the output, got \(3, 2\)"):
        pullback(y.T)
    with pytest.raises(TypeError, match="dy: expected float32, got float64"):
        pullback(np.ones((2, 3)))
    with pytest.raises(TypeError, match="dy: expected an array, got None"):
        pullback(None)
    pullback(y)


def test_pullback_frees_what_it_saved():
    class Saved:
        alive = 0

        def __init__(self):
            Saved.alive += 1

        def __del__(self):
            Saved.alive -= 1

    def make(saved):
        return Pullback(lambda: saved and None, "test")

    pullback = make(Saved())
    assert Saved.alive == 1
    pullback()
    assert Saved.alive == 0


def test_users_classes_carry_their_module():
    class Linear(Layer):
        pass

    assert Linear.type_name == f"{__name__}.test_users_classes_carry_their_module.<locals>.Linear"
    assert type(nn.from_spec(nn.to_spec(nn.Linear(1, 1)))) is nn.Linear


def test_specs_of_unknown_classes():
    with pytest.raises(ValueError, match=r"layer: no class 'os.system' is known"):
        nn.from_spec({"type": "os.system", "config": {}})
    with pytest.raises(ValueError, match="expected an object with 'type' and 'config', got 3"):
        nn.from_spec(3)


def test_a_subclass_that_forgets_its_entries():
    class Empty(Layer):
        pass

    with pytest.raises(NotImplementedError, match="Empty does not define __call__"):
        Empty()(1)
    with pytest.raises(NotImplementedError, match="Empty does not define vjp"):
        Empty().vjp(1)
