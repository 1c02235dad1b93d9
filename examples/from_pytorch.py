"""Take the weights of a PyTorch model over
===========================================

Names, shapes and gate order are PyTorch's, so `load_state_dict` takes what a PyTorch layer's `state_dict` gives.
The copy is then saved as safetensors, and whoever loads it needs fastrnn alone.

    python examples/from_pytorch.py    # needs PyTorch, else it says so
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

import fastrnn as fr


def copy_weights(theirs, ours):
    """Put the parameters of a PyTorch layer into ours."""
    ours.load_state_dict({name: array.numpy() for name, array in theirs.state_dict().items()})


# %%
# Build both, copy, compare, save
# -------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small model")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    try:
        import torch
    except ImportError:
        sys.exit("this example needs PyTorch: pip install torch")

    torch.manual_seed(args.seed)
    T, B, symbols, width, hidden = (12, 3, 20, 8, 16) if args.quick else (100, 16, 1000, 64, 128)
    embedding = torch.nn.Embedding(symbols, width)
    lstm = torch.nn.LSTM(width, hidden, num_layers=2, bidirectional=True)
    head = torch.nn.Linear(2 * hidden, symbols)

    model = fr.Sequential(
        fr.Embedding(symbols, width),
        fr.LSTM(width, hidden, num_layers=2, bidirectional=True),
        fr.Linear(2 * hidden, symbols),
    )
    for theirs, ours in zip((embedding, lstm, head), model, strict=True):
        copy_weights(theirs, ours)

    x = np.random.default_rng(args.seed).integers(symbols, size=(T, B))
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        right = head(lstm(embedding(torch.from_numpy(x)))[0]).numpy()
        path = Path(folder) / "model.safetensors"
        fr.save(model, path)
        logits, _ = fr.load(path)(x)
        print(f"{model.num_params} parameters, {path.stat().st_size / 1e6:.2f} MB as {path.name}")
    error = abs(logits - right).max() / abs(right).max()
    print(f"logits {logits.shape}, largest difference / largest value: {error:.1e}")
    assert error < 1e-5


if __name__ == "__main__":
    main()
