"""From a cell's equations to its plan: which products share a section, what backward computes, what is saved for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fastrnn.jit._differentiate import differentiate
from fastrnn.jit._graph import COST, Graph, Node, in_order

__all__ = ["MOST_SECTIONS", "Plan", "derive"]

MOST_SECTIONS = 32  # of csrc/cell.h

# What costs as much as this to compute again is saved: a division, or a dozen sums and products.
_DEAR, _DEAR_CHAIN = 6, 12
_MOST_AGAIN = 2  # functions that backward computes again where that saves a section


@dataclass(eq=False)
class Plan:
    """What `forward` and `backward` of csrc/cell.h have to do, as expressions.

    Attributes
    ----------
    outputs : the new states
    section_x, section_r : where the products of each gate come, one section for both where only their sum is used
    products : the expression that each product is, and its section
    saved : the expressions that forward leaves for backward, and their sections; a product may stay where it is
    gradients : gradients at the products, with their sections
    state_gradients : gradients at the states before
    terms : gradients of the vectors, unit by unit, with their sections
    """

    graph: Graph
    outputs: list[Node]
    section_x: list[int]
    section_r: list[int]
    products: dict[Node, int]
    saved: dict[Node, int] = field(default_factory=dict)
    gradients: list[tuple[Node, int]] = field(default_factory=list)
    state_gradients: list[Node] = field(default_factory=list)
    terms: list[tuple[Node, int]] = field(default_factory=list)

    @property
    def section_v(self) -> list[int]:
        return [section for _, section in self.terms]

    @property
    def sections(self) -> int:
        used = [*self.products.values(), *self.saved.values(), *(k for _, k in self.gradients + self.terms)]
        return max(used) + 1

    def backward_roots(self) -> list[Node]:
        return [n for n, _ in self.gradients] + self.state_gradients + [n for n, _ in self.terms]


def _kind(node: Node) -> str:
    return str(node.value[0]) if node.is_input else ""


def depends_on(nodes: Iterable[Node], kinds: set[str], given: Iterable[Node] = ()) -> set[Node]:
    """Those of the nodes (in order, with all that they need) that depend on inputs of these kinds or on those given."""
    found = set(given)
    for node in nodes:
        if _kind(node) in kinds or any(a in found for a in node.args):
            found.add(node)
    return found


def row_free(nodes: Iterable[Node], given: Iterable[Node] = ()) -> set[Node]:
    """Dear nodes that are the same in every row, such as the sigmoid of a vector; those given are not."""
    nodes = list(nodes)
    with_rows = depends_on(nodes, {"wx", "rh", "z", "s", "ds"}, given)
    return {n for n in nodes if n not in with_rows and n.args and COST.get(n.op, 1) >= _DEAR}


def derive(graph: Graph, outputs: list[Node], gates: int, states: int, vectors: int, *, together: bool = True) -> Plan:
    """The plan of a traced cell. With `together=False` every gate keeps its two products apart."""
    wx = [graph.input("wx", k) for k in range(gates)]
    rh = [graph.input("rh", k) for k in range(gates)]
    s = [graph.input("s", k) for k in range(states)]
    v = [graph.input("v", k) for k in range(vectors)]
    ds = [graph.input("ds", k) for k in range(states)]

    # A function with the same derivative in two variables is one of their sum: z stands for it, as z + 0.
    slopes = differentiate(graph, outputs, ds, wx + rh)
    joined = [together and slopes[k] is slopes[gates + k] for k in range(gates)]
    z = {k: graph.input("z", k) for k in range(gates) if joined[k]}
    by = {wx[k]: z[k] for k in z} | {rh[k]: graph.zero for k in z}
    outputs = graph.replace(outputs, by)

    section_r = list(range(gates))
    apart = [k for k in range(gates) if not joined[k]]
    section_x = [k if joined[k] else gates + apart.index(k) for k in range(gates)]
    products = {z[k] if joined[k] else rh[k]: k for k in range(gates)} | {wx[k]: section_x[k] for k in apart}
    plan = Plan(graph, outputs, section_x, section_r, products)

    held = list(products)
    found = differentiate(graph, outputs, ds, held + s + v)
    plan.gradients = list(zip(found, products.values()))
    plan.state_gradients = found[len(held) : len(held) + states]
    plan.terms = list(zip(found[len(held) + states :], range(len(held), len(held) + vectors)))
    plan.saved = _placed(_choose(plan), products)
    return plan


def _choose(plan: Plan) -> list[Node]:
    """The nodes that forward leaves for backward."""
    nodes = in_order(plan.backward_roots())
    late = depends_on(nodes, {"ds"})
    needed = {a for n in late for a in n.args if a not in late and a.op != "const"}
    needed |= {n for n in plan.backward_roots() if n not in late and n.op != "const"}
    early = in_order(needed)
    dear = _dear(early) - row_free(early)
    best = _cut(early, needed, dear)
    room = len(plan.products) + len(plan.terms)  # sections that are there anyway
    for _ in range(_MOST_AGAIN):
        if not room < len(best) <= room + _MOST_AGAIN:
            break
        tries = [(again, _cut(early, needed, dear - {again})) for again in best if again in dear]
        shortest = min(tries, key=lambda t: len(t[1]), default=None)
        if shortest is None or len(shortest[1]) >= len(best):
            break
        dear -= {shortest[0]}
        best = shortest[1]
    # Beyond the limit of sections the cheapest are computed again: at last everything can be, from the products.
    again = sorted(dear, key=lambda n: (COST.get(n.op, 1), n.number), reverse=True)
    while len(best) > MOST_SECTIONS:
        dear -= {again.pop() for _ in range(min(len(best) - MOST_SECTIONS, len(again)))}
        best = _cut(early, needed, dear)
    return best


def _dear(nodes: list[Node]) -> set[Node]:
    """What isn't computed twice: functions, divisions, and long chains of cheap operations."""
    dear: set[Node] = set()
    chain: dict[Node, int] = {}
    for node in nodes:
        own = COST.get(node.op, 1) if node.args else 0
        chain[node] = own + sum(chain[a] for a in node.args)
        if own >= _DEAR or (chain[node] >= _DEAR_CHAIN and not node.is_bool):
            dear.add(node)
            chain[node] = 0
    return dear


