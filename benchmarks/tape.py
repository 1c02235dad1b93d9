"""What the tape costs: training steps of `fr.value_and_grad` beside the same calls written by hand.

    python benchmarks/tape.py [--repeat N] [--profile] [--case NAME]

By hand: each layer's `vjp`, each array operation's gradient, pullbacks in reverse order; the gradients agree. The two
take turns in one process; times are of the CPU, the lowest decile of each, for whatever else runs only adds to them.
"""

import argparse
import cProfile
import json
import pstats
import time

import numpy as np

import fastrnn as fr
from fastrnn import ops


class LanguageModel(fr.Model):
    """Embedding, LSTM, linear map: three layers and a loss."""

    def __init__(self, words, size):
        self.embedding = fr.Embedding(words, size, seed=0)
        self.lstm = fr.LSTM(size, size, seed=1)
        self.output = fr.Linear(size, words, seed=2)

    def forward(self, x):
        return self.output(self.lstm(self.embedding(x))[0])

    def loss(self, x, target):
        return fr.losses.cross_entropy(self(x), target)[0]

    def by_hand(self, x, target):
        self.zero_grads()
        e, pull_e = self.embedding.vjp(x)
        (y, _), pull_y = self.lstm.vjp(e)
        z, pull_z = self.output.vjp(y)
        loss, dz = fr.losses.cross_entropy(z, target)
        pull_e(pull_y(pull_z(dz))[0])
        return loss


class Attending(fr.Model):
    """Encoder and decoder with attention made of array operations: five layers, eleven operations and a loss."""

    def __init__(self, words, size):
        self.embedding = fr.Embedding(words, size, seed=0)
        self.encoder, self.decoder = fr.GRU(size, size, seed=1), fr.GRU(size, size, seed=2)
        self.combine, self.output = fr.Linear(2 * size, size, seed=3), fr.Linear(size, words, seed=4)
        self.scale = np.float32(size**-0.5)

    def forward(self, x, seen):
        source, state = self.encoder(self.embedding(x))
        y, _ = self.decoder(self.embedding(seen), state)
        s, q = source.transpose(1, 0, 2), y.transpose(1, 0, 2)
        weights = ops.softmax(q @ s.transpose(0, 2, 1) * self.scale)
        context = (weights @ s).transpose(1, 0, 2)
        return self.output(ops.tanh(self.combine(fr.concat([context, y], -1))))

    def loss(self, x, seen, target):
        return fr.losses.cross_entropy(self(x, seen), target)[0]

    def by_hand(self, x, seen, target):
        self.zero_grads()
        e, pull_e = self.embedding.vjp(x)
        (source, state), pull_source = self.encoder.vjp(e)
        d, pull_d = self.embedding.vjp(seen)
        (y, _), pull_y = self.decoder.vjp(d, state)
        s, q = source.transpose(1, 0, 2), y.transpose(1, 0, 2)
        st = s.transpose(0, 2, 1)
        weights = fr.nn.activations.softmax(np.matmul(q, st) * self.scale)
        context = np.matmul(weights, s).transpose(1, 0, 2)
        a, pull_a = self.combine.vjp(np.concatenate([context, y], -1))
        t = fr.nn.activations.tanh(a)
        z, pull_z = self.output.vjp(t)
        loss, dz = fr.losses.cross_entropy(z, target)
        size = y.shape[-1]
        da = pull_z(dz) * (1 - t * t)
        both = pull_a(da)
        dcontext, dy = both[..., :size].transpose(1, 0, 2), both[..., size:]
        dw = np.matmul(dcontext, st)
        ds = np.matmul(weights.transpose(0, 2, 1), dcontext)
        dscore = weights * (dw - (dw * weights).sum(-1, keepdims=True)) * self.scale
        dq = np.matmul(dscore, s)
        ds = ds + np.matmul(q.transpose(0, 2, 1), dscore).transpose(0, 2, 1)
        dd, dstate = pull_y(dy + dq.transpose(1, 0, 2))
        pull_d(dd)
        pull_e(pull_source(ds.transpose(1, 0, 2), dstate)[0])
        return loss


