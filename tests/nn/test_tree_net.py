"""RecursiveNet and TreeLSTM: against the reference on every instruction set, gradients, threads, PyTorch."""

import pickle

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import _core, reference
from tests.nn.test_trees import children_of, random_parents
from tests.ops.helpers import FORWARD, GRADIENT, close, same_for_any_threads
from tests.reference.finite_differences import check_gradients

SIZES = [1, 7, 15, 16, 17, 33, 70]
KINDS = ["child_sum", "binary", 1, 3, 16]


@pytest.fixture(params=_core.isas())
def isa(request):
    before = _core.isa()
    _core.select_isa(request.param)
    yield request.param
    _core.select_isa(before)


def full_parents(rng, leaves, arity=2):
    """Parents of a random tree all of whose inner nodes have `arity` children, numbered children first."""
    parents, top = [-1] * leaves, list(range(leaves))
    while len(top) > 1:
        at = rng.integers(len(top) - arity + 1)
        for child in top[at : at + arity]:
            parents[child] = len(parents)
        top[at : at + arity] = [len(parents)]
        parents.append(-1)
    return parents


def forest(rng, count=9, arity=None):
    return fr.Trees([random_parents(rng, n, arity) for n in [1, 2, *rng.integers(1, 60, count)]])


def topological(trees):
    """(children in an order in which they precede parents, that order)."""
    order = np.argsort(trees.heights, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    children = children_of(trees)
    return [place[children[n]].tolist() for n in order], order


def wide(arrays):
    return {name: a.astype(np.float64) for name, a in arrays.items()}


def compare(net, x, trees, run, dtype, rng, nodes):
    """Values and all gradients, `run(x, children, **params)` being the reference's vjp."""
    dh = rng.standard_normal((trees.num_nodes, net.hidden_size)).astype(dtype)
    h, pullback = net.vjp(x, trees)
    np.testing.assert_array_equal(h, net(x, trees))
    dx = pullback(dh)
    children, order = topological(trees)
    rows = order if nodes else slice(None)  # leaves are in their own order already
    expected, back = run(x.astype(np.float64)[rows], children, **wide(net.params))
    close(h[order], expected, FORWARD[dtype])
    close(net(x, trees, roots=True), h[trees.roots], 0)
    dx_expected, grads = back(dh.astype(np.float64)[order])
    close(dx[rows], dx_expected, GRADIENT[dtype])
    for name, grad in grads._asdict().items():
        if grad is not None:
            close(net.grads[name], grad, GRADIENT[dtype])
    zeros = np.zeros_like(dh)
    zeros[trees.roots] = dh[trees.roots]
    net.zero_grads()
    (of_roots, back), (_, all_back) = net.vjp(x, trees, roots=True), net.vjp(x, trees)
    assert of_roots.shape == (len(trees), net.hidden_size)
    np.testing.assert_array_equal(back(dh[trees.roots]), all_back(zeros))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("H", SIZES)
def test_recursive_net(H, dtype, isa):
    rng = np.random.default_rng(H)
    for arity, phi, bias in ((2, "tanh", True), (2, "relu", False), (3, "sigmoid", True)):
        trees = fr.Trees([full_parents(rng, 1 + (arity - 1) * n, arity) for n in (0, 1, 5, 20, 70)])
        net = fr.RecursiveNet(H, arity=arity, nonlinearity=phi, bias=bias, dtype=dtype, seed=1)
        x = rng.standard_normal((trees.num_leaves, H)).astype(dtype)

        def run(x, children, phi=phi, **params):
            return reference.recursive_net_vjp(x, children, **params, nonlinearity=phi)

        compare(net, x, trees, run, dtype, rng, nodes=False)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_tree_lstm(kind, dtype, isa):
    rng = np.random.default_rng(3)
    slots = {"child_sum": 0, "binary": 2}.get(kind, kind)
    for H in SIZES if kind != 16 else (1, 17):
        trees = forest(rng, arity=slots or None)
        for rows in (trees.num_leaves, trees.num_nodes):
            net = fr.TreeLSTM(5, H, kind, bias=H != 7, dtype=dtype, seed=1)
            x = rng.standard_normal((rows, 5)).astype(dtype)

            def run(x, children, **params):
                return reference.tree_lstm_vjp(x, children, **params, slots=slots)

            compare(net, x, trees, run, dtype, rng, nodes=rows == trees.num_nodes)


def test_wide_nodes_and_full_blocks(isa):
    """Levels of more rows than a block, a node with more children than one, blocks of K."""
    rng = np.random.default_rng(4)
    star = [-1] + [0] * 130
    trees = fr.Trees([star, star, *([[-1, 0]] * 120)])
    net = fr.TreeLSTM(3, 530, dtype=np.float64, seed=1)
    x = rng.standard_normal((trees.num_nodes, 3))

    def run(x, children, **params):
        return reference.tree_lstm_vjp(x, children, **params)

    compare(net, x, trees, run, np.float64, rng, nodes=True)


@pytest.mark.parametrize("kind", ["recursive", *KINDS[:4]])
def test_gradients(kind):
    rng = np.random.default_rng(5)
    if kind == "recursive":
        trees, net = fr.Trees([full_parents(rng, n) for n in (1, 4, 6)]), fr.RecursiveNet(3, dtype=np.float64, seed=0)
    else:
        net = fr.TreeLSTM(3, 3, kind, dtype=np.float64, seed=0)
        trees = fr.Trees([random_parents(rng, n, net.slots or None) for n in (1, 5, 9)])
    for rows in {trees.num_leaves, trees.num_leaves if kind == "recursive" else trees.num_nodes}:
        x = rng.standard_normal((rows, 3))
        for roots in (False, True):
            net.zero_grads()
            h, pullback = net.vjp(x, trees, roots=roots)
            dh = rng.standard_normal(h.shape)
            gradients = {"x": pullback(dh), **{name: g.copy() for name, g in net.grads.items()}}
            check_gradients(lambda: net(x, trees, roots=roots), {"x": x, **net.params}, dh, gradients)  # noqa: B023


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["recursive", "child_sum", "binary"])
def test_threads_and_batch(kind, dtype):
    """The same bits for any threads; and a tree's result doesn't depend on the rest of its batch."""
    rng = np.random.default_rng(6)
    trees = fr.Trees([full_parents(rng, int(n)) for n in rng.integers(1, 40, 60)])
    H = 130
    net = (
        fr.RecursiveNet(H, dtype=dtype, seed=0) if kind == "recursive" else fr.TreeLSTM(H, H, kind, dtype=dtype, seed=0)
    )
    x = rng.standard_normal((trees.num_leaves, H)).astype(dtype)
    dh = rng.standard_normal((trees.num_nodes, H)).astype(dtype)

    def run():
        net.zero_grads()
        h, pullback = net.vjp(x, trees)
        return h, pullback(dh), *net.grads.values()

    same_for_any_threads(run)
    h = net(x, trees)
    part = trees[[7]]
    nodes, leaves = np.cumsum([0, *trees.sizes]), np.cumsum([0, *((trees.sizes + 1) // 2)])
    np.testing.assert_array_equal(net(x[leaves[7] : leaves[8]], part), h[nodes[7] : nodes[8]])


def test_retain_and_input_grad():
    rng = np.random.default_rng(7)
    for net in (fr.RecursiveNet(4, seed=0), fr.TreeLSTM(4, 4, "binary", seed=0)):
        trees = fr.Trees([full_parents(rng, 5)])
        x = rng.standard_normal((5, 4), np.float32)
        h, pullback = net.vjp(x, trees, retain=True)
        first, second = pullback(np.ones_like(h)), pullback(np.ones_like(h))
        np.testing.assert_array_equal(first, second)
        one = {name: g.copy() for name, g in net.grads.items()}
        net.zero_grads()
        _, pullback = net.vjp(x, trees, input_grad=False)
        assert pullback(np.ones_like(h)) is None
        for name, g in net.grads.items():
            np.testing.assert_allclose(2 * g, one[name], rtol=1e-5, atol=1e-6)
        with pytest.raises(RuntimeError, match="already run"):
            pullback(np.ones_like(h))


def test_empty_batches_and_single_nodes():
    none = fr.Trees([])
    assert fr.TreeLSTM(2, 3)(np.empty((0, 2), np.float32), none).shape == (0, 3)
    assert fr.RecursiveNet(3)(np.empty((0, 3), np.float32), none, roots=True).shape == (0, 3)
    ones = fr.Trees([[-1], [-1]])
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(fr.RecursiveNet(3)(x, ones), x)
    for kind in ("child_sum", "binary"):
        net = fr.TreeLSTM(3, 3, kind, seed=0)
        h, pullback = net.vjp(x, ones)
        assert pullback(np.ones_like(h)).shape == (2, 3)
        assert not net.grads["weight_hh"].any()


def test_configs_and_files(tmp_path):
    for net in (fr.RecursiveNet(4, arity=3, nonlinearity="relu", bias=False), fr.TreeLSTM(2, 4, 3, dtype=np.float64)):
        fr.save(net, tmp_path / "net.safetensors")
        for again in (fr.load(tmp_path / "net.safetensors"), pickle.loads(pickle.dumps(net))):
            assert again.config() == net.config()
            for name, a in net.params.items():
                np.testing.assert_array_equal(again.params[name], a)


def ones(*shape):
    return np.ones(shape, np.float32)


PAIR = fr.Trees.from_nested([(0, 1)])
TRIPLE = fr.Trees.from_nested([(0, 1, 2), (0, (1, 2, 3))])


@pytest.mark.parametrize("call, error, message", [
    (lambda: fr.RecursiveNet(3)(ones(2, 3), [(0, 1)]), TypeError, r"^trees: expected fr.Trees, got a list"),
    (lambda: fr.RecursiveNet(3)(ones(7, 3), TRIPLE), ValueError, r"expected 2 children, got 3 at node 3$"),
    (lambda: fr.RecursiveNet(3)(ones(3, 3), PAIR), ValueError,
     r"^x: expected \[2, 3\] \(one row a leaf\), hidden_size=3, got shape \(3, 3\)$"),
    (lambda: fr.RecursiveNet(3)(np.ones((2, 3)), PAIR), TypeError, r"^x: expected float32, got float64"),
    (lambda: fr.RecursiveNet(3, arity=17), ValueError, r"^arity: expected an integer from 0 to 16, got 17$"),
    (lambda: fr.RecursiveNet(3, arity=0), ValueError, r"^arity: expected a positive integer, got 0$"),
    (lambda: fr.RecursiveNet(3, nonlinearity="cube"), ValueError, r"^nonlinearity: expected one of"),
    (lambda: fr.TreeLSTM(3, 4, "ternary"), ValueError, r"^kind: expected one of 'child_sum', 'binary', got 'ternary'$"),
    (lambda: fr.TreeLSTM(3, 4, 0), ValueError, r"^kind: expected a positive integer, got 0$"),
    (lambda: fr.TreeLSTM(3, 4, 1.5), TypeError, r"^kind: expected an integer, got 1.5$"),
    (lambda: fr.TreeLSTM(3, 4, 2)(ones(7, 3), TRIPLE), ValueError,
     r"expected up to 2 children, got 3 at node 3$"),
    (lambda: fr.TreeLSTM(3, 4)(ones(2, 5), PAIR), ValueError,
     r"^x: expected \[2, 3\] \(one row a leaf\) or \[3, 3\] \(one row a node\), input_size=3, got shape \(2, 5\)$"),
    (lambda: fr.TreeLSTM(3, 4).vjp(ones(2, 3), PAIR)[1](ones(2, 4)), ValueError,
     r"^dy: expected shape \(3, 4\)"),
])  # fmt: skip
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_core_stays_in_bounds():
    """What the layers never pass: it is refused, not read."""
    h, U, hc = np.zeros((3, 2)), np.zeros((2, 4)), np.zeros((1, 4))
    good = [np.array([0, 2, 3]), np.array([0, 2]), np.array([0, 1])]
    _core.tree_forward(0, *good, U, None, None, None, h, None, hc)
    for which, bad in [
        (0, [0, 2, 4]),
        (0, [0, 2, 99, 3]),
        (0, [1, 2, 3]),
        (0, [0, 3, 3]),
        (1, [0, 3]),
        (1, [1, 2]),
        (2, [0, 2]),
        (2, [-1, 0]),
        (2, [0]),
    ]:
        arguments = [np.array(bad) if k == which else a for k, a in enumerate(good)]
        with pytest.raises(ValueError, match="expected"):
            _core.tree_forward(0, *arguments, U, None, None, None, h, None, hc)
    with pytest.raises(ValueError, match="U: expected"):
        _core.tree_forward(0, *good, np.zeros((2, 34)), None, None, None, h, None, hc)
    with pytest.raises(ValueError, match="z: expected"):
        _core.tree_backward(0, *good, U, np.zeros((2, 2)), None, h, None, h.copy(), None)


def test_like_a_loop_in_pytorch():
    """The binary Tree-LSTM as people write it, a node after the other, with autograd."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(8)
    H, I = 20, 6
    trees = fr.Trees([full_parents(rng, n) for n in (3, 9, 14)])
    net = fr.TreeLSTM(I, H, "binary", seed=0)
    x = rng.standard_normal((trees.num_leaves, I), np.float32)
    params = {name: torch.tensor(a, requires_grad=True) for name, a in net.params.items()}
    tx = torch.tensor(x, requires_grad=True)
    children, leaf, states = children_of(trees), {n: k for k, n in enumerate(trees.leaves.tolist())}, {}
    for n in range(trees.num_nodes):
        base = params["bias"] + (params["weight_ih"] @ tx[leaf[n]] if n in leaf else 0)
        i, f, g, o = base.split(H)
        below = [states[k] for k in children[n]]
        if below:
            s = params["weight_hh"] @ torch.cat([h for h, _ in below])
            s_i, *s_f, s_g, s_o = s.split(H)
            i, g, o = i + s_i, g + s_g, o + s_o
            c = torch.sigmoid(i) * torch.tanh(g)
            for (_, c_k), s_k in zip(below, s_f):
                c = c + torch.sigmoid(f + s_k) * c_k
        else:
            c = torch.sigmoid(i) * torch.tanh(g)
        states[n] = torch.sigmoid(o) * torch.tanh(c), c
    expected = torch.stack([states[n][0] for n in range(trees.num_nodes)])
    h, pullback = net.vjp(x, trees)
    close(h, expected.detach().numpy(), 1e-5)
    dh = rng.standard_normal(h.shape).astype(np.float32)
    expected.backward(torch.tensor(dh))
    close(pullback(dh), tx.grad.numpy(), 1e-5)
    for name, p in params.items():
        close(net.grads[name], p.grad.numpy(), 1e-5)
