"""Reverse mode on expressions: the gradient is an expression in the same graph."""

from __future__ import annotations

from collections.abc import Callable

from fastrnn.jit._graph import Graph, Node, in_order

__all__ = ["differentiate"]

_Rule = Callable[[Graph, Node, Node], "tuple[Node | None, ...]"]


def _mul(g: Graph, y: Node, dy: Node) -> tuple[Node | None, ...]:
    a, b = y.args
    return g.mul(dy, b), g.mul(dy, a)


def _div(g: Graph, y: Node, dy: Node) -> tuple[Node | None, ...]:
    da = g.div(dy, y.args[1])  # y = a/b:  da = dy/b,  db = −y·dy/b
    return da, g.neg(g.mul(da, y))


def _pow(g: Graph, y: Node, dy: Node) -> tuple[Node | None, ...]:
    a, b = y.args
    da = g.mul(dy, g.mul(b, g.pow(a, g.sub(b, g.one))))
    if b.op == "const":
        return da, None
    log = g.where(g.compare("gt", a, g.zero), g.function("log", a), g.zero)  # 0^b stays 0
    return da, g.mul(dy, g.mul(y, log))


def _sigmoid(g: Graph, y: Node, dy: Node) -> tuple[Node | None, ...]:
    return (g.mul(g.mul(dy, y), g.sub(g.one, y)),)


def _tanh(g: Graph, y: Node, dy: Node) -> tuple[Node | None, ...]:
    return (g.mul(dy, g.sub(g.one, g.mul(y, y))),)


def _chosen(g: Graph, condition: Node, dy: Node) -> tuple[Node, Node]:
    return g.where(condition, dy, g.zero), g.where(condition, g.zero, dy)


_RULES: dict[str, _Rule] = {
    "add": lambda g, y, dy: (dy, dy),
    "sub": lambda g, y, dy: (dy, g.neg(dy)),
    "neg": lambda g, y, dy: (g.neg(dy),),
    "mul": _mul,
    "div": _div,
    "pow": _pow,
    "exp": lambda g, y, dy: (g.mul(dy, y),),
    "log": lambda g, y, dy: (g.div(dy, y.args[0]),),
    "sqrt": lambda g, y, dy: (g.div(g.mul(g.const(0.5), dy), y),),
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "softplus": lambda g, y, dy: (g.mul(dy, g.function("sigmoid", y.args[0])),),
    "abs": lambda g, y, dy: (g.mul(dy, g.function("sign", y.args[0])),),
    "relu": lambda g, y, dy: (g.where(g.compare("gt", y.args[0], g.zero), dy, g.zero),),
    "sign": lambda g, y, dy: (None,),
    "min": lambda g, y, dy: _chosen(g, g.compare("le", *y.args), dy),
    "max": lambda g, y, dy: _chosen(g, g.compare("ge", *y.args), dy),
    "where": lambda g, y, dy: (None, *_chosen(g, y.args[0], dy)),
}


def differentiate(graph: Graph, outputs: list[Node], gradients: list[Node], inputs: list[Node]) -> list[Node]:
    """For each input the sum over outputs of gradient · ∂output/∂input.

    Examples
    --------
    >>> from fastrnn.jit._write import expression
    >>> g = Graph()
    >>> x, dy = g.input("wx", 0), g.input("ds", 0)
    >>> (dx,) = differentiate(g, [g.function("tanh", x)], [dy], [x])
    >>> expression(dx)
    'ds_0 * (1 - tanh(wx_0) * tanh(wx_0))'
    """
    total: dict[Node, Node] = {}

    def give(node: Node, gradient: Node) -> None:
        total[node] = graph.add(total[node], gradient) if node in total else gradient

    for node, gradient in zip(outputs, gradients):
        give(node, gradient)
    for node in reversed(in_order(outputs)):
        if node not in total or not node.args or node.is_bool:
            continue
        dy = total[node]
        if dy is graph.zero:
            continue
        for argument, part in zip(node.args, _RULES[node.op](graph, node, dy)):
            if part is not None and argument.op != "const":
                give(argument, part)
    return [total.get(node, graph.zero) for node in inputs]
