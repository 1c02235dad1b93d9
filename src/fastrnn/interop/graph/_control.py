"""Operators that hold graphs: a choice, loops. They get the values around them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.interop.graph._node import Node, operator

Array = Any
Values = dict[str, Any]


def _around(body: Any, values: Values) -> Values:
    """What a graph uses of the one around it."""
    return {name: values[name] for name in body.captured}


def _called(body: Any, values: Values, arrays: list[Any]) -> list[Any]:
    if len(arrays) != len(body.inputs):
        raise ValueError(f"expected a body with {len(arrays)} inputs, this one has {len(body.inputs)}")
    given = _around(body, values) | dict(zip(body.inputs, arrays, strict=True))
    found: list[Any] = body.run(given)
    return found


@operator("If")
def _if(node: Node, values: Values, condition: Array) -> tuple[Any, ...]:
    body = node.get("then_branch" if bool(np.ravel(condition)[0]) else "else_branch")
    return tuple(_called(body, values, []))


@operator("Loop")
def _loop(node: Node, values: Values, most: Array = None, condition: Array = None, *carried: Array) -> tuple[Any, ...]:
    """Carried values go round; what else the body returns is stacked."""
    body, states = node.get("body"), list(carried)
    limit = None if most is None else int(np.ravel(most)[0])
    go_on = condition is None or bool(np.ravel(condition)[0])
    stacks: list[list[Any]] = [[] for _ in range(len(body.outputs) - 1 - len(states))]
    k = 0
    while go_on and (limit is None or k < limit):
        found = _called(body, values, [np.array(k, np.int64), np.array(go_on), *states])
        go_on = bool(np.ravel(found[0])[0])
        states = found[1 : 1 + len(states)]
        for stack, value in zip(stacks, found[1 + len(states) :], strict=True):
            stack.append(value)
        k += 1
    if not k and stacks:
        raise ValueError("a loop that never ran, whose stacked outputs have no shape")
    return (*states, *(np.stack(stack) for stack in stacks))


def _old_scan(node: Node) -> str | None:
    return "expected Scan of operator set 9 or later" if node.version < 9 else None


@operator("Scan", limit=_old_scan)
def _scan(node: Node, values: Values, *arrays: Array) -> tuple[Any, ...]:
    """States go round; the rest is taken apart along an axis, and what comes out is put together along one."""
    body, inputs = node.get("body"), node.get("num_scan_inputs")
    count = len(arrays) - inputs
    states, scanned = list(arrays[:count]), arrays[count:]
    outputs = len(body.outputs) - count
    axes, directions = node.get("scan_input_axes") or [0] * inputs, node.get("scan_input_directions") or [0] * inputs
    steps = [
        np.moveaxis(a, axis, 0)[:: -1 if back else 1] for a, axis, back in zip(scanned, axes, directions, strict=True)
    ]
    stacks: list[list[Any]] = [[] for _ in range(outputs)]
    for parts in zip(*steps, strict=True):
        found = _called(body, values, [*states, *parts])
        states = found[:count]
        for stack, value in zip(stacks, found[count:], strict=True):
            stack.append(value)
    back = node.get("scan_output_directions") or [0] * outputs
    onto = node.get("scan_output_axes") or [0] * outputs
    joined = [
        np.moveaxis(np.stack(s[:: -1 if b else 1]), 0, axis) for s, b, axis in zip(stacks, back, onto, strict=True)
    ]
    return (*states, *joined)
