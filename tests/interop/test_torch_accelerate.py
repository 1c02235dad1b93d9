"""`accelerate`, `restore` and `report`, and what models have done to their modules."""

import copy
import io
import pickle
import warnings

import pytest

torch = pytest.importorskip("torch")

from torch.nn.utils import parametrizations, parametrize, prune  # noqa: E402

import fastrnn.interop.torch as fast  # noqa: E402
from fastrnn.interop.torch import _run, accelerate, report, restore  # noqa: E402


class Tagger(torch.nn.Module):
    """What users have."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(10, 4)
        self.layers = torch.nn.ModuleList([torch.nn.LSTM(4, 5, bidirectional=True), torch.nn.GRU(10, 6)])
        self.out = torch.nn.Linear(6, 3)

    def forward(self, x):
        y = self.embedding(x)
        for layer in self.layers:
            y, _ = layer(y)
        return self.out(y)


class Seeded(torch.nn.GRU):
    """A subclass with no forward of its own."""

    def __init__(self, size):
        super().__init__(size, size, 2)
        self.extra = "extra"

    def hello(self):
        return f"hello {self.extra}"


class Loud(torch.nn.LSTM):
    """A subclass with its own."""

    def forward(self, input, hx=None):
        return super().forward(2 * input, hx)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Tagger()


@pytest.fixture
def calls(monkeypatch):
    """How often the kernels ran."""
    ran = []
    real = _run.forward
    monkeypatch.setattr(_run, "forward", lambda *args: ran.append(args) or real(*args))
    return ran


def text():
    return torch.randint(10, (7, 2), generator=torch.Generator().manual_seed(1))


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


# ---- there and back


def test_modules_stay_what_they_are(model, calls):
    expected = model(text())
    layers, parameters, before = list(model.layers), list(model.parameters()), repr(model)
    assert accelerate(model) is model
    assert all(a is b for a, b in zip(model.layers, layers, strict=True)) and repr(model) == before
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert [type(layer) for layer in layers] == [fast.LSTM, fast.GRU]
    assert isinstance(layers[0], torch.nn.LSTM)
    close(model(text()), expected)
    assert len(calls) == 2
    assert accelerate(model) is model  # again: nothing to do
    assert restore(model) is model
    assert [type(layer) for layer in layers] == [torch.nn.LSTM, torch.nn.GRU]
    assert not [name for name in vars(layers[0]) if "fastrnn" in name]
    assert torch.equal(model(text()), expected) and len(calls) == 2


def test_optimisers_go_on(model):
    twin = copy.deepcopy(model)
    losses = []
    for each, then in ((model, accelerate), (twin, lambda model: model)):
        optimiser = torch.optim.Adam(each.parameters(), 1e-2)
        run = []
        for step in range(20):
            if step == 10:
                then(each)  # in the middle
            optimiser.zero_grad()
            loss = each(text()).square().sum()
            loss.backward()
            optimiser.step()
            run.append(loss.item())
        losses.append(torch.tensor(run))
    assert losses[0][-1] < losses[0][0]
    close(losses[0], losses[1])


def test_a_module_by_itself(calls):
    gru = torch.nn.GRU(3, 4)
    expected = gru(torch.ones(2, 3))[0]
    close(accelerate(gru)(torch.ones(2, 3))[0], expected)
    assert len(calls) == 1 and report(gru) == {"": "fastrnn"}


def test_hooks(model):
    seen = []
    gru = model.layers[1]
    gru.register_forward_pre_hook(lambda module, args: seen.append("before"))
    gru.register_forward_hook(lambda module, args, output: seen.append("after") or (2 * output[0], output[1]))
    gru.register_full_backward_hook(lambda module, din, dout: seen.append("backward"))
    expected = model(text())
    del seen[:]
    found = accelerate(model)(text())
    close(found, expected)
    found.sum().backward()
    assert seen == ["before", "after", "backward"]


# ---- what can't be


def test_report(model):
    model.layers.extend([torch.nn.GRUCell(2, 3), Loud(2, 3), Seeded(2)])
    loud = "it has a forward of its own"
    with pytest.warns(UserWarning, match=r"^fastrnn: layers\.[23] \(.*\) runs on PyTorch's own kernels: it") as said:
        accelerate(model)
    assert len(said) == 2 and "tests.interop.test_torch_accelerate.Loud" in str(said[1].message)
    assert report(model) == {
        "layers.0": "fastrnn",
        "layers.1": "fastrnn",
        "layers.2": "PyTorch: it runs one step a call",
        "layers.3": f"PyTorch: {loud}",
        "layers.4": "fastrnn",
    }
    assert report(restore(model))["layers.4"] == "PyTorch"


def test_refused(model):
    model.loud = Loud(4, 5)
    with pytest.raises(NotImplementedError, match=r"^fastrnn: loud \(.*Loud\) can't run on .*: it has a"):
        accelerate(model, unsupported="error")
    assert type(model.layers[0]) is torch.nn.LSTM  # nothing was changed
    accelerate(model, unsupported="ignore")
    assert type(model.loud) is Loud and type(model.layers[0]) is fast.LSTM


def test_a_forward_put_in_its_place():
    gru = torch.nn.GRU(2, 3)
    gru.forward = lambda *args: "mine"
    with pytest.warns(UserWarning, match=r"the model \(torch\.nn\.modules\.rnn\.GRU\) .* a forward of its own"):
        assert accelerate(gru)(1) == "mine"


def test_nothing_to_do():
    with pytest.warns(UserWarning, match=r"this Linear .* it has no torch\.nn\.RNN, LSTM or GRU"):
        accelerate(torch.nn.Linear(2, 3))
    accelerate(torch.nn.Linear(2, 3), unsupported="ignore")


@pytest.mark.parametrize("function", [accelerate, restore, report])
def test_a_model_is_expected(function):
    with pytest.raises(TypeError, match=r"^model: expected a torch\.nn\.Module, got type$"):
        function(torch.nn.GRU)


@pytest.mark.parametrize("value", ["maybe", None, True])
def test_choices(value):
    with pytest.raises(ValueError, match=r"^unsupported: expected 'warn', 'error' or 'ignore', got "):
        accelerate(torch.nn.GRU(2, 3), unsupported=value)


@pytest.mark.filterwarnings("ignore")
def test_what_others_have_made_of_modules():
    scripted = torch.jit.script(torch.nn.GRU(2, 3))
    with pytest.raises(NotImplementedError, match=r"torch\.jit\.script has compiled it"):
        accelerate(scripted, unsupported="error")
    quantised = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(torch.nn.LSTM(2, 3)), {torch.nn.LSTM})
    assert report(quantised) == {"0": "PyTorch: it is none of torch.nn.RNN, LSTM and GRU"}


def test_subclasses(calls):
    torch.manual_seed(0)
    mine = Seeded(3)
    x = torch.randn(4, 2, 3)
    expected = mine(x)[0]
    accelerate(mine)
    close(mine(x)[0], expected)
    assert len(calls) == 1 and isinstance(mine, Seeded) and isinstance(mine, fast.GRU)
    assert mine.hello() == "hello extra" and type(mine).__name__ == "Seeded"
    for twin in (copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))):
        assert type(twin) is type(mine) and twin.hello() == "hello extra"
        close(twin(x)[0], expected)
    assert type(accelerate(Seeded(2))) is type(mine)
    assert type(restore(mine)) is Seeded


def test_users_subclasses_of_ours_stay():
    class Own(fast.GRU):
        """A class that was never plain."""

    with pytest.raises(TypeError, match=r"restore: .*Own is a subclass of GRU, and was made as one"):
        restore(Own(2, 3))


# ---- weights by their names


def same_as_plain(make, x, change):
    """`change` of a module before and after it is accelerated."""
    for late in (False, True):
        torch.manual_seed(0)
        plain = make()
        ours = copy.deepcopy(plain)
        if late:
            accelerate(ours, unsupported="error")
        torch.manual_seed(1)
        change(plain)
        torch.manual_seed(1)
        change(ours)
        if not late:
            accelerate(ours, unsupported="error")
        for training in (True, False):
            plain.train(training)
            ours.train(training)
            torch.manual_seed(2)
            expected = plain(x)[0]
            torch.manual_seed(2)
            found = ours(x)[0]
            close(found, expected)
        expected.sum().backward()
        found.sum().backward()
        grads = dict(plain.named_parameters())
        for name, parameter in ours.named_parameters():
            close(parameter.grad, grads[name].grad)
        yield ours


class Doubled(torch.nn.Module):
    def forward(self, weight):
        return 2 * weight


def test_parametrisations(calls):
    def change(gru):
        parametrizations.weight_norm(gru, "weight_hh_l0")
        parametrize.register_parametrization(gru, "weight_ih_l0", Doubled())

    for ours in same_as_plain(lambda: torch.nn.GRU(3, 4), torch.randn(5, 2, 3), change):
        assert isinstance(ours, fast.GRU) and parametrize.is_parametrized(ours)
        assert report(ours) == {"": "fastrnn"}
        twin = copy.deepcopy(ours)
        close(twin(torch.ones(5, 2, 3))[0], ours(torch.ones(5, 2, 3))[0])
        restore(ours)
        close(twin(torch.ones(5, 2, 3))[0], ours(torch.ones(5, 2, 3))[0])
        assert not isinstance(ours, fast.GRU) and parametrize.is_parametrized(ours)
        parametrize.remove_parametrizations(ours, "weight_hh_l0")
        parametrize.remove_parametrizations(ours, "weight_ih_l0")
        assert type(ours) is torch.nn.GRU
        parametrize.register_parametrization(accelerate(ours), "weight_hh_l0", Doubled())
        found = ours(torch.ones(5, 2, 3))[0]
        parametrize.remove_parametrizations(ours, "weight_hh_l0")
        assert type(ours) is fast.GRU
        close(ours(torch.ones(5, 2, 3))[0], found)
    assert len(calls) >= 4


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
def test_weight_norm_of_old():
    def change(gru):
        torch.nn.utils.weight_norm(gru, "weight_hh_l0")

    assert list(same_as_plain(lambda: torch.nn.GRU(3, 4), torch.randn(5, 2, 3), change))


def test_pruning():
    def change(lstm):
        prune.random_unstructured(lstm, "weight_hh_l0", 0.5)

    for ours in same_as_plain(lambda: torch.nn.LSTM(3, 4), torch.randn(5, 2, 3), change):
        assert (ours.weight_hh_l0 == 0).sum() == 32
        prune.remove(ours, "weight_hh_l0")
        assert isinstance(ours.weight_hh_l0, torch.nn.Parameter)


def test_weights_that_are_replaced():
    torch.manual_seed(0)
    ours, other = accelerate(torch.nn.GRU(3, 4)), torch.nn.GRU(3, 4)
    x = torch.randn(5, 2, 3)
    found = torch.func.functional_call(ours, dict(other.named_parameters()), (x,))[0]
    close(found, other(x)[0])
    ours.weight_hh_l0 = torch.nn.Parameter(other.weight_hh_l0.detach().clone())
    for name in ("weight_ih_l0", "bias_ih_l0", "bias_hh_l0"):
        getattr(ours, name).data = getattr(other, name).data
    close(ours(x)[0], other(x)[0])


def test_tied_weights():
    ours = fast.RNN(4, 4, 2)
    ours.weight_ih_l1 = ours.weight_hh_l0
    x = torch.randn(3, 2, 4)
    plain = torch.nn.RNN(4, 4, 2)
    plain.weight_ih_l1 = plain.weight_hh_l0
    plain.load_state_dict(ours.state_dict())
    for module in (ours, plain):
        module(x)[0].sum().backward()
    close(ours.weight_hh_l0.grad, plain.weight_hh_l0.grad)


# ---- saved, copied, shared


def test_saved_models(model, tmp_path):
    accelerate(model)
    expected = model(text())
    torch.save(model, tmp_path / "model.pt")
    for twin in (
        torch.load(tmp_path / "model.pt", weights_only=False),
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
        copy.copy(model),
    ):
        assert report(twin) == report(model)
        assert torch.equal(twin(text()), expected)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    plain = Tagger()
    plain.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    close(plain(text()), expected)


def test_a_restored_model_needs_nothing_of_ours(model):
    buffer = io.BytesIO()
    torch.save(restore(accelerate(model)), buffer)
    assert b"fastrnn" not in buffer.getvalue()


def test_shared_memory(model):
    accelerate(model).share_memory()
    assert model.layers[0].weight_hh_l0.is_shared()
    model(text()).sum().backward()
    assert model.layers[0].weight_hh_l0.grad is not None


class Lines(torch.utils.data.Dataset):
    """What a worker process makes with a model."""

    def __init__(self, model):
        self.model = model

    def __len__(self):
        return 3

    def __getitem__(self, k):
        with torch.no_grad():
            return self.model(text() * 0 + k)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork")
def test_in_the_workers_of_a_loader(model):
    accelerate(model)
    with torch.no_grad():
        expected = [model(text() * 0 + k) for k in range(3)]
    loader = torch.utils.data.DataLoader(Lines(model), batch_size=None, num_workers=1, timeout=60)
    for found, wanted in zip(loader, expected, strict=True):
        close(found, wanted)


def test_scripts_are_pytorchs(model):
    """PyTorch's compiler of scripts puts what it compiles into the model: the page says so."""
    weights = [p for p in accelerate(model).parameters()]
    expected = model(text())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(model)
    close(scripted(text()), expected)
    assert report(model) == {"layers.0": "PyTorch", "layers.1": "PyTorch"}
    assert all(a is b for a, b in zip(model.parameters(), weights, strict=True))
    close(accelerate(model)(text()), expected)
