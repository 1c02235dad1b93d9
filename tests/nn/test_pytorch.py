"""The same weights in PyTorch: outputs, gradients, initial values. Skipped where PyTorch is not installed."""

import numpy as np
import pytest

from fastrnn import nn
from fastrnn.nn import losses
from tests.reference.finite_differences import assert_close

torch = pytest.importorskip("torch")

# Both compute in float64; they differ in the order of sums.
TOLERANCE = 1e-12


def tensor(array):
    return torch.tensor(array, requires_grad=array.dtype.kind == "f")


PAIRS = [
    (nn.Linear(5, 3, dtype=np.float64, seed=0), torch.nn.Linear(5, 3).double()),
    (nn.Linear(5, 3, bias=False, dtype=np.float64, seed=0), torch.nn.Linear(5, 3, bias=False).double()),
    (nn.LayerNorm(5, 1e-4, dtype=np.float64), torch.nn.LayerNorm(5, 1e-4).double()),
    (nn.Embedding(7, 4, padding_idx=2, dtype=np.float64), torch.nn.Embedding(7, 4, padding_idx=2).double()),
    (nn.Sigmoid(), torch.nn.Sigmoid()),
    (nn.Tanh(), torch.nn.Tanh()),
    (nn.ReLU(), torch.nn.ReLU()),
    (nn.LeakyReLU(0.1), torch.nn.LeakyReLU(0.1)),
    (nn.Swish(), torch.nn.SiLU()),
    (nn.Softmax(), torch.nn.Softmax(-1)),
]


@pytest.mark.parametrize(("layer", "peer"), PAIRS, ids=lambda value: type(value).__name__)
def test_layers(layer, peer):
    rng = np.random.default_rng(0)
    integers = isinstance(layer, nn.Embedding)
    x = rng.integers(0, 7, (6, 2)) if integers else rng.standard_normal((6, 2, 5))
    if not integers:
        x[0, 0, 0] = 0.0  # the kink of relu
    layer.load_state_dict({name: value.numpy() for name, value in peer.state_dict().items()})
    y, pullback = layer.vjp(x)
    dy = rng.standard_normal(y.shape)
    dx = pullback(dy)
    peer_x = tensor(x)
    peer_y = peer(peer_x)
    peer_y.backward(torch.tensor(dy))
    assert_close(y, peer_y.detach().numpy(), TOLERANCE, "y")
    if not integers:
        assert_close(dx, peer_x.grad.numpy(), TOLERANCE, "dx")
    for name, value in peer.named_parameters():
        assert_close(layer.grads[name], value.grad.numpy(), TOLERANCE, name)


@pytest.mark.parametrize("options", [{}, {"ignore_index": 3}, {"label_smoothing": 0.2, "ignore_index": -1}], ids=str)
def test_cross_entropy(options):
    rng = np.random.default_rng(0)
    logits, targets = rng.standard_normal((20, 6)) * 3, rng.integers(0, 6, 20)
    peer = tensor(logits)
    expected = torch.nn.functional.cross_entropy(peer, torch.tensor(targets), **options)
    expected.backward()
    loss, dlogits = losses.cross_entropy(logits, targets, **options)
    assert loss == pytest.approx(expected.item(), rel=TOLERANCE)
    assert_close(dlogits, peer.grad.numpy(), TOLERANCE)


@pytest.mark.parametrize(
    ("function", "peer_function"),
    [
        (losses.mse, torch.nn.functional.mse_loss),
        (losses.bce_with_logits, torch.nn.functional.binary_cross_entropy_with_logits),
    ],
)
def test_other_losses(function, peer_function):
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((4, 3)), rng.uniform(0, 1, (4, 3))
    peer = tensor(x)
    expected = peer_function(peer, torch.tensor(target))
    expected.backward()
    loss, dx = function(x, target)
    assert loss == pytest.approx(expected.item(), rel=TOLERANCE)
    assert_close(dx, peer.grad.numpy(), TOLERANCE)


def test_state_dict_of_a_model():
    peer = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 3), torch.nn.Tanh())
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3), nn.Tanh())
    model.load_state_dict({name: value.numpy() for name, value in peer.state_dict().items()})
    x = np.arange(5)
    assert_close(model(x), peer(torch.tensor(x)).detach().numpy(), 1e-6)  # float32
