"""Seq2seq with attention beside PyTorch: a training step, and beam search, on the same weights and data.

A two-layer bidirectional LSTM encoder of 256 units, a two-layer decoder with general attention and input feeding,
8,000 words, 30 steps, 64 sentences. PyTorch's side is nn.LSTM, nn.LSTMCell in a loop and bmm; its beams share source
states and are chosen by one topk a step. Both sides must find the same loss, gradients, texts and scores; then they are
timed in turn.

    python benchmarks/seq2seq.py --threads 2
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
import torch
from torch import nn

import fastrnn as fr

V, E, H, L, S, T, B = 8000, 256, 256, 2, 30, 30, 64
BOS, EOS, BEAM = 1, 2, 5


class Ours:
    def __init__(self):
        self.source_table, self.table = fr.Embedding(V, E, seed=0), fr.Embedding(V, E, seed=1)
        self.encoder = fr.LSTM(E, H, L, bidirectional=True, seed=2)
        self.decoder = fr.nn.AttentionDecoder(E, H, 2 * H, L, seed=3)
        self.output = fr.Linear(H, V, seed=4)
        self.parts = (self.source_table, self.table, self.encoder, self.decoder, self.output)

    def step(self, source, target):
        """Forward and backward of one batch; the loss."""
        for part in self.parts:
            part.zero_grads()
        xs, embed_source = self.source_table.vjp(source)
        (seen, (h, c)), encode = self.encoder.vjp(xs)
        x, embed = self.table.vjp(target[:-1])
        (y, _), decode = self.decoder.vjp(x, seen, (h[::2] + h[1::2], c[::2] + c[1::2]))
        logits, project = self.output.vjp(y)
        loss, dlogits = fr.losses.cross_entropy(logits, target[1:], out=logits)
        dx, dseen, (dh, dc), _ = decode(project(dlogits))
        embed(dx)
        embed_source(encode(dseen, (np.repeat(dh, 2, 0), np.repeat(dc, 2, 0)))[0])
        return loss

    def search(self, source):
        """(tokens, score) of each sentence."""
        seen, (h, c) = self.encoder(self.source_table(source))
        texts = fr.nn.beam_search(
            self.decoder, self.table, self.output, seen, (h[::2] + h[1::2], c[::2] + c[1::2]), bos=BOS, eos=EOS,
            max_length=T, beam_size=BEAM, length_penalty=1.0,
        )  # fmt: skip
        return texts.tokens[:, 0], texts.scores[:, 0]


class Theirs(nn.Module):
    def __init__(self, ours):
        super().__init__()
        self.source_table, self.table = nn.Embedding(V, E), nn.Embedding(V, E)
        self.encoder = nn.LSTM(E, H, L, bidirectional=True)
        self.cells = nn.ModuleList([nn.LSTMCell(E + H, H), *(nn.LSTMCell(H, H) for _ in range(L - 1))])
        self.key = nn.Linear(2 * H, H, bias=False)
        self.combine, self.output = nn.Linear(3 * H, H), nn.Linear(H, V)
        cell = {f"cells.{l}.{n}": ours.decoder.params[f"{n}_l{l}"] for l in range(L) for n in
                ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}  # fmt: skip
        decoder = ours.decoder.params
        self.load_state_dict({name: torch.tensor(a) for name, a in {
            "source_table.weight": ours.source_table.params["weight"], "table.weight": ours.table.params["weight"],
            **{f"encoder.{name}": a for name, a in ours.encoder.params.items()}, **cell,
            "key.weight": decoder["weight_key"], "combine.weight": decoder["weight_c"],
            "combine.bias": decoder["bias_c"], "output.weight": ours.output.params["weight"],
            "output.bias": ours.output.params["bias"],
        }.items()})  # fmt: skip

    def encode(self, source):
        """(values [B, S, 2H], keys [B, H, S], h and c of each layer)"""
        seen, (h, c) = self.encoder(self.source_table(source))
        values = seen.transpose(0, 1).contiguous()
        keys = self.key(values).transpose(1, 2).contiguous()
        return values, keys, list(h[::2] + h[1::2]), list(c[::2] + c[1::2])

    def decode(self, x, feed, h, c, values, keys):
        """One step for rows in groups that share a source; h and c are replaced in place."""
        x = torch.cat([x, feed], -1)
        for l, cell in enumerate(self.cells):
            h[l], c[l] = cell(x, (h[l], c[l]))
            x = h[l]
        w = torch.softmax(torch.bmm(x.view(len(values), -1, H), keys), -1)
        context = torch.bmm(w, values).view(len(x), -1)
        return torch.tanh(self.combine(torch.cat([context, x], -1)))

    def step(self, source, target):
        self.zero_grad(set_to_none=True)
        values, keys, h, c = self.encode(source)
        x, y, outputs = self.table(target[:-1]), torch.zeros(source.shape[1], H), []
        for x_t in x:
            y = self.decode(x_t, y, h, c, values, keys)
            outputs.append(y)
        logits = self.output(torch.stack(outputs))
        loss = nn.functional.cross_entropy(logits.view(-1, V), target[1:].reshape(-1))
        loss.backward()
        return loss.item()

    @torch.no_grad()
    def search(self, source):
        values, keys, h, c = self.encode(source)
        n = source.shape[1]
        h, c = ([a.repeat_interleave(BEAM, 0) for a in state] for state in (h, c))
        y, token = torch.zeros(n * BEAM, H), torch.full((n * BEAM,), BOS)
        log_p = torch.full((n, BEAM), -torch.inf)
        log_p[:, 0] = 0
        first, ended = torch.arange(n)[:, None] * BEAM, torch.full((n,), -torch.inf)
        tokens, parents = [], []
        for t in range(T):
            y = self.decode(self.table(token), y, h, c, values, keys)
            each = torch.log_softmax(self.output(y), -1).view(n, BEAM, V) + log_p[:, :, None]
            best, place = each.view(n, -1).topk(2 * BEAM, -1)  # at most BEAM of them end
            ends = place % V == EOS
            taken = (~ends).cumsum(1)
            done = torch.where(ends & (taken < BEAM), best / ((6.0 + t) / 6), -torch.inf)
            ended = torch.maximum(ended, done.max(1).values)
            order = ends.to(torch.int8).argsort(dim=1, stable=True)[:, :BEAM]
            log_p, place = best.gather(1, order), place.gather(1, order)
            parent, token = place // V, (place % V).reshape(-1)
            rows = (first + parent).reshape(-1)
            h, c = ([a.index_select(0, rows) for a in state] for state in (h, c))
            y = y.index_select(0, rows)
            tokens.append(token.view(n, BEAM))
            parents.append(parent)
            if bool((ended >= log_p[:, 0] / ((5.0 + T) / 6)).all()):
                break
        beam, text = torch.zeros(n, 1, dtype=torch.long), []
        for t in reversed(range(len(tokens))):
            text.append(tokens[t].gather(1, beam))
            beam = parents[t].gather(1, beam)
        whole = log_p[:, 0] / ((5.0 + T) / 6)
        return torch.cat(text[::-1], 1), torch.maximum(ended, whole), whole >= ended


def agree(ours, theirs, source, target):
    """Both sides compute the same numbers."""
    s, t = torch.tensor(source), torch.tensor(target)
    np.testing.assert_allclose(ours.step(source, target), theirs.step(s, t), rtol=1e-5)
    for a, b in (
        (ours.decoder.grads["weight_ih_l0"], theirs.cells[0].weight_ih.grad),
        (ours.source_table.grads["weight"], theirs.source_table.weight.grad),
        (ours.output.grads["weight"], theirs.output.weight.grad),
    ):
        assert np.abs(a - b.numpy()).max() <= 1e-4 * np.abs(a).max()
    tokens, scores = ours.search(source)
    text, found, whole = theirs.search(s)
    np.testing.assert_allclose(scores, found.numpy(), rtol=1e-4)
    same = [np.array_equal(a, b) for a, b, w in zip(tokens, text.numpy(), whole.numpy(), strict=True) if w]
    assert not same or np.mean(same) > 0.9, "rounding may turn a close race round, not many"


def in_turn(a, b, repeat):
    """Median seconds of both, A B A B …"""
    times: list[list[float]] = [[], []]
    for _ in range(repeat):
        for run, found in zip((a, b), times, strict=True):
            start = time.perf_counter()
            run()
            found.append(time.perf_counter() - start)
    return [statistics.median(found) for found in times]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=9)
    options = parser.parse_args()
    fr.set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    source, target = rng.integers(3, V, (S, B)), rng.integers(3, V, (T + 1, B))
    ours = Ours()
    ours.output.params["weight"] *= 8  # or no word would be more probable than another
    theirs = Theirs(ours)
    agree(ours, theirs, source, target)
    s, t = torch.tensor(source), torch.tensor(target)
    step = in_turn(lambda: ours.step(source, target), lambda: theirs.step(s, t), options.repeat)
    search = in_turn(lambda: ours.search(source), lambda: theirs.search(s), options.repeat)
    a, b = (f"{1e3 * seconds:.0f} ms" for seconds in step)
    print(f"training step: fastrnn {a}, PyTorch {b}, {step[1] / step[0]:.2f}x")
    a, b = (f"{B / seconds:.0f} sentences/s" for seconds in search)
    print(f"beam search: fastrnn {a}, PyTorch {b}, {search[1] / search[0]:.2f}x")
    print(json.dumps({"threads": options.threads, "step_ms": step, "search_s": search}))


if __name__ == "__main__":
    main()
