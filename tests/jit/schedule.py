"""A schedule in NumPy that calls a cell's functions, and the same layer in PyTorch."""

import numpy as np

from fastrnn.jit import _tiles


def parameters(cell, inputs, units, rng):
    """Weights of a layer in float64: W, R, b_w, b_r and one array a vector."""
    rows = len(cell.gates) * units
    shapes = {"W": (rows, inputs), "R": (rows, units), "b_w": (rows,), "b_r": (rows,)}
    shapes |= {name: (units,) for name in cell.vectors}
    return {name: rng.uniform(-0.6, 0.6, shape) for name, shape in shapes.items()}


def products(cell, x, W, b):
    """[G, B, H]"""
    return np.stack(np.split(x @ W.T + b, len(cell.gates), axis=1))


def run(cell, dtype, p, x, initial):
    """y [T, B, H], the final states, and what `pull` needs."""
    spec = cell.spec(dtype)
    p, x = {name: a.astype(dtype) for name, a in p.items()}, x.astype(dtype)
    states, steps = [s.astype(dtype) for s in initial], []
    for x_t in x:
        wx, rh = products(cell, x_t, p["W"], p["b_w"]), products(cell, states[0], p["R"], p["b_r"])
        steps.append((states, _tiles.forward(spec, wx, rh, states, [p[name] for name in cell.vectors])))
        states = steps[-1][1].after
    return np.stack([step.after[0] for _, step in steps]), states, (cell, p, x, steps)


def pull(kept, dy, dfinal):
    """Gradients by name: of the parameters, "x", and a list "states" for the initial ones."""
    cell, p, x, steps = kept
    grads = {name: np.zeros_like(a) for name, a in p.items()} | {"x": np.zeros_like(x)}
    dstates = [d.astype(x.dtype) for d in dfinal]
    for t in reversed(range(len(steps))):
        before, step = steps[t]
        dwx, drh, dstates, dvectors = _tiles.backward(step, [dstates[0] + dy[t].astype(x.dtype), *dstates[1:]])
        dwx, drh = (np.concatenate(list(d), axis=1) for d in (dwx, drh))
        grads["W"] += dwx.T @ x[t]
        grads["R"] += drh.T @ before[0]
        grads["b_w"] += dwx.sum(axis=0)
        grads["b_r"] += drh.sum(axis=0)
        for name, d in zip(cell.vectors, dvectors):
            grads[name] += d.sum(axis=0)
        grads["x"][t] = dwx @ p["W"]
        dstates[0] = dstates[0] + drh @ p["R"]
    return {**grads, "states": dstates}


def torch_layer(cell, equations, p, x, initial, dy, dfinal):
    """The same through PyTorch's autograd, in float64: (y, final states, gradients)."""
    import torch

    names = [*p, "x"]
    leaves = {name: torch.tensor(a, requires_grad=True) for name, a in {**p, "x": x}.items()}
    starts = [torch.tensor(s, requires_grad=True) for s in initial]

    def scope(keys, values):
        from types import SimpleNamespace

        return SimpleNamespace(**dict(zip(keys, values)))

    states, ys = starts, []
    for x_t in leaves["x"]:
        wx = (x_t @ leaves["W"].T + leaves["b_w"]).chunk(len(cell.gates), dim=1)
        rh = (states[0] @ leaves["R"].T + leaves["b_r"]).chunk(len(cell.gates), dim=1)
        arguments = [scope(cell.gates, wx), scope(cell.gates, rh), scope(cell.states, states)]
        if cell.vectors:
            arguments.append(scope(cell.vectors, [leaves[name] for name in cell.vectors]))
        found = equations(*arguments)
        states = list(found) if isinstance(found, tuple) else [found]
        ys.append(states[0])
    y = torch.stack(ys)
    total = (y * torch.tensor(dy)).sum() + sum((s * torch.tensor(d)).sum() for s, d in zip(states, dfinal))
    total.backward()
    grads = {name: leaves[name].grad.numpy() for name in names}
    grads["states"] = [np.zeros(s.shape) if s.grad is None else s.grad.numpy() for s in starts]
    return y.detach().numpy(), [s.detach().numpy() for s in states], grads
