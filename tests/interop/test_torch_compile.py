"""What torch.compile makes of the modules."""

import copy

import pytest

torch = pytest.importorskip("torch")

import fastrnn.interop.torch as fast  # noqa: E402
from fastrnn.interop.torch import _operator, _run  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of the compiler

KINDS = [
    ("GRU", {}),
    ("LSTM", {"bidirectional": True, "batch_first": True}),
    ("LSTM", {"proj_size": 3}),
    ("RNN", {"bias": False, "nonlinearity": "relu"}),
]


@pytest.fixture(autouse=True)
def whole_graphs():
    """PyTorch's compiler leaves recurrent modules out of its graphs unless it is told."""
    import torch._dynamo

    torch._dynamo.reset()
    with torch._dynamo.config.patch(allow_rnn=True):
        yield
    torch._dynamo.reset()


@pytest.fixture
def forwards(monkeypatch):
    ran = []
    real = _run.forward
    monkeypatch.setattr(_run, "forward", lambda *args: ran.append(args) or real(*args))
    return ran


class Model(torch.nn.Module):
    def __init__(self, cell, **options):
        super().__init__()
        self.embedding = torch.nn.Embedding(20, 8)
        self.rnn = getattr(torch.nn, cell)(8, 12, 2, **options)

    def forward(self, x, hx=None):
        y, state = self.rnn(self.embedding(x), hx)
        return y.relu().square(), state


@pytest.mark.parametrize(("cell", "options"), KINDS, ids=str)
def test_one_graph(cell, options, forwards):
    torch.manual_seed(0)
    plain = Model(cell, **options)
    ours = fast.accelerate(copy.deepcopy(plain), unsupported="error")
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    for shape in ((5, 3), (7, 4)):  # other sizes, too
        x = torch.randint(20, shape)
        del forwards[:]
        for model in (plain, compiled):
            model.zero_grad()
            y, state = model(x)
            (y.sum() + sum(s.sum() for s in (state if isinstance(state, tuple) else (state,)))).backward()
        assert len(forwards) == 1, "backward found what forward has saved"
        for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)
        with torch.no_grad():
            torch.testing.assert_close(compiled(x)[0], plain(x)[0], rtol=1e-5, atol=1e-6)
    del y, state
    assert not _operator._SAVED


def test_given_states():
    torch.manual_seed(0)
    ours = fast.LSTM(3, 4)
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    x, h, c = torch.randn(5, 2, 3), torch.randn(1, 2, 4, requires_grad=True), torch.randn(1, 2, 4)
    grads = [torch.autograd.grad(module(x, (h, c))[0].sum(), [h, ours.bias_hh_l0]) for module in (ours, compiled)]
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_dropout_is_drawn_anew():
    ours = fast.GRU(4, 5, 3, dropout=0.5)
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    x = torch.randn(6, 2, 4)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        y = compiled(x)[0]
        y.sum().backward()
        drawn.append(y.detach())
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_the_operators_keep_pytorchs_rules():
    for cell, tensors in (("GRU", 0), ("LSTM", 2)):
        module = getattr(fast, cell)(3, 4, 2, bidirectional=True, dtype=torch.float64)
        x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
        states = [torch.randn(4, 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(tensors)] or [None, None]
        args = (x, *states, list(module.parameters()), None, True, cell, 2, True, False, False, False, 0.0)
        torch.library.opcheck(
            torch.ops.fastrnn.recurrent.default, args,
            test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
        )  # fmt: skip


def test_backward_without_what_was_saved(forwards):
    """A token may be gone, or used: then forward runs again."""
    torch.manual_seed(0)
    module = fast.GRU(3, 4)
    weights, x = [p.detach() for p in module.parameters()], torch.randn(5, 2, 3)
    spec = ("GRU", 1, True, False, False, False, 0.0)
    y, _, _, token = torch.ops.fastrnn.recurrent(x, None, None, weights, None, True, *spec)
    wanted = [True, False, False, *(True for _ in weights)]
    back = (y, torch.ones_like(y), None, None, x, None, None, weights, None, wanted, *spec)
    first = torch.ops.fastrnn.recurrent_backward(token, *back)
    assert len(forwards) == 1
    second = torch.ops.fastrnn.recurrent_backward(token, *back)
    third = torch.ops.fastrnn.recurrent_backward(torch.tensor([-1]), *back)
    assert len(forwards) == 3
    for a, b, c in zip(first, second, third, strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)
    del token
    assert not _operator._SAVED


def test_without_the_switch_the_graph_breaks(forwards):
    torch.manual_seed(0)
    ours = fast.accelerate(Model("GRU"), unsupported="error")
    with torch._dynamo.config.patch(allow_rnn=False):
        compiled = torch.compile(ours, backend="aot_eager")
        x = torch.randint(20, (5, 3))
        compiled(x)[0].sum().backward()
    assert len(forwards) == 1


class Ragged(torch.nn.Module):
    """A model that packs and unpacks."""

    def __init__(self):
        super().__init__()
        self.rnn = fast.GRU(3, 4)

    def forward(self, x, lengths):
        y, _ = self.rnn(torch.nn.utils.rnn.pack_padded_sequence(2 * x, lengths))
        return torch.nn.utils.rnn.pad_packed_sequence(y)[0] + 1


def test_packed_sequences_break_the_graph():
    model = Ragged()
    x, lengths = torch.randn(5, 2, 3), torch.tensor([5, 2])
    compiled = torch.compile(model, backend="aot_eager")
    torch.testing.assert_close(compiled(x, lengths), model(x, lengths))


def test_types_that_are_pytorchs():
    module = fast.GRU(3, 4).bfloat16()
    module._fastrnn_unsupported = "ignore"
    x = torch.randn(5, 2, 3).bfloat16()
    compiled = torch.compile(module, backend="aot_eager")
    torch.testing.assert_close(compiled(x)[0], module(x)[0])
