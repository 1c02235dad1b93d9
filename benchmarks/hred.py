"""A training step of HRED beside PyTorch, on the same weights and dialogues.

64 dialogues of up to 6 turns of up to 12 words, GRUs of 256 units, 5,000 words. PyTorch's side is what people write:
nn.GRU over packed sequences, contexts gathered by a mask, the decoder on packed inputs, and logits of its packed
outputs alone. Both sides must find the same loss and gradients; then they are timed in turn.

    python benchmarks/hred.py --threads 2
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import fastrnn as fr

V, E, H, C, B, TURNS, WORDS = 5000, 256, 256, 256, 64, 6, 12
BOS, EOS = 1, 2


def dialogues(ragged):
    """Lists of lists of words: all of the full size, or from half of it up."""
    rng = np.random.default_rng(0)

    def size(most):
        return int(rng.integers(most // 2, most + 1)) if ragged else most

    return [[rng.integers(4, V, size(WORDS)) for _ in range(size(TURNS))] for _ in range(B)]


class Theirs(nn.Module):
    def __init__(self, ours):
        super().__init__()
        self.embedding = nn.Embedding(V, E)
        self.encoder = nn.GRU(E, H)
        self.context_rnn = nn.GRU(H, C)
        self.to_state = nn.Linear(C, H)
        self.decoder = nn.GRU(E + C, H)
        self.output = nn.Linear(H, V)
        self.load_state_dict({name: torch.tensor(a) for name, a in ours.params.items()})

    def step(self, tokens, lengths, turns):
        """tokens [T, N], lengths [N], turns [B]: the loss, after its gradients."""
        self.zero_grad(set_to_none=True)
        place = torch.arange(int(turns.max()))
        inside = place[None] < turns[:, None]  # [B, P]
        asked, answered = (place[None] < turns[:, None] - 1)[inside], (place[None].expand_as(inside) > 0)[inside]
        _, h = self.encoder(
            pack_padded_sequence(self.embedding(tokens[:, asked]), lengths[asked], enforce_sorted=False)
        )
        steps = turns - 1
        mask = place[None, :-1] < steps[:, None]
        x = h.new_zeros(len(turns), mask.shape[1], H)
        x[mask] = h[0]
        y, _ = self.context_rnn(pack_padded_sequence(x, steps, batch_first=True, enforce_sorted=False))
        y, _ = nn.utils.rnn.pad_packed_sequence(y, batch_first=True)
        context = y[mask]
        ends = lengths[answered] + 1
        words = tokens[:, answered]
        seen = torch.cat([torch.full((1, words.shape[1]), BOS), words])
        target = torch.cat([words, torch.full((1, words.shape[1]), EOS)])
        target[lengths[answered], torch.arange(len(ends))] = EOS
        x = torch.cat([self.embedding(seen), context.expand(len(seen), -1, -1)], -1)
        state = torch.tanh(self.to_state(context))[None]
        out, _ = self.decoder(pack_padded_sequence(x, ends, enforce_sorted=False), state)
        logits = self.output(out.data)
        loss = nn.functional.cross_entropy(logits, pack_padded_sequence(target, ends, enforce_sorted=False).data)
        loss.backward()
        return loss.item()


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
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()
    fr.set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    ours = fr.models.HRED(V, embedding_dim=E, hidden_size=H, context_size=C, seed=0)
    theirs = Theirs(ours)
    step = fr.value_and_grad(ours.loss, ours)
    results = {}
    for ragged in (False, True):
        x = fr.Dialogues.from_lists(dialogues(ragged))
        batch = fr.Batch(x)
        given = [torch.tensor(a) for a in (x.tokens, x.lengths, x.turns)]
        loss, grads = step(batch)
        np.testing.assert_allclose(loss, theirs.step(*given), rtol=1e-5)
        for name, parameter in theirs.named_parameters():
            assert np.abs(grads[name] - parameter.grad.numpy()).max() <= 1e-4 * np.abs(grads[name]).max(), name
        a, b = in_turn(partial(step, batch), partial(theirs.step, *given), options.repeat)
        name = "ragged" if ragged else "full"
        print(f"{name}: fastrnn {1e3 * a:.0f} ms, PyTorch {1e3 * b:.0f} ms, {b / a:.2f}x")
        results[name] = [a, b]
    print(json.dumps({"threads": options.threads, **results}))


if __name__ == "__main__":
    main()
