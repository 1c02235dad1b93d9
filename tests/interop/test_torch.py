"""The modules beside torch.nn's: results, gradients, strides, errors."""

import copy
import itertools

import pytest

torch = pytest.importorskip("torch")

from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence  # noqa: E402

import fastrnn.interop.torch as fast  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

CELLS = ("RNN", "LSTM", "GRU")
KINDS = [(cell, {}) for cell in CELLS] + [("RNN", {"nonlinearity": "relu"}), ("LSTM", {"proj_size": 3})]
I, H, T, B = 5, 7, 6, 3


def pair(cell, **options):
    """A module of torch.nn, and one of ours with equal parameters."""
    torch.manual_seed(0)
    plain = getattr(torch.nn, cell)(I, H, **options)
    ours = getattr(fast, cell)(I, H, **options)
    ours.load_state_dict(plain.state_dict())
    ours._fastrnn_unsupported = "error"
    return plain, ours


def states(module, batch, dtype=torch.float32):
    """Initial states, as torch.nn takes them."""
    rows = module.num_layers * (2 if module.bidirectional else 1)
    middle = () if batch is None else (batch,)
    h = torch.randn(rows, *middle, module.proj_size or H, dtype=dtype)
    return (h, torch.randn(rows, *middle, H, dtype=dtype)) if module.mode == "LSTM" else h


def leaves(value):
    """Copies of tensors that require gradients."""
    if value is None:
        return None
    if isinstance(value, tuple):
        return tuple(leaves(part) for part in value)
    return value.clone().requires_grad_()


def flat(value):
    if value is None:
        return []
    if isinstance(value, PackedSequence):
        return [value.data]
    if isinstance(value, tuple):
        return [tensor for part in value for tensor in flat(part)]
    return [value]


def outcome(module, x, hx, pack=None):
    """Outputs and all gradients, of a loss that weighs every number differently."""
    x, hx = leaves(x), leaves(hx)
    outputs = flat(module(x if pack is None else pack(x), hx))
    generator = torch.Generator().manual_seed(1)
    loss = sum((out * torch.randn(out.shape, generator=generator, dtype=out.dtype)).sum() for out in outputs)
    module.zero_grad()
    loss.backward()
    return [*outputs, *(leaf.grad for leaf in (x, *flat(hx))), *(p.grad for p in module.parameters())]


def assert_same(found, expected, tolerance=1e-5):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        assert ours.stride() == theirs.stride()
        assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max().clamp(min=1)


@pytest.mark.parametrize("kind", ["batch", "unbatched", "packed", "packed, sorted"])
@pytest.mark.parametrize(("cell", "more"), KINDS, ids=str)
def test_as_in_pytorch(cell, more, kind):
    """Every combination of directions, biases, layouts, layers, types and given states."""
    for D, bias, batch_first, L, dtype, given in itertools.product(
        (False, True), (True, False), (False, True), (1, 2), (torch.float32, torch.float64), (False, True)
    ):
        options = {"bidirectional": D, "bias": bias, "batch_first": batch_first, "num_layers": L, "dtype": dtype}
        plain, ours = pair(cell, **options, **more)
        shape = (T, I) if kind == "unbatched" else (B, T, I) if batch_first else (T, B, I)
        x = torch.randn(shape, dtype=dtype)
        hx = states(plain, None if kind == "unbatched" else B, dtype) if given else None
        pack = None
        if kind == "packed":
            pack = lambda x, first=batch_first: pack_padded_sequence(x, [4, 6, 1], first, enforce_sorted=False)  # noqa: E731
        elif kind == "packed, sorted":
            pack = lambda x, first=batch_first: pack_padded_sequence(x, [6, 6, 2], first)  # noqa: E731
        tolerance = 1e-5 if dtype is torch.float32 else 1e-12
        assert_same(outcome(ours, x, hx, pack), outcome(plain, x, hx, pack), tolerance)


@pytest.mark.parametrize("cell", CELLS)
def test_packed_results_are_packed(cell):
    plain, ours = pair(cell, bidirectional=True)
    packed = pack_sequence([torch.randn(n, I) for n in (2, 5, 3)], enforce_sorted=False)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            (y, state), (expected, expected_state) = ours(packed), plain(packed)
        assert isinstance(y, PackedSequence)
        assert_same([y.data, *flat(state)], [expected.data, *flat(expected_state)])
        for ours_, theirs in zip(y[1:], expected[1:], strict=True):
            assert torch.equal(ours_, theirs)