class Loop(fr.Model):
    """A cell called step by step on parts of an array: one layer, one indexing a step."""

    def __init__(self, words, size):
        self.embedding = fr.Embedding(words, size, seed=0)
        self.cell, self.output = fr.GRUCell(size, size, seed=1), fr.Linear(size, words, seed=2)

    def forward(self, x):
        e, h, found = self.embedding(x), None, []
        for t in range(len(x)):
            h = self.cell(e[t], h)
            found.append(h)
        return self.output(fr.stack(found))

    def loss(self, x, target):
        return fr.losses.cross_entropy(self(x), target)[0]

    def by_hand(self, x, target):
        self.zero_grads()
        e, pull_e = self.embedding.vjp(x)
        h, found, pulls = None, [], []
        for t in range(len(x)):
            h, pull = self.cell.vjp(e[t], h)
            found.append(h)
            pulls.append(pull)
        z, pull_z = self.output.vjp(np.stack(found))
        loss, dz = fr.losses.cross_entropy(z, target)
        dy, de, dh = pull_z(dz), np.empty_like(e), None
        for t in reversed(range(len(x))):
            de[t], dh = pulls[t](dy[t] if dh is None else dy[t] + dh)
        pull_e(de)
        return loss


def cases():
    rng = np.random.default_rng(0)
    draw = lambda steps, batch, words: rng.integers(0, words, (steps, batch))  # noqa: E731
    for name, kind, words, size, steps, batch in (
        ("layers, small", LanguageModel, 100, 32, 16, 8),
        ("layers", LanguageModel, 500, 64, 32, 16),
        ("layers, large", LanguageModel, 1000, 192, 32, 32),
        ("attention, small", Attending, 100, 32, 12, 8),
        ("attention", Attending, 500, 64, 24, 16),
        ("loop, small", Loop, 100, 32, 16, 8),
        ("loop", Loop, 500, 64, 32, 16),
    ):
        count = 3 if kind is Attending else 2
        yield name, kind(words, size), [draw(steps, batch, words) for _ in range(count)]


def same(model, run, args):
    loss, grads = run(*args)
    grads = {name: grad.copy() for name, grad in grads.items()}
    assert abs(model.by_hand(*args) - loss) < 1e-5 * abs(loss)
    for name, grad in model.grads.items():
        np.testing.assert_allclose(grads[name], grad, rtol=0, atol=1e-4 * abs(grad).max(), err_msg=name)


def measure(sides, repeat):
    """Seconds of the CPU of each side, in turn, alternating: a shared machine disturbs them less."""
    times = np.empty((repeat, len(sides)))
    for k in range(repeat):
        for side in (0, 1) if k % 2 else (1, 0):
            start = time.process_time()
            sides[side]()
            times[k, side] = time.process_time() - start
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--case", help="only this one")
    parser.add_argument("--profile", action="store_true", help="where the tape's time goes")
    parser.add_argument("--json", action="store_true", help="figures as JSON in the last line")
    args = parser.parse_args()
    fr.set_num_threads(args.threads)
    figures = {}
    print(f"{'case':18}{'by hand':>12}{'tape':>12}{'overhead':>12}{'share':>9}")
    for name, model, data in cases():
        if args.case not in (None, name):
            continue
        run = fr.value_and_grad(model.loss, model)
        same(model, run, data)
        sides = (lambda: model.by_hand(*data), lambda: run(*data))  # noqa: B023
        if args.profile:
            profile = cProfile.Profile()
            profile.runcall(lambda: [run(*data) for _ in range(args.repeat)])  # noqa: B023
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)
            continue
        measure(sides, 20)
        times = measure(sides, args.repeat)
        hand, taped = np.quantile(times, 0.1, axis=0) * 1e6
        over = taped - hand
        figures[name] = {"by_hand_us": round(hand, 1), "tape_us": round(taped, 1), "overhead": round(over / hand, 4)}
        print(f"{name:18}{hand:9.0f} us{taped:9.0f} us{over:9.1f} us{over / hand:9.1%}")
    if args.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
