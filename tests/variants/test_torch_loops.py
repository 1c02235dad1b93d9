"""The reference's variants against PyTorch modules with a loop over time: outputs and gradients, in float64."""

import numpy as np
import pytest

from tests.reference.finite_differences import assert_close
from tests.variants.cases import VARIANTS, Case, H, I, T, arrays

torch = pytest.importorskip("torch")
loops = pytest.importorskip("tests.variants.torch_loops")

TOLERANCE = 1e-10
NOT_IN_LOOPS = {"projection", "reset_state"}
LOOPS = {
    "lstm": loops.LSTMLoop,
    "gru": loops.GRULoop,
    "rnn": loops.RNNLoop,
    "fast_rnn": loops.FastRNNLoop,
    "fast_grnn": loops.FastGRNNLoop,
}
SINGLE = [(cell, (name,)) for cell, names in VARIANTS.items() for name in names if name not in NOT_IN_LOOPS]
COMBINED = [
    ("lstm", ("norm", "peephole", "zoneout_masks", "recurrent_mask", "resets")),
    ("lstm", ("coupled", "peephole", "clip", "activations")),
    ("lstm", ("coupled", "norm", "clip", "zoneout_share")),
    ("gru", ("norm", "reset_before", "recurrent_mask", "zoneout_masks")),
    ("gru", ("norm", "activations", "resets")),
    ("rnn", ("norm", "clip", "activations", "recurrent_mask", "resets", "zoneout_share")),
]
PLAIN = [(cell, ()) for cell in VARIANTS]


def as_tensor(a):
    return torch.tensor(np.ascontiguousarray(a))


def module(case):
    """The loop with the case's parameters."""
    settings = {"layer_norm": True} if case.gains else {}
    for name in ("clip", "activations", "coupled", "reset_after"):
        if name in case.options:
            settings[name] = case.options[name]
    if "peephole" in case.weights:
        settings["peephole"] = True
    loop = LOOPS[case.cell](I, H, dtype=torch.float64, **settings)
    parameters = {name: as_tensor(a) for name, a in (case.weights | case.gains).items()}
    loop.load_state_dict(parameters)
    return loop


def between(options, reverse):
    """Masks as the loop takes them; it reads forward, so what a reverse run reads is flipped for it."""
    found = {}
    if (zoneout := options.get("zoneout")) is not None:
        found["zoneout"] = tuple(
            d if isinstance(d, float) else as_tensor(d[::-1] if reverse else d) for d in arrays(zoneout)
        )
    if (mask := options.get("recurrent_mask")) is not None:
        found["recurrent_mask"] = as_tensor(mask)
    if (mask := options.get("reset_mask")) is not None:
        found["reset_mask"] = as_tensor(np.concatenate([np.zeros_like(mask[:1]), mask[:0:-1]]) if reverse else mask)
    return found


@pytest.mark.parametrize(
    "cell, names", PLAIN + SINGLE + COMBINED, ids=lambda v: v if isinstance(v, str) else "+".join(v)
)
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_outputs_and_gradients(cell, names, reverse):
    case = Case(cell, names, seed=7, reverse=reverse)
    (y, state_n, states), pullback = case.vjp()
    dx, dstate_0, grads = pullback(*case.cotangents())

    turned = (lambda a: a[::-1]) if reverse else (lambda a: a)
    loop = module(case)
    x = as_tensor(turned(case.x)).requires_grad_()
    start = tuple(as_tensor(s).requires_grad_() for s in case.states)
    y_t, end, whole = loop(x, start, **between(case.options, reverse))
    pairs = [(y_t, turned(case.dy)), *zip(end, case.dstate_n), *((s, turned(d)) for s, d in zip(whole, case.dstates))]
    sum((a * as_tensor(d)).sum() for a, d in pairs).backward()

    def same(actual, expected, what):
        assert_close(actual, expected.detach().numpy(), TOLERANCE, what)

    same(turned(y), y_t, "y")
    for k in range(len(start)):
        same(arrays(state_n)[k], end[k], f"state_n {k}")
        same(turned(arrays(states)[k]), whole[k], f"states {k}")
        same(arrays(dstate_0)[k], start[k].grad, f"dstate_0 {k}")
    same(turned(dx), x.grad, "dx")
    for name, parameter in loop.named_parameters():
        same(getattr(grads, name), parameter.grad, name)


@pytest.mark.parametrize("name", sorted(loops.ACTIVATIONS))
def test_activations(name):
    case = Case("rnn", seed=8)
    spec = (name, 0.7, 0.3)
    case.options["activations"] = (spec,)
    loop = module(case)
    x = as_tensor(case.x).requires_grad_()
    y = loop(x, tuple(as_tensor(s) for s in case.states))[0]
    (y * as_tensor(case.dy)).sum().backward()
    (expected, _, _), pullback = case.vjp()
    assert_close(expected, y.detach().numpy(), TOLERANCE)
    assert_close(pullback(case.dy)[0], x.grad.numpy(), TOLERANCE)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_plain_loops_are_those_of_torch(cell):
    """So that the loops themselves are known to be right."""
    case = Case(cell, seed=9)
    whole = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[cell](I, H, dtype=torch.float64)
    whole.load_state_dict({f"{name}_l0": as_tensor(a) for name, a in case.weights.items()})
    y, _ = whole(as_tensor(case.x))
    assert y.shape[0] == T
    assert_close(module(case)(as_tensor(case.x))[0].detach().numpy(), y.detach().numpy(), 1e-12)