def _cut(nodes: list[Node], needed: set[Node], dear: set[Node]) -> list[Node]:
    """The fewest nodes from which, with states and vectors, all that is needed can be computed cheaply.

    A minimum cut between what can't be had again (products, dear nodes) and what is needed, where cutting a node means
    saving it. Products cost a little less: they are in their sections already.
    """
    products = {n for n in nodes if _kind(n) in ("wx", "rh", "z")}
    endless = 1 << 30
    source, sink = "source", "sink"
    room: dict[object, dict[object, int]] = {source: {}, sink: {}}

    def edge(a: object, b: object, capacity: int) -> None:
        room.setdefault(a, {})[b] = capacity
        room.setdefault(b, {}).setdefault(a, 0)

    for n in nodes:
        edge(("in", n), ("out", n), endless if n.is_bool or n.op == "const" else 99 if n in products else 100)
        if n in products or n in dear:
            edge(source, ("in", n), endless)
        else:
            for a in n.args:
                edge(("out", a), ("in", n), endless)
        if n in needed:
            edge(("out", n), sink, endless)
    while True:
        came: dict[object, object] = {source: source}
        waiting: list[object] = [source]
        for here in waiting:
            for other, left in room[here].items():
                if left > 0 and other not in came:
                    came[other] = here
                    waiting.append(other)
        if sink not in came:
            return [n for n in nodes if ("in", n) in came and ("out", n) not in came]
        path: list[tuple[object, object]] = []
        end: object = sink
        while end != source:
            path.append((came[end], end))
            end = came[end]
        least = min(room[u][w] for u, w in path)
        for u, w in path:
            room[u][w] -= least
            room[w][u] += least


def _placed(saved: list[Node], products: dict[Node, int]) -> dict[Node, int]:
    """A section for each saved node: a product's own, else the first that is free."""
    places = {n: products[n] for n in saved if n in products}
    free = (k for k in range(MOST_SECTIONS * 8) if k not in places.values())
    for node in saved:
        if node not in places:
            places[node] = next(free)
    return places
