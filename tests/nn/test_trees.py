"""Trees: from parents, tuples and text; parts; levels; what is no tree."""

import numpy as np
import pytest

import fastrnn as fr


def random_parents(rng, size, arity=None):
    """Parents of a random tree whose nodes are numbered at random."""
    counts, parents = np.zeros(size, int), np.full(size, -1)
    for n in range(1, size):
        free = np.flatnonzero(counts[:n] < (arity or size))
        parents[n] = rng.choice(free)
        counts[parents[n]] += 1
    name = rng.permutation(size)
    out = np.full(size, -1)
    out[name[1:]] = name[parents[1:]]
    return out


def children_of(trees):
    return [np.flatnonzero(trees.parents == n).tolist() for n in range(trees.num_nodes)]


def test_the_three_ways_make_the_same_trees():
    nested = fr.Trees.from_nested([(("a", "b"), "c"), "d"])
    text = fr.Trees.from_text(["(0 (1 (2 a) (3 b)) (4 c))", "(5 d)"])
    parents = fr.Trees([[2, 2, 4, 4, -1], [-1]], ["a", "b", "c", "d"])
    for trees in (nested, text, parents):
        assert trees.parents.tolist() == [2, 2, 4, 4, -1, -1]
        assert trees.values.tolist() == ["a", "b", "c", "d"]
        assert trees.heights.tolist() == [0, 0, 1, 0, 2, 0]
        assert trees.leaves.tolist() == [0, 1, 3, 5]
        assert trees.roots.tolist() == [4, 5]
        assert (len(trees), trees.num_nodes, trees.num_leaves, trees.arity) == (2, 6, 4, 2)
    assert text.labels.tolist() == [2, 3, 1, 4, 0, 5]
    assert fr.Trees.from_text(["((a b) c)", "d"], labels=False).parents.tolist() == nested.parents.tolist()
    assert fr.Trees.from_text(["(S (NP a) b)"]).labels.tolist() == ["NP", "", "S"]


def test_deep_trees_need_no_stack():
    deep = "a"
    for _ in range(20_000):
        deep = (deep, "b")
    trees = fr.Trees.from_nested([deep])
    assert trees.heights.max() == 20_000
    line = "(1 " * 5000 + "a" + ")" * 5000
    assert fr.Trees.from_text([line]).num_nodes == 5000


@pytest.mark.parametrize("slots", [0, 3])
def test_levels(slots):
    rng = np.random.default_rng(0)
    trees = fr.Trees([random_parents(rng, n, 3) for n in (1, 40, 7, 2, 100)])
    order, level, first, child, roots = trees.levels(slots)
    assert sorted(order) == list(range(trees.num_nodes))
    assert level[0] == 0 and level[-1] == trees.num_nodes and level[1] == trees.num_leaves
    for height in range(len(level) - 1):
        assert (trees.heights[order[level[height] : level[height + 1]]] == height).all()
    assert order[roots].tolist() == trees.roots.tolist()
    assert trees.heights[trees.leaves].max() == 0 and order[: level[1]].tolist() == trees.leaves.tolist()
    for k, n in enumerate(order[level[1] :]):
        slot = child[first[k] : first[k + 1]]
        assert len(slot) == (slots or (trees.parents == n).sum())
        assert order[slot[slot >= 0]].tolist() == np.flatnonzero(trees.parents == n).tolist()
        assert (np.diff(slot < 0) >= 0).all()  # empty slots come last


def test_parts():
    rng = np.random.default_rng(1)
    sizes = [5, 1, 8, 30, 2]
    whole = [random_parents(rng, n) for n in sizes]
    labels = np.arange(sum(sizes))
    trees = fr.Trees(whole, labels=labels)
    trees.values = rng.standard_normal((trees.num_leaves, 2))
    starts = np.cumsum([0, *sizes])
    for index in ([3, 0, 3], slice(1, 4), [], np.array([True, False, False, True, False]), 2, -1):
        part = trees[index]
        rows = np.atleast_1d(np.arange(5)[index if not isinstance(index, list) else np.array(index, int)])
        expected = fr.Trees([whole[r] for r in rows])
        assert part.parents.tolist() == expected.parents.tolist()
        assert part.heights.tolist() == expected.heights.tolist()
        assert part.labels.tolist() == [n for r in rows for n in range(starts[r], starts[r + 1])]
        leaf = {n: k for k, n in enumerate(trees.leaves.tolist())}
        picked = [leaf[n] for n in part.labels.tolist() if n in leaf]
        np.testing.assert_array_equal(part.values, trees.values[picked])
    nodes = fr.Trees(whole, values=labels)
    assert nodes[[2]].values.tolist() == list(range(6, 14))


def test_map_and_repr():
    trees = fr.Trees.from_nested([("b", ("a", "b"))])
    assert trees.map({"a": 0, "b": 1}.get).values.tolist() == [1, 0, 1]
    assert trees.map(lambda w: np.ones(3)).values.shape == (3, 3)
    assert repr(trees) == "<1 trees of 5 nodes, 3 of them leaves>"


CIRCLE = r"^trees: tree 1 is none: its parents run in a circle$"


@pytest.mark.parametrize("make, error, message", [
    (lambda: fr.Trees(np.array([1, -1])), TypeError, r"^parents: expected a list .* for one tree, \[parents\]$"),
    (lambda: fr.Trees([[0.5]]), TypeError, r"^parents\[0\]: expected integers"),
    (lambda: fr.Trees([[-1], []]), ValueError, r"^parents\[1\]: expected one integer for each node, got shape \(0,\)$"),
    (lambda: fr.Trees([[-1, 5]]), ValueError, r"the parent of node 1 is 5, not another of its 2 nodes or -1$"),
    (lambda: fr.Trees([[-1, 1]]), ValueError, r"the parent of node 1 is 1, not another"),
    (lambda: fr.Trees([[-1, -1]]), ValueError, r"^trees: tree 0 is none: expected one root, .* got 2$"),
    (lambda: fr.Trees([[-1], [-1, 2, 1]]), ValueError, CIRCLE),
    (lambda: fr.Trees([[-1, 0, 0]], [1]), ValueError, r"^values: expected one for each of the 2 leaves or"),
    (lambda: fr.Trees([[-1, 0, 0]], labels=[1]), ValueError, r"^labels: expected one for each of the 3 nodes"),
    (lambda: fr.Trees.from_nested([(1, ())]), ValueError, r"^trees: tree 0 is none: it has a node \(\) without"),
    (lambda: fr.Trees.from_text(["(1 a", "b"]), ValueError, r"^trees: tree 0 is none: it leaves a bracket open$"),
    (lambda: fr.Trees.from_text("(1 a)"), TypeError, "^lines: expected an iterable of texts, .*splitlines"),
    (lambda: fr.Trees.from_text(["1 a)"]), ValueError, r"closes a bracket that was not opened$"),
    (lambda: fr.Trees.from_text(["a b"]), ValueError, r"expected one expression on the line, got 2$"),
    (lambda: fr.Trees.from_text(["((a b) c)"]), ValueError, r"expected brackets with a label and children"),
    (lambda: fr.Trees.from_text(["(a)"]), ValueError, r"expected brackets with a label and children"),
    (lambda: fr.Trees([[-1]]).map(str), ValueError, r"^trees: expected trees with values"),
    (lambda: fr.Trees([[-1]])[3], IndexError, r"^trees: expected indices of 1 trees, got 3$"),
    (lambda: fr.Trees([[-1]])["a"], TypeError, r"^trees: expected integers, a slice or a mask, got 'a'$"),
])  # fmt: skip
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()
