"""PyTorch's own table of modules, with its inputs for RNN, LSTM and GRU, is the yardstick.

It comes with PyTorch, for its own tests, and needs the package expecttest.
"""

import copy
import pickle
import re

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")
common = pytest.importorskip("torch.testing._internal.common_modules")

import fastrnn.interop.torch as fast  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

OURS = {torch.nn.RNN: fast.RNN, torch.nn.LSTM: fast.LSTM, torch.nn.GRU: fast.GRU}
INFOS = [info for info in common.module_db if info.module_cls in OURS]


def samples(info, dtype=torch.float64, requires_grad=False):
    """(module, arguments, reference) of all inputs in the table, the packed ones, too."""
    more = {} if info.module_cls is torch.nn.LSTM else {"with_packed_sequence": True}
    torch.manual_seed(0)
    inputs = info.module_inputs_func(
        info, device="cpu", dtype=dtype, requires_grad=requires_grad, training=True, **more
    )
    for sample in inputs:
        made, given = sample.constructor_input, sample.forward_input
        module = OURS[info.module_cls](*made.args, **made.kwargs).to(dtype)
        module._fastrnn_unsupported = "error"
        yield module, given.args, sample.reference_fn


def flat(value):
    if isinstance(value, torch.nn.utils.rnn.PackedSequence):
        return [value.data]
    return [t for part in value for t in flat(part)] if isinstance(value, tuple) else [value]


def plain_of(module):
    return fast.restore(copy.deepcopy(module))


def test_the_table_has_them():
    assert {info.module_cls for info in INFOS} == set(OURS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("info", INFOS, ids=lambda info: info.name)
def test_results(info, dtype):
    for module, args, reference in samples(info, dtype):
        found, expected = module(*args), plain_of(module)(*args)
        for mine, theirs in zip(flat(found), flat(expected), strict=True):
            torch.testing.assert_close(mine, theirs)
        if reference is not None and not isinstance(args[0], torch.nn.utils.rnn.PackedSequence):
            by_reference = reference(module, *args)
            for mine, theirs in zip(flat(found), flat(by_reference), strict=True):
                torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("info", INFOS, ids=lambda info: info.name)
def test_derivatives(info):
    for module, args, _ in samples(info, requires_grad=True):
        inputs = [t for arg in args for t in flat(arg)]
        packed = args[0] if isinstance(args[0], torch.nn.utils.rnn.PackedSequence) else None

        def run(data, *rest, module=module, packed=packed):
            states = rest[: len(rest) - len(list(module.parameters()))]
            x = data if packed is None else packed._replace(data=data)
            hx = () if not states else (states,) if module.mode == "LSTM" else states
            return tuple(flat(module(x, *hx)))

        inputs = tuple(t.detach().requires_grad_() for t in inputs)
        assert torch.autograd.gradcheck(run, (*inputs, *module.parameters()))


@pytest.mark.parametrize("info", INFOS, ids=lambda info: info.name)
def test_saved_and_shown(info, tmp_path):
    for module, args, _ in samples(info):
        expected = flat(module(*args))
        torch.save(module, tmp_path / "module.pt")
        twins = [pickle.loads(pickle.dumps(module)), torch.load(tmp_path / "module.pt", weights_only=False)]
        for twin in (*twins, copy.deepcopy(module)):
            for mine, theirs in zip(flat(twin(*args)), expected, strict=True):
                assert torch.equal(mine, theirs)
        assert str(module) == str(plain_of(module))


@pytest.mark.parametrize("info", INFOS, ids=lambda info: info.name)
def test_tensors_that_are_not_contiguous(info):
    def spread(value):
        if isinstance(value, tuple) and not isinstance(value, torch.nn.utils.rnn.PackedSequence):
            return tuple(spread(part) for part in value)
        if isinstance(value, torch.Tensor):
            wide = torch.full((*value.shape[:-1], 2 * value.shape[-1]), float("nan"), dtype=value.dtype)
            wide[..., ::2] = value
            return wide[..., ::2]
        return value

    for module, args, _ in samples(info):
        for mine, theirs in zip(flat(module(*spread(args))), flat(module(*args)), strict=True):
            torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("info", INFOS, ids=lambda info: info.name)
def test_errors(info):
    found = info.module_error_inputs_func(info, device="cpu", dtype=torch.float64, requires_grad=False, training=True)
    for sample in found:
        made, given = sample.module_error_input.constructor_input, sample.module_error_input.forward_input
        with pytest.raises(sample.error_type) as raised:
            OURS[info.module_cls](*made.args, **made.kwargs)(*given.args, **given.kwargs)
        assert re.search(sample.error_regex, str(raised.value))
