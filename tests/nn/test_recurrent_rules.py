"""LSTM, GRU and RNN: who owns what, and for how long; names of parameters, copies, files.

Over 400 lines: the rules of one interface, each of them short.
"""

import copy
import gc
import json
import pickle
import tracemalloc
import weakref

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import _core, nn
from tests.nn.test_recurrent import F32, F64, layers, make, problem, same
from tests.reference.finite_differences import assert_close


def gradients(layer):
    return {name: grad.copy() for name, grad in layer.grads.items()}


# ---- pullbacks


@layers
def test_pullback_runs_once(name):
    layer = make(name)
    x, state, dy, dstate = problem(layer)
    _, pullback = layer.vjp(x, state)
    for bad in (dy[:-1], dy.astype(F64), "dy", dy[..., :1]):
        with pytest.raises((ValueError, TypeError), match="dy: expected"):
            pullback(bad)  # is refused before anything is lost
    assert not any(grad.any() for grad in layer.grads.values())
    pullback(dy, dstate)
    with pytest.raises(RuntimeError, match="this pullback has already run"):
        pullback(dy, dstate)


@layers
def test_retained_pullback(name):
    layer = make(name, num_layers=2, bidirectional=True, dropout=0.3)
    x, state, dy, dstate = problem(layer)
    _, pullback = layer.vjp(x, state, seed=1, retain=True)
    first = pullback(dy, dstate)
    once = gradients(layer)
    layer.zero_grads()
    pullback(-2 * dy)
    layer.zero_grads()
    same(pullback(dy, dstate), first)
    for key, grad in layer.grads.items():
        np.testing.assert_array_equal(grad, once[key])


@layers
def test_none_is_zero(name):
    layer = make(name, num_layers=2, bidirectional=True)
    x, state, dy, dstate = problem(layer)
    zero = tuple(np.zeros_like(s) for s in dstate) if isinstance(dstate, tuple) else np.zeros_like(dstate)

    def run(dy, dstate, state=state):
        layer.zero_grads()
        back = layer.vjp(x, state)[1](dy, dstate)
        return (*back, *gradients(layer).values())

    same(run(None, dstate), run(np.zeros_like(dy), dstate))
    same(run(dy, None), run(dy, zero))
    same(run(dy, dstate, None), run(dy, dstate, zero))
    assert not any(array.any() for array in run(None, None)[2:])
    if isinstance(state, tuple):
        same(run(dy, (None, dstate[1])), run(dy, (zero[0], dstate[1])))
        same(run(dy, dstate, (state[0], None)), run(dy, dstate, (state[0], zero[1])))


@layers
def test_no_input_gradient(name):
    layer = make(name, num_layers=2)
    x, state, dy, dstate = problem(layer)
    right = layer.vjp(x, state)[1](dy, dstate)
    grads = gradients(layer)
    layer.zero_grads()
    dx, dstate_0 = layer.vjp(x, state, input_grad=False)[1](dy, dstate)
    assert dx is None
    same(dstate_0, right[1])
    same(tuple(layer.grads.values()), tuple(grads.values()))


@layers
def test_gradients_add_up(name):
    layer = make(name, num_layers=2, bidirectional=True, dtype=F64)
    x, state, dy, dstate = problem(layer)
    layer.vjp(x, state)[1](dy, dstate)
    once = gradients(layer)
    live = dict(layer.grads)
    layer.vjp(x, state)[1](dy, dstate)
    for key, grad in layer.grads.items():
        assert grad is live[key]
        assert_close(grad, 2 * once[key], 1e-12, key)
    layer.zero_grads()
    assert not any(grad.any() for grad in live.values())


@layers
def test_one_layer_many_times(name):
    """Each pullback owns what it saved: uses of one layer don't disturb each other, in any order."""
    layer = make(name, num_layers=2, bidirectional=True, dtype=F64)
    problems = [problem(layer, T=T, seed=T) for T in (3, 5, 8)]
    right = []
    for x, state, dy, dstate in problems:
        right.append(layer.vjp(x, state)[1](dy, dstate))
    total = gradients(layer)
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        layer.zero_grads()
        pullbacks = [layer.vjp(x, state)[1] for x, state, _, _ in problems]
        for k in order:
            _, _, dy, dstate = problems[k]
            same(pullbacks[k](dy, dstate), right[k])
        for key, grad in layer.grads.items():
            assert_close(grad, total[key], 1e-12, key)