@pytest.mark.parametrize("cell", CELLS)
def test_tensors_of_any_strides(cell):
    plain, ours = pair(cell, num_layers=2)
    wide = torch.randn(2 * B, T, 2 * I)
    inputs = [wide[::2, :, ::2].transpose(0, 1), wide[:B, :, :I].transpose(0, 1), torch.randn(1, 1, I).expand(T, B, I)]
    hx = states(plain, 2 * B)
    hx = tuple(h[:, ::2] for h in hx) if isinstance(hx, tuple) else hx[:, ::2]
    for x in inputs:
        assert not x.is_contiguous()
        found, expected = flat(ours(x, hx)), flat(plain(x, hx))
        assert_same(found, expected)
        y = flat(ours(x.detach().requires_grad_()))[0]
        y.sum().backward()  # dy is one number, expanded


def test_nothing_is_copied_in_inference():
    _, ours = pair("GRU")
    with torch.inference_mode():
        y, h = ours(torch.randn(T, B, I))
    assert y.is_inference() and h.is_inference()
    assert y.numpy().__array_interface__["data"][0] == y.data_ptr()


@pytest.mark.parametrize("wanted", ["x", "h", "weight_hh_l1", "bias_ih_l0"])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_of_some(cell, wanted):
    found = []
    for module in pair(cell, num_layers=2):
        torch.manual_seed(2)
        x, h = torch.randn(T, B, I), states(module, B)
        for parameter in module.parameters():
            parameter.requires_grad_(False)
        named = {"x": x, "h": flat(h)[0], **dict(module.named_parameters())}
        leaf = named[wanted].requires_grad_()
        y, _ = module(x, h)
        y.square().sum().backward()
        found.append([y.detach(), leaf.grad])
        assert all(tensor.grad is None for tensor in named.values() if tensor is not leaf)
    assert_same(*found)


@pytest.mark.parametrize("cell", CELLS)
def test_one_output_of_several(cell):
    """Gradients of only y, only h_n, only c_n."""
    plain, ours = pair(cell, bidirectional=True)
    x = torch.randn(T, B, I)
    for which in range(len(flat(plain(x)))):
        grads = []
        for module in (ours, plain):
            module.zero_grad()
            flat(module(x))[which].square().sum().backward()
            grads.append([p.grad for p in module.parameters()])
        assert_same(*grads)


def test_no_graph_where_nothing_needs_one():
    _, ours = pair("LSTM")
    ours.requires_grad_(False)
    y, (h, c) = ours(torch.randn(T, B, I))
    assert not (y.requires_grad or h.requires_grad or c.requires_grad)
    ours.requires_grad_(True)
    with torch.no_grad():
        assert ours(torch.randn(T, B, I))[0].grad_fn is None


# ---- dropout


@pytest.mark.parametrize("cell", CELLS)
def test_dropout_follows_the_seed(cell):
    plain, ours = pair(cell, num_layers=3, dropout=0.4)
    x = torch.randn(T, B, I)
    drawn = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        drawn.append(ours(x)[0])
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(ours(x)[0], ours(x)[0])
    ours.eval()
    plain.eval()
    state = torch.get_rng_state()
    assert_same(flat(ours(x)), flat(plain(x)))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("cell", CELLS)
def test_dropout_may_change(cell):
    """As PyTorch's tests have it: the attribute counts at each call, and all is dropped at 1."""
    plain, ours = pair(cell, num_layers=2)
    ours._fastrnn_unsupported = "ignore"
    x, found = torch.randn(T, B, I), {}
    for rate in (0.0, 0.5, 1.0, 0.2, 0.0, 1.0):
        ours.dropout = plain.dropout = rate
        first, second = ours(x)[0], ours(x)[0]
        assert torch.equal(first, second) == (rate in (0.0, 1.0))
        if rate in (0.0, 1.0):
            assert_same([first], [plain(x)[0]])
            assert torch.equal(found.setdefault(rate, first), first)


def test_dropout_under_another_default_device():
    module, x = fast.LSTM(I, H, 2, dropout=0.5), torch.randn(T, B, I)
    torch.manual_seed(1)
    expected = module(x)[0]
    torch.manual_seed(1)
    with torch.device("meta"):
        found = module(x)[0]
    assert torch.equal(found, expected)


