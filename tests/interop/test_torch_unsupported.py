"""What PyTorch's own kernels have to do: it is said, and the results are PyTorch's."""

import warnings

import pytest

torch = pytest.importorskip("torch")

import fastrnn.interop.torch as fast  # noqa: E402

CELLS = ("RNN", "LSTM", "GRU")


def pair(cell, *sizes, **options):
    torch.manual_seed(0)
    plain = getattr(torch.nn, cell)(*sizes, **options)
    ours = getattr(fast, cell)(*sizes, **options)
    ours.load_state_dict(plain.state_dict())
    return plain, ours


def flat(value):
    return [t for part in value for t in flat(part)] if isinstance(value, tuple) else [value]


class Marked(torch.Tensor):
    """A subclass of no use."""


def bfloat16(module, x):
    return module.bfloat16()(x.bfloat16())


def half(module, x):
    return module.half()(x.half())


def meta(module, x):
    return module.to("meta")(x.to("meta"))


def subclass(module, x):
    return module(x.as_subclass(Marked))


def all_dropped(module, x):
    module.dropout = 1.0
    return module(x)


CASES = {
    bfloat16: "the input is torch.bfloat16, fastrnn computes in torch.float32 and torch.float64",
    half: "the input is torch.float16",
    meta: "the input is on the device 'meta', fastrnn runs on the CPU",
    subclass: "the input is a Marked, a subclass of torch.Tensor",
    all_dropped: "everything between its layers is dropped",
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@pytest.mark.parametrize("cell", CELLS)
def test_it_is_said(cell, case):
    plain, ours = pair(cell, 4, 5, 2)
    x = torch.randn(6, 3, 4)
    mode = plain.mode
    with pytest.warns(UserWarning, match=rf"^fastrnn: this {mode} runs on PyTorch's own kernels: {CASES[case]}"):
        found = case(ours, x)
    expected = case(plain, x)
    for mine, theirs in zip(flat(found), flat(expected), strict=True):
        assert type(mine) is type(theirs) and mine.dtype == theirs.dtype and mine.device == theirs.device
        if case is not meta:
            assert torch.equal(mine, theirs)
    ours._fastrnn_unsupported = "ignore"
    case(ours, x)  # warnings are errors in these tests
    ours._fastrnn_unsupported = "error"
    with pytest.raises(NotImplementedError, match=rf"^fastrnn: this {mode} can't run on .*: {CASES[case]}"):
        case(ours, x)


def test_it_is_said_once():
    _, ours = pair("GRU", 4, 5)
    ours.half()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        for _ in range(3):
            ours(torch.randn(6, 3, 4).half())
    assert len(said) == 1


# ---- torch.func


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("cell", CELLS)
def test_transforms_of_functions(cell):
    plain, ours = pair(cell, 4, 5)
    x = torch.randn(6, 3, 4)

    def loss(module):
        return lambda weights: torch.func.functional_call(module, weights, (x,))[0].square().sum()

    with pytest.warns(UserWarning, match=r"a transform of torch\.func is active"):
        found = torch.func.grad(loss(ours))(dict(ours.named_parameters()))
    expected = torch.func.grad(loss(plain))(dict(plain.named_parameters()))
    for name in expected:
        torch.testing.assert_close(found[name], expected[name])
    ours._fastrnn_unsupported = "error"
    with pytest.raises(NotImplementedError, match=r"can't run on .* a transform of torch\.func is active"):
        torch.func.vmap(lambda x: ours(x)[0])(torch.stack([x, 2 * x]))


def test_forward_mode():
    plain, ours = pair("GRU", 4, 5)
    x, tangent = torch.randn(6, 3, 4), torch.randn(6, 3, 4)
    found = []
    for module in (ours, plain):
        with warnings.catch_warnings(record=True) as said, torch.autograd.forward_ad.dual_level():
            warnings.simplefilter("always")
            y = module(torch.autograd.forward_ad.make_dual(x, tangent))[0]
            found.append(torch.autograd.forward_ad.unpack_dual(y).tangent)
        reasons = [str(warning.message) for warning in said if "fastrnn" in str(warning.message)]
        assert (len(reasons) == 1 and "forward-mode" in reasons[0]) if module is ours else not reasons
    torch.testing.assert_close(*found)


def test_modes_that_look_at_operators():
    from torch.utils.flop_counter import FlopCounterMode

    counts = []
    for module in pair("GRU", 4, 5):
        if isinstance(module, fast.GRU):
            module._fastrnn_unsupported = "ignore"
        with FlopCounterMode(display=False) as counter:
            module(torch.randn(6, 3, 4))
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


# ---- autocast


def pack(x, lengths):
    return x if lengths is None else torch.nn.utils.rnn.pack_padded_sequence(x, lengths)


def unpacked(y):
    return y if isinstance(y, torch.Tensor) else y.data


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("lengths", [None, [6, 6, 6], [6, 4, 2]], ids=str)
@pytest.mark.parametrize("given", [None, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cell", [*CELLS, "projected LSTM"])
def test_autocast(cell, dtype, given, lengths):
    """The types are PyTorch's, the numbers those of float32, rounded once."""
    proj = 3 if cell == "projected LSTM" else 0
    plain, ours = pair(cell.split()[-1], 4, 5, 2, **({"proj_size": 3} if proj else {}))
    ours._fastrnn_unsupported = "error"
    data = torch.randn(6, 3, 4).to(dtype)
    h, c = torch.randn(2, 3, proj or 5).to(given or dtype), torch.randn(2, 3, 5).to(given or dtype)
    hx = None if given is None else (h, c) if plain.mode == "LSTM" else h
    exact_hx = None if given is None else (h.float(), c.float()) if plain.mode == "LSTM" else h.float()
    with torch.no_grad():
        exact = unpacked(ours(pack(data.float(), lengths), exact_hx)[0])
    results = []
    for module in (ours, plain):
        x = data.clone().requires_grad_()
        module.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y, state = module(pack(x, lengths), hx)
        y = unpacked(y)
        y.float().square().sum().backward()
        results.append([y, *flat(state), x.grad, *(p.grad for p in module.parameters())])
    for mine, theirs in zip(*results, strict=True):
        assert mine.dtype == theirs.dtype
        torch.testing.assert_close(mine.float(), theirs.float(), rtol=0.1, atol=0.1)
    bound = 0.0 if results[0][0].dtype is torch.float32 else 1 / 256
    assert (results[0][0].float() - exact).abs().max() <= bound * exact.abs().max()


def test_autocast_of_what_it_does_not_take():
    plain, ours = pair("GRU", 4, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for module in (plain, ours):
            with pytest.raises(RuntimeError, match="must have the same dtype"):
                module(torch.randn(6, 3, 4, dtype=torch.float64))


# ---- what is recorded is PyTorch's operators


def test_traces():
    plain, ours = pair("GRU", 4, 5)
    ours._fastrnn_unsupported = "error"
    x = torch.randn(6, 3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(ours, (x,))
    assert "aten::gru" in str(traced.inlined_graph)
    torch.testing.assert_close(traced(2 * x)[0], plain(2 * x)[0])


def test_scripts():
    plain, ours = pair("LSTM", 4, 5)
    model = torch.nn.Sequential(ours)
    x = torch.randn(6, 3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(model)
    torch.testing.assert_close(scripted(x)[0], plain(x)[0])


def test_symbolic_traces():
    """A recurrent layer is one node of torch.fx's graphs, as PyTorch's is."""

    class Tagger(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.output = torch.nn.LSTM(4, 5), torch.nn.Linear(5, 2)

        def forward(self, x, h, c):
            y, state = self.rnn(x)
            z, (h_n, _) = self.rnn(y[..., :4], hx=(h, c))
            return self.output(y + z), state, h_n

    model, state = Tagger(), torch.randn(1, 3, 5)
    before = torch.fx.symbolic_trace(model).graph
    fast.accelerate(model, unsupported="error")
    traced = torch.fx.symbolic_trace(model)
    assert [node.target for node in traced.graph.nodes] == [node.target for node in before.nodes]
    assert isinstance(traced.rnn, fast.LSTM)
    x = torch.randn(6, 3, 4)
    torch.testing.assert_close(traced(x, state, state), model(x, state, state))


@pytest.mark.filterwarnings("ignore")
def test_exported_programs():
    plain, ours = pair("GRU", 4, 5)
    x = torch.randn(6, 3, 4)
    program = torch.export.export(ours, (x,))
    assert "fastrnn" not in str(program.graph)
    torch.testing.assert_close(program.module()(x)[0], plain(x)[0])