def test_outputs_feed_the_next_layer():
    """A chain through y and through the state, and a layer that reads its own outputs."""
    layer = fr.GRU(5, 5, dtype=F64, seed=0)
    x, _, dy, _ = problem(layer)

    def forward():
        (y1, h1), _ = layer.vjp(x)
        return layer.vjp(y1, h1)[0][0]

    (y1, h1), first = layer.vjp(x)
    _, second = layer.vjp(y1, h1)
    layer.zero_grads()
    dy1, dh1 = second(dy)
    dx, _ = first(dy1, dh1)
    step = 1e-6 * np.random.default_rng(0).standard_normal(x.shape)
    x += step
    above = np.vdot(forward(), dy)
    x -= 2 * step
    below = np.vdot(forward(), dy)
    assert np.vdot(dx, step) == pytest.approx((above - below) / 2, rel=1e-6)


@layers
def test_a_pullback_that_ran_keeps_nothing(name):
    layer = make(name)
    x, _, dy, _ = problem(layer)
    x = x.copy()
    kept = weakref.ref(x)
    (y, _), pullback = layer.vjp(x)
    saved = weakref.ref(y)
    pullback(dy)
    del x, y
    gc.collect()
    assert kept() is None
    assert saved() is None
    assert "spent" in repr(pullback)


# ---- memory


@layers
def test_output_of_training_is_read_only(name):
    for options in ({}, {"num_layers": 2, "dropout": 0.2}):
        layer = make(name, **options)
        x, state, _, _ = problem(layer)
        (y, state_n), _ = layer.vjp(x, state)
        with pytest.raises(ValueError, match="read-only"):
            y[0] = 0
        assert all(s.flags.writeable for s in (state_n if isinstance(state_n, tuple) else (state_n,)))
        y, _ = layer(x, state)
        y[0] = 0


@layers
def test_arguments_are_left_as_they_were(name):
    layer = make(name, num_layers=2, bidirectional=True)
    x, state, dy, dstate = problem(layer)
    arrays = [x, dy, *(state if isinstance(state, tuple) else (state,))]
    arrays += dstate if isinstance(dstate, tuple) else (dstate,)
    before = [a.copy() for a in arrays]
    for array in arrays:
        array.flags.writeable = False
    right = layer.vjp(x, state)[1](dy, dstate)
    same(tuple(arrays), tuple(before))
    assert all(a.flags.writeable for a in (right[0], *(right[1] if isinstance(right[1], tuple) else right[1:])))


@layers
def test_lengths_may_change_after_the_call(name):
    layer = make(name, num_layers=2, bidirectional=True)
    x, state, dy, dstate = problem(layer)
    right = layer.vjp(x, state, lengths=[2, 5, 0])[1](dy, dstate)
    lengths = np.array([2, 5, 0], np.int64)
    _, pullback = layer.vjp(x, state, lengths=lengths)
    lengths[:] = [5, 1, 4]  # larger ones than T would take the kernels out of bounds
    same(pullback(dy, dstate), right)


@layers
def test_states_may_change_after_the_call(name):
    """A loop that carries its state in one array writes the next one over it."""
    layer = make(name, num_layers=2, bidirectional=True)
    x, state, dy, dstate = problem(layer)
    right = layer.vjp(x, state)[1](dy, dstate)
    grads = gradients(layer)
    layer.zero_grads()
    (_, state_n), pullback = layer.vjp(x, state)
    for value in (state, state_n):
        for array in value if isinstance(value, tuple) else (value,):
            array[...] = 100
    same(pullback(dy, dstate), right)
    same(tuple(layer.grads.values()), tuple(grads.values()))


@pytest.mark.parametrize("shape", [(64, 400, 40), (400, 64, 40)])
def test_layouts_are_not_copied(shape):
    """batch_first, and x of other strides, cost no memory in the size of x."""
    x = np.ones(shape, F32)
    for view, batch_first in ((x, True), (x, False), (x.swapaxes(0, 1), True), (x[::-1, ::2], False)):
        layer = fr.RNN(40, 1, batch_first=batch_first)
        for run in (layer, layer.vjp):
            tracemalloc.start()
            run(view)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < x.nbytes / 8