def test_dropout_has_its_rate():
    """An RNN that hands on what it gets shows the mask."""
    module = fast.RNN(1, 200, 2, nonlinearity="relu", dropout=0.3, bias=False)
    with torch.no_grad():
        module.weight_ih_l0.fill_(1)
        module.weight_hh_l0.zero_()
        module.weight_ih_l1.copy_(torch.eye(200))
        module.weight_hh_l1.zero_()
    y = module(torch.ones(50, 4, 1))[0]
    values = y.unique()
    assert len(values) == 2 and values[0] == 0
    assert abs(values[1].item() - 1 / 0.7) < 1e-5
    assert abs((y == 0).float().mean().item() - 0.3) < 0.01  # 40,000 draws: a standard deviation is 0.0023


def test_dropout_has_gradients_of_its_own_masks():
    torch.manual_seed(0)
    module = fast.LSTM(2, 3, 3, dropout=0.5, dtype=torch.float64)
    x = torch.randn(4, 2, 2, dtype=torch.float64, requires_grad=True)

    def run(x, *weights):
        torch.manual_seed(5)
        return torch.func.functional_call(module, dict(zip(names, weights, strict=True)), (x,))[0]

    names = [name for name, _ in module.named_parameters()]
    assert torch.autograd.gradcheck(run, (x, *module.parameters()))


# ---- bad arguments


BAD = {
    "features": lambda m: (torch.randn(T, B, I + 1),),
    "dimensions": lambda m: (torch.randn(T, B, I, 1),),
    "type": lambda m: (torch.randn(T, B, I, dtype=torch.float64),),
    "no steps": lambda m: (torch.randn(0, B, I),),
    "rows of the state": lambda m: (torch.randn(T, B, I), states(m, B + 1)),
    "unbatched state": lambda m: (torch.randn(T, B, I), states(m, None)),
    "batched state": lambda m: (torch.randn(T, I), states(m, B)),
    "a list": lambda m: ([1.0, 2.0],),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("cell", CELLS)
def test_errors_are_pytorchs(cell, what):
    plain, ours = pair(cell)
    args = BAD[what](plain)
    with pytest.raises(Exception) as expected:  # noqa: PT011 -- whatever PyTorch raises
        plain(*args)
    with pytest.raises(type(expected.value)) as found:
        ours(*args)
    assert str(found.value) == str(expected.value)


def test_an_lstms_state_is_a_pair():
    _, ours = pair("LSTM")
    with pytest.raises((RuntimeError, IndexError, ValueError, TypeError)):
        ours(torch.randn(T, B, I), torch.randn(1, B, H))


def test_an_empty_batch():
    plain, ours = pair("GRU")
    assert [t.shape for t in flat(ours(torch.randn(T, 0, I)))] == [t.shape for t in flat(plain(torch.randn(T, 0, I)))]


# ---- what modules are for


@pytest.mark.parametrize("cell", CELLS)
def test_they_are_pytorchs_modules(cell):
    plain, ours = pair(cell, num_layers=2, bidirectional=True, dropout=0.1, batch_first=True)
    assert isinstance(ours, getattr(torch.nn, cell)) and repr(ours) == repr(plain)
    assert list(ours.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in plain.named_parameters()]
    torch.manual_seed(3)
    ours.reset_parameters()
    torch.manual_seed(3)
    plain.reset_parameters()
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    ours.flatten_parameters()
    assert ours.double()(torch.randn(B, T, I).double())[0].dtype is torch.float64
    twin = copy.deepcopy(ours)
    assert type(twin) is type(ours) and twin.weight_hh_l0 is not ours.weight_hh_l0


def test_one_layer_with_dropout_warns_as_pytorchs():
    with pytest.warns(UserWarning, match="dropout option adds dropout"):
        fast.GRU(2, 3, dropout=0.5)


def test_a_step_of_training_is_pytorchs():
    """The same losses over a hundred steps, from the same start."""
    losses = []
    for cell in (torch.nn.GRU, fast.GRU):
        torch.manual_seed(0)
        model = torch.nn.ModuleList([torch.nn.Embedding(11, 6), cell(6, 12, 2), torch.nn.Linear(12, 11)])
        optimiser = torch.optim.Adam(model.parameters(), 1e-2)
        text = torch.randint(11, (9, 4))
        run = []
        for _ in range(100):
            optimiser.zero_grad()
            logits = model[2](model[1](model[0](text[:-1]))[0])
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), text[1:].flatten())
            loss.backward()
            optimiser.step()
            run.append(loss.item())
        losses.append(torch.tensor(run))
    assert losses[0][-1] < 0.1 < losses[0][0]
    assert (losses[0] - losses[1]).abs().max() < 1e-4
