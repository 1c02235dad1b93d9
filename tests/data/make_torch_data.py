"""Write torch_reference.npz: what PyTorch computes, in float64, for `tests/reference/test_torch.py` to compare with.

    python tests/data/make_torch_data.py

Needs PyTorch; the file in this folder was made with the version that it stores under ``torch_version``. Keys are
``case/array``. A recurrent case has its inputs (x, h_0, c_0), its parameters (param/NAME), outputs (y, h_n, c_n), the
cotangents of the outputs (dy, dh_n, dc_n) and all gradients (dx, dh_0, dc_0, grad/NAME); ``case/config`` is JSON.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

T, B, I, H = 4, 3, 3, 4
LENGTHS = [2, 4, 3]

RECURRENT = {  # name: (cell, options of the PyTorch layer, lengths)
    "lstm": ("lstm", {}, None),
    "lstm_no_bias": ("lstm", {"bias": False}, None),
    "lstm_projected": ("lstm", {"proj_size": 2}, None),
    "lstm_stacked": ("lstm", {"num_layers": 2, "bidirectional": True, "proj_size": 3}, None),
    "lstm_packed": ("lstm", {"num_layers": 2, "bidirectional": True}, LENGTHS),
    "gru": ("gru", {}, None),
    "gru_no_bias": ("gru", {"bias": False}, None),
    "gru_stacked": ("gru", {"num_layers": 2, "bidirectional": True}, None),
    "gru_packed": ("gru", {"bidirectional": True}, LENGTHS),
    "rnn_tanh": ("rnn_tanh", {"num_layers": 2, "bidirectional": True}, None),
    "rnn_relu": ("rnn_relu", {"num_layers": 2, "bidirectional": True}, None),
}

OPTIMISERS = {  # name: (function of the reference, PyTorch class, options)
    "sgd": ("sgd", torch.optim.SGD, {"lr": 0.1}),
    "sgd_momentum": ("sgd", torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}),
    "sgd_nesterov": (
        "sgd",
        torch.optim.SGD,
        {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05, "nesterov": True},
    ),
    "rmsprop": ("rmsprop", torch.optim.RMSprop, {"lr": 0.01}),
    "rmsprop_all": (
        "rmsprop",
        torch.optim.RMSprop,
        {"lr": 0.02, "alpha": 0.9, "eps": 1e-3, "momentum": 0.5, "centered": True, "weight_decay": 0.1},
    ),
    "adam": ("adam", torch.optim.Adam, {"lr": 0.01}),
    "adam_all": (
        "adam",
        torch.optim.Adam,
        {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1},
    ),
    "adamw": ("adamw", torch.optim.AdamW, {"lr": 0.01}),
    "adamw_all": (
        "adamw",
        torch.optim.AdamW,
        {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3},
    ),
}

CROSS_ENTROPY = {
    "plain": {},
    "ignore_index": {"ignore_index": 2},
    "smooth": {"label_smoothing": 0.2},
    "smooth_ignore_index": {"ignore_index": 2, "label_smoothing": 0.2},
}


def leaf(*shape):
    return torch.randn(*shape, requires_grad=True)


def recurrent_case(cell, options, lengths):
    """One layer: forward, and the gradients of ⟨y, dy⟩ + ⟨h_n, dh_n⟩ (+ ⟨c_n, dc_n⟩)."""
    classes = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn_tanh": nn.RNN, "rnn_relu": nn.RNN}
    extra = {"nonlinearity": cell[4:]} if cell.startswith("rnn") else {}
    layer = classes[cell](I, H, **options, **extra)
    layers = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    x, h_0, c_0 = leaf(T, B, I), leaf(layers, B, options.get("proj_size", 0) or H), leaf(layers, B, H)
    states = {"h": h_0, "c": c_0} if cell == "lstm" else {"h": h_0}
    inputs = x if lengths is None else nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    y, final = layer(inputs, (h_0, c_0) if cell == "lstm" else h_0)
    if lengths is not None:
        y, _ = nn.utils.rnn.pad_packed_sequence(y, total_length=T)
    finals = dict(zip(states, final if cell == "lstm" else (final,)))
    dy, dfinals = torch.randn_like(y), {s: torch.randn_like(a) for s, a in finals.items()}
    torch.autograd.backward([y, *finals.values()], [dy, *dfinals.values()])
    arrays = {"x": x, "y": y, "dy": dy, "dx": x.grad}
    for s, s_0 in states.items():
        arrays |= {f"{s}_0": s_0, f"{s}_n": finals[s], f"d{s}_n": dfinals[s], f"d{s}_0": s_0.grad}
    for name, p in layer.named_parameters():
        arrays |= {f"param/{name}": p, f"grad/{name}": p.grad}
    config = {
        "cell": cell,
        "num_layers": options.get("num_layers", 1),
        "bidirectional": options.get("bidirectional", False),
        "lengths": lengths,
    }
    return {"config": json.dumps(config), **arrays}


def layer_norm_case():
    layer, x = nn.LayerNorm(5), leaf(3, 2, 5)
    with torch.no_grad():
        layer.weight.normal_()
        layer.bias.normal_()
    y = layer(x)
    dy = torch.randn_like(y)
    y.backward(dy)
    return {
        "x": x,
        "weight": layer.weight,
        "bias": layer.bias,
        "y": y,
        "dy": dy,
        "dx": x.grad,
        "dweight": layer.weight.grad,
        "dbias": layer.bias.grad,
    }


def loss_cases():
    """Gradients of the mean losses of PyTorch; logits [N, C] include large ones."""
    cases = {}
    logits, targets = 4 * torch.randn(6, 5), torch.tensor([0, 2, 4, 1, 2, 3])
    logits[3] *= 200
    for name, options in CROSS_ENTROPY.items():
        x = logits.clone().requires_grad_()
        loss = nn.functional.cross_entropy(x, targets, **options)
        loss.backward()
        cases[f"cross_entropy_{name}"] = {
            "config": json.dumps(options), "logits": x, "targets": targets, "loss": loss, "dlogits": x.grad
        }  # fmt: skip
    target, weight = torch.rand(6, 5), torch.rand(6, 5)
    for name, w in {"plain": None, "weight": weight}.items():
        x = logits.clone().requires_grad_()
        element = nn.functional.binary_cross_entropy_with_logits(x, target, reduction="none")
        loss = element.mean() if w is None else (w * element).sum() / w.sum()
        loss.backward()
        cases[f"bce_{name}"] = {"logits": x, "target": target, "loss": loss, "dlogits": x.grad}
        if w is not None:
            cases[f"bce_{name}"]["weight"] = w
    pred = leaf(6, 5)
    loss = nn.functional.mse_loss(pred, target)
    loss.backward()
    cases["mse"] = {"pred": pred, "target": target, "loss": loss, "dpred": pred.grad}
    return cases


def optimiser_case(function, cls, options):
    """A trajectory: the parameter before the first and after each of six steps with random gradients."""
    p = leaf(3, 2)
    optimiser, steps, grads = cls([p], **options), [p.detach().clone()], torch.randn(6, 3, 2)
    for g in grads:
        p.grad = g.clone()
        optimiser.step()
        steps.append(p.detach().clone())
    config = {"function": function, "options": options}
    return {"config": json.dumps(config), "grads": grads, "params": torch.stack(steps)}


def clip_case():
    grads = {"a": torch.randn(3, 2), "b": torch.randn(4)}
    cases = {}
    for name, max_norm in {"clip_small": 0.5, "clip_large": 50.0}.items():
        parameters = {k: nn.Parameter(torch.zeros_like(g)) for k, g in grads.items()}
        for k, p in parameters.items():
            p.grad = grads[k].clone()
        norm = nn.utils.clip_grad_norm_(parameters.values(), max_norm)
        cases[name] = {"max_norm": torch.tensor(max_norm), "norm": norm}
        for k, p in parameters.items():
            cases[name] |= {f"grad/{k}": grads[k], f"clipped/{k}": p.grad}
    return cases


def main():
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    torch.manual_seed(20240607)
    cases = {name: recurrent_case(*case) for name, case in RECURRENT.items()}
    cases["layer_norm"] = layer_norm_case()
    cases |= loss_cases()
    cases |= {f"optimiser_{name}": optimiser_case(*case) for name, case in OPTIMISERS.items()}
    cases |= clip_case()
    arrays = {"torch_version": np.array(torch.__version__.partition("+")[0])}
    for case, entries in cases.items():
        for name, a in entries.items():
            arrays[f"{case}/{name}"] = a.detach().numpy() if isinstance(a, torch.Tensor) else np.array(a)
    path = Path(__file__).with_name("torch_reference.npz")
    np.savez_compressed(path, **arrays)
    print(f"{path.name}: {len(arrays)} arrays, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