@pytest.mark.parametrize(
    "layout",
    [
        np.asfortranarray,
        lambda a: np.repeat(a, 2, -1)[..., ::2],
        lambda a: np.flip(np.flip(a).copy()),
        lambda a: np.frombuffer(b"\0" + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
        lambda a: np.broadcast_to(a, a.shape),
    ],
    ids=["fortran", "spaced", "backwards", "unaligned", "read_only"],
)
@layers
def test_any_strides(name, layout):
    layer = make(name, 3, 17, num_layers=2, bidirectional=True)
    x, state, dy, dstate = problem(layer)
    outputs, pullback = layer.vjp(x, state, lengths=[2, 5, 4])
    right = outputs, pullback(dy, dstate)

    def apply(value):
        return tuple(layout(v) for v in value) if isinstance(value, tuple) else layout(value)

    outputs, pullback = layer.vjp(apply(x), apply(state), lengths=[2, 5, 4])
    same((outputs, pullback(apply(dy), apply(dstate))), right)


@layers
def test_lists_and_integers(name):
    layer = make(name)
    x, state, dy, _ = problem(layer)
    right, pullback = layer.vjp(x, state, lengths=[2, 5, 4])
    gradient = pullback(dy)
    lists = tuple(s.tolist() for s in state) if isinstance(state, tuple) else state.tolist()
    for lengths in ((2, 5, 4), np.array([2, 5, 4], np.uint8), np.array([2, 5, 4], np.int32)):
        found, pullback = layer.vjp(x.tolist(), lists, lengths=lengths)
        same(found, right)
        same(pullback(dy.tolist()), gradient)


@pytest.mark.parametrize("batch_first", [False, True])
@layers
def test_empty_batch(name, batch_first):
    layer = make(name, num_layers=2, bidirectional=True, dropout=0.5, batch_first=batch_first)
    x, state, dy, dstate = problem(layer, B=0, batch_first=batch_first)
    for lengths in (None, [], np.zeros(0, np.int64)):
        (y, _), pullback = layer.vjp(x, state, lengths=lengths)
        dx, dstate_0 = pullback(dy, dstate)
        assert y.shape == dy.shape
        assert dx.shape == x.shape
        same(dstate_0, dstate)
    assert not any(grad.any() for grad in layer.grads.values())


# ---- parameters


def test_names_and_shapes_are_pytorchs():
    lstm = fr.LSTM(3, 5, 2, bidirectional=True, proj_size=2)
    assert {name: a.shape for name, a in lstm.params.items()} == {
        "weight_ih_l0": (20, 3), "weight_hh_l0": (20, 2), "bias_ih_l0": (20,), "bias_hh_l0": (20,),
        "weight_hr_l0": (2, 5), "weight_ih_l0_reverse": (20, 3), "weight_hh_l0_reverse": (20, 2),
        "bias_ih_l0_reverse": (20,), "bias_hh_l0_reverse": (20,), "weight_hr_l0_reverse": (2, 5),
        "weight_ih_l1": (20, 4), "weight_hh_l1": (20, 2), "bias_ih_l1": (20,), "bias_hh_l1": (20,),
        "weight_hr_l1": (2, 5), "weight_ih_l1_reverse": (20, 4), "weight_hh_l1_reverse": (20, 2),
        "bias_ih_l1_reverse": (20,), "bias_hh_l1_reverse": (20,), "weight_hr_l1_reverse": (2, 5),
    }  # fmt: skip
    gru, rnn = fr.GRU(3, 5, bias=False), fr.RNN(3, 5, 2, bias=False)
    assert {n: a.shape for n, a in gru.params.items()} == {"weight_ih_l0": (15, 3), "weight_hh_l0": (15, 5)}
    assert list(rnn.params) == ["weight_ih_l0", "weight_hh_l0", "weight_ih_l1", "weight_hh_l1"]
    assert gru.num_params == 15 * 8


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}], ids=str)
@pytest.mark.parametrize("kind", ["LSTM", "LSTM_projected", "GRU", "RNN"])
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_the_same_weights_in_pytorch(kind, options):
    torch = pytest.importorskip("torch")
    kind, _, projected = kind.partition("_")
    options = options | ({"proj_size": 2} if projected else {})
    peer, layer = getattr(torch.nn, kind)(3, 5, **options), getattr(fr, kind)(3, 5, **options)
    layer.load_state_dict({name: value.numpy() for name, value in peer.state_dict().items()})
    assert list(layer.params) == list(peer.state_dict())
    x = np.random.default_rng(0).standard_normal((7, 4, 3)).astype(F32)
    (y, _), pullback = layer.vjp(x)
    peer_x = torch.tensor(x, requires_grad=True)
    peer_y, _ = peer(peer_x)
    assert_close(y, peer_y.detach().numpy(), 1e-5)
    peer_y.backward(torch.ones_like(peer_y))
    assert_close(pullback(np.ones_like(y))[0], peer_x.grad.numpy(), 1e-4)
    for name, value in peer.named_parameters():
        assert_close(layer.grads[name], value.grad.numpy(), 1e-4, name)


@layers
def test_initial_weights(name):
    layer = make(name, 3, 50, dtype=F64)
    for key, param in layer.params.items():
        assert np.abs(param).max() <= 50**-0.5, key
        assert np.abs(param).max() > 0.9 * 50**-0.5, key
        np.testing.assert_array_equal(make(name, 3, 50, dtype=F64).params[key], param)
        assert not layer.grads[key].any()
    cls, config = type(layer), layer.config()
    assert not np.array_equal(cls(**config, seed=1).params["weight_ih_l0"], layer.params["weight_ih_l0"])
    assert not np.array_equal(cls(**config).params["weight_ih_l0"], cls(**config).params["weight_ih_l0"])
    rng = np.random.default_rng(0)
    one, two = cls(**config, seed=rng), cls(**config, seed=rng)
    assert not np.array_equal(one.params["weight_ih_l0"], two.params["weight_ih_l0"])


