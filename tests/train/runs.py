"""Small training runs that use everything which has state, for the tests of resuming; and a script of one.

As a script: ``python runs.py FOLDER OUTPUT [WHERE COUNT]`` goes on with the run in FOLDER and writes the
weights at its end to OUTPUT. With WHERE it kills itself (SIGKILL) at the COUNT-th time it gets there:
``written`` (a checkpoint's temporary file is complete, not yet renamed), ``half`` (half of it is written) or
``renamed``.
"""

import os
import signal
import sys

import numpy as np

import fastrnn as fr
from fastrnn.train import schedules

STEPS = 45


def language_model(seed=0):
    """A model with dropout, windows with random offsets, a carried state, and validation that moves the
    rate."""
    tokens = np.random.default_rng(7).integers(0, 11, 500) % np.arange(1, 501).clip(2, 11)
    model = fr.models.LanguageModel(11, "gru", embedding_dim=4, hidden_size=6, num_layers=2, dropout=0.3, seed=seed)
    data = fr.TokenWindows(tokens[:400], batch_size=3, seq_len=9, shuffle=True, seed=seed)
    options = {
        "optimizer": fr.optim.Adam(model, lr=0.02),
        "validation": fr.TokenWindows(tokens[400:], batch_size=2, seq_len=9, shuffle=True, seed=seed),
        "validate_every": 6,
        "schedule": schedules.Plateau(0.7, patience=0),
        "early_stopping": 40,
        "clip_norm": 0.3,
        "carry_state": True,
        "seed": seed,
    }
    return model, data, options


def classifier(seed=0):
    """Bucketed sequences in, one class a sequence out."""
    rng = np.random.default_rng(3)
    sequences = [rng.standard_normal((n, 3), dtype=np.float32) for n in rng.integers(1, 9, 30)]
    classes = [int(sequence.sum() > 0) for sequence in sequences]
    model = fr.Sequential(fr.LSTM(3, 5, seed=seed), fr.Last(), fr.Dropout(0.2), fr.Linear(5, 2, seed=seed + 1))
    data = fr.SequenceBatches(sequences, classes, batch_size=4, seed=seed)
    options = {
        "loss": fr.losses.cross_entropy,
        "optimizer": fr.optim.SGD(model, lr=0.1, momentum=0.9),
        "schedule": schedules.Cosine(warmup=0.1),
        "seed": seed,
    }
    return model, data, options


def die_at(where, count):
    """Kill this process at the count-th time that a checkpoint gets to `where`."""
    reached, replace = 0, os.replace

    def replacing(source, target):
        nonlocal reached
        reached += 1
        if reached == count and where == "half":
            os.truncate(source, os.path.getsize(source) // 2)
        if reached == count and where in ("half", "written"):
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if reached == count:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replacing


def main(folder, output, where=None, count="1"):
    if where:
        die_at(where, int(count))
    model, data, options = language_model()
    fr.fit(
        model,
        data,
        steps=STEPS,
        checkpoint=folder,
        checkpoint_seconds=0.0,
        resume=True,
        progress=False,
        **options,
    )
    np.savez(output, **model.params)


if __name__ == "__main__":
    main(*sys.argv[1:])
