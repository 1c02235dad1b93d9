"""Training steps of `Seq2SeqRegressor` with teacher forcing and running free, beside PyTorch: `--repeat N --threads N`.

A step is loss, gradients and Adam; 24 steps in, 24 out, 10 units, 16 rows, as in examples/seq2seq_sine_cosine.py.
PyTorch runs the decoder as one call with teacher forcing, and as the usual loop over a cell (for attention, a loop in
both). Times of the CPU, in turn, the lowest decile.
"""

import argparse
import time

import numpy as np

import fastrnn as fr

STEPS, HIDDEN, BATCH = 24, 10, 16


def ours(cell, attention, sampling):
    model = fr.models.Seq2SeqRegressor(1, 1, HIDDEN, cell=cell, attention=attention, sampling=sampling, seed=0)
    optimizer, run = fr.optim.Adam(model, lr=1e-3), fr.value_and_grad(model.loss, model)

    def step(x, y):
        run((x, y), seed=0)
        optimizer.step()

    return step


def theirs(torch, cell, attention, sampling):
    nn = torch.nn
    kind = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[cell]
    one = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}[cell]
    inputs = 1 + (HIDDEN if attention else 0)
    encoder, whole, loop, output = kind(1, HIDDEN), kind(1, HIDDEN), one(inputs, HIDDEN), nn.Linear(HIDDEN, 1)
    key, combine = nn.Linear(HIDDEN, HIDDEN, bias=False), nn.Linear(2 * HIDDEN, HIDDEN)
    parts = [encoder, loop if attention or sampling else whole, output, *([key, combine] if attention else [])]
    optimizer = torch.optim.Adam([p for part in parts for p in part.parameters()], lr=1e-3)

    def step(x, y):
        x, y = torch.from_numpy(x), torch.from_numpy(y)
        source, state = encoder(x)
        given = torch.cat([torch.zeros(1, BATCH, 1), y[:-1]])
        if not attention and not sampling:
            v = output(whole(given, state)[0])
        else:
            state = tuple(s[0] for s in state) if cell == "lstm" else state[0]
            keys = key(source) if attention else None
            feed, value, found = torch.zeros(BATCH, HIDDEN), given[0], []
            for t in range(STEPS):
                value = given[t] if not sampling else value
                state = loop(torch.cat([value, feed], 1) if attention else value, state)
                h = state[0] if cell == "lstm" else state
                if attention:
                    weights = torch.softmax(torch.einsum("sbh,bh->bs", keys, h), 1)
                    context = torch.einsum("bs,sbh->bh", weights, source)
                    h = feed = torch.tanh(combine(torch.cat([context, h], 1)))
                value = output(h)
                found.append(value)
            v = torch.stack(found)
        optimizer.zero_grad()
        nn.functional.mse_loss(v, y).backward()
        optimizer.step()

    return step


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    fr.set_num_threads(args.threads)
    try:
        import torch

        torch.set_num_threads(args.threads)
    except ImportError:
        torch = None
        print("without PyTorch: pip install torch")
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((STEPS, BATCH, 1)).astype(np.float32) for _ in range(2))
    for cell, attention in (("rnn", None), ("lstm", None), ("gru", None), ("lstm", "general")):
        names = [
            (f"{cell}{' + attention' if attention else ''}", what, p) for what, p in (("given", 0.0), ("free", 1.0))
        ]
        sides = [ours(cell, attention, p) for _, _, p in names]
        sides += [theirs(torch, cell, attention, p) for _, _, p in names] if torch else []
        times = np.empty((args.repeat, len(sides)))
        for k in range(-3, args.repeat):
            for side, step in enumerate(sides):
                step(x, y)  # what ran before it has left the caches to itself
                start = time.process_time()
                step(x, y)
                times[k, side] = time.process_time() - start
        found = np.quantile(times, 0.1, axis=0) * 1e6
        line = f"{names[0][0]:18} given {found[0]:6.0f} us  free {found[1]:6.0f} us ({found[1] / found[0]:.2f})"
        if torch:
            given, free = found[2] / found[0], found[3] / found[1]
            line += f"  PyTorch: given {found[2]:6.0f} us ({given:.1f})  free {found[3]:6.0f} us ({free:.1f})"
        print(line)


if __name__ == "__main__":
    main()