@layers
def test_state_dict(name):
    layer = make(name, num_layers=2, bidirectional=True)
    state = layer.state_dict()
    weight = layer.params["weight_hh_l1_reverse"]
    weight += 1
    assert not np.array_equal(state["weight_hh_l1_reverse"], weight)
    layer.load_state_dict({key: a.astype(F64) for key, a in state.items()})
    assert layer.params["weight_hh_l1_reverse"] is weight
    assert weight.dtype == F32
    np.testing.assert_array_equal(weight, state["weight_hh_l1_reverse"])
    wrong = {key: a for key, a in state.items() if key != "weight_ih_l0"}
    wrong |= {"weight_hh_l0": np.ones((1, 1)), "weight_xx_l0": np.ones(1), "bias_ih_l0": np.ones(1, int)}
    with pytest.raises(ValueError, match=f"state does not fit this {type(layer).__name__}") as caught:
        layer.load_state_dict(wrong)
    for part in (
        "missing: weight_ih_l0",
        "misshapen: weight_hh_l0",
        "unknown: weight_xx_l0",
        "misshapen: bias_ih_l0",
    ):
        assert part in str(caught.value)


@layers
def test_parameters_are_live(name):
    layer = make(name)
    x, _, _, _ = problem(layer)
    before = layer(x)[0]
    layer.params["weight_ih_l0"] *= 2
    doubled = layer(x)[0]
    assert not np.array_equal(doubled, before)
    layer.params["weight_ih_l0"] = layer.params["weight_ih_l0"] / 2
    np.testing.assert_array_equal(layer(x)[0], before)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy, lambda layer: pickle.loads(pickle.dumps(layer))])
@layers
def test_copies(name, duplicate):
    layer = make(name, 3, 9, num_layers=2, bidirectional=True, dropout=0.25)
    x, state, dy, _ = problem(layer)
    again = duplicate(layer)
    same(again(x, state), layer(x, state))
    same(again.vjp(x, state, seed=1)[0], layer.vjp(x, state, seed=1)[0])
    again.vjp(x, state, seed=1)[1](dy)
    assert any(grad.any() for grad in again.grads.values())
    assert not any(grad.any() for grad in layer.grads.values())


@layers
def test_config_rebuilds_it(name):
    layer = make(name, 3, 9, num_layers=2, bidirectional=True, dropout=0.25, batch_first=True, bias=False, dtype=F64)
    config = json.loads(json.dumps(layer.config()))
    again = type(layer)(**config)
    assert again.config() == layer.config()
    assert repr(again) == repr(layer)
    assert again.dtype == layer.dtype
    again.load_state_dict(layer.state_dict())
    x, state, _, _ = problem(layer, batch_first=True)
    same(again(x, state), layer(x, state))
    assert nn.from_spec(json.loads(json.dumps(nn.to_spec(layer)))).config() == layer.config()


@layers
def test_saved_and_loaded(name, tmp_path):
    layer = make(name, 3, 9, num_layers=2, bidirectional=True)
    fr.save(layer, tmp_path / "layer.safetensors")
    again = fr.load(tmp_path / "layer.safetensors")
    x, state, _, _ = problem(layer)
    same(again(x, state), layer(x, state))


def test_a_refused_pullback_of_a_stack_can_run_again():
    """Gradients of the lower layers are looked at before the upper ones are overwritten."""
    layer = fr.LSTM(3, 5, 2, seed=0)
    x = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float32)
    dy = np.ones((4, 2, 5), np.float32)
    expected = layer.vjp(x)[1](dy)[0]
    grads = {name: grad.copy() for name, grad in layer.grads.items()}
    layer.zero_grads()
    _, pullback = layer.vjp(x)
    layer.grads["weight_ih_l0"].flags.writeable = False
    with pytest.raises(ValueError, match="dW"):
        pullback(dy)
    layer.grads["weight_ih_l0"].flags.writeable = True
    np.testing.assert_array_equal(pullback(dy)[0], expected)
    for name, grad in grads.items():
        np.testing.assert_array_equal(layer.grads[name], grad, err_msg=name)


def test_layers_of_unequal_sizes_are_refused():
    one, other = fr.LSTM(3, 5, seed=0), fr.LSTM(5, 9, seed=0)
    x = np.zeros((4, 2, 3), np.float32)
    layers = one._layers() + other._layers()
    with pytest.raises(ValueError, match="layers"):
        _core.forward_layers(_core.LSTM, x, layers, None, None, None, False, False, 0, 0.0, 0)
