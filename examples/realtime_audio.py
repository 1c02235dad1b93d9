"""An audio effect at 48 kHz, one sample at a time
==================================================

A network imitates an analogue synthesiser's filter.

The filter to imitate is a transistor ladder: four saturating low-pass stages in a loop of feedback. A small LSTM
learns it from synthetic notes that go through the equations, and then runs as an effect does: `stream()` packs the
weights once, `step` takes a sample, `run` a block. Samples come with the clock, every 20.83 µs, and each must have left
before the next one comes: that is the deadline that the time for each is held against.

A sample can be late although no call takes long: when the operating system gives the CPU to somebody else. Programs for
audio ask it for real-time priority; this one doesn't, and counts those samples too.

    python examples/realtime_audio.py            # about a minute; writes a plot
    python examples/realtime_audio.py --quick    # a few seconds, worse sound
"""

import argparse
import gc
import time

import numpy as np

import fastrnn as fr

RATE = 48_000  # samples/s
CUTOFF, RESONANCE = 1_000.0, 0.5  # Hz; 1 is where a ladder begins to oscillate


# %%
# The filter, and notes to learn from
# -----------------------------------


def ladder(x):
    """What the filter makes of x [T, B]: each stage moves towards the one before, and saturates."""
    g = 1 - np.exp(-2 * np.pi * CUTOFF / RATE)
    stages = np.zeros((4, x.shape[1]))
    y = np.empty_like(x)
    for t in range(len(x)):
        drive = x[t] - 4 * RESONANCE * stages[3]
        for k in range(4):
            stages[k] += g * (np.tanh(drive) - np.tanh(stages[k]))
            drive = stages[k]
        y[t] = stages[3]
    return y


def notes(steps, count, rng):
    """`count` signals [T, B]: a plucked note each, with harmonics, of a random pitch, colour, loudness and decay."""
    t = np.arange(steps)[:, None] / RATE
    pitch = 50 * 2 ** rng.uniform(0, 4, count)  # 50 to 800 Hz
    colour, decay = rng.uniform(0.5, 1.5, count), rng.uniform(1, 20, count)
    x = np.zeros((steps, count))
    for k in range(1, 16):
        audible = pitch * k < RATE / 3
        x += audible * k**-colour * np.sin(2 * np.pi * (k * pitch * t + rng.uniform(0, 1, count)))
    return x * np.exp(-decay * t) * rng.uniform(0.2, 1.5, count)


def batches(count, steps, rows, rng):
    """`count` batches of notes and what the filter makes of them, [T, B, 1]."""
    x = notes(steps, count * rows, rng)
    y = ladder(x)
    pairs = (a.astype(np.float32).reshape(steps, count, rows, 1).swapaxes(0, 1) for a in (x, y))
    return [fr.Batch(*map(np.ascontiguousarray, pair)) for pair in zip(*pairs, strict=True)]


def error_to_signal(y, target):
    """The energy of the error as a share of the signal's."""
    return np.sum((y - target) ** 2) / np.sum(target**2)


# %%
# Sample by sample, against the clock
# -----------------------------------


def play(model, x, block):
    """Run x [T, 1] through a stream as it comes from a sound card, in blocks; returns (y, µs of each, late ones).

    Block n is complete at (n + 1)·block/RATE by the clock, and its result is due one block later. An effect would wait
    for the sound card; here a loop looks at the clock.
    """
    stream = model.stream()
    y = np.empty_like(x)
    ins, outs = ([a[k : k + block] for k in range(0, len(x), block)] for a in (x, y))
    if block == 1:
        ins, outs, move = [a[0] for a in ins], [a[0] for a in outs], stream.step
    else:
        move = stream.run
    for _ in range(1000):  # caches, branch predictors, the CPU's clock
        move(ins[0], out=outs[0])
    stream.reset()
    took, left = np.empty(len(ins), np.int64), np.empty(len(ins), np.int64)
    period = 1e9 * block / RATE
    clock = time.perf_counter_ns
    gc.collect()
    gc.disable()  # a collection of other people's garbage is a pause
    begin = clock()
    for n in range(len(ins)):
        due = begin + (n + 1) * period
        now = clock()
        while now < due:
            now = clock()
        move(ins[n], out=outs[n])
        end = clock()
        took[n] = end - now
        left[n] = end - begin
    gc.enable()
    late = left > (np.arange(len(ins)) + 2) * period
    return y, took / 1e3, late


def report(name, took, late, deadline):
    p50, p99, p999 = np.percentile(took, [50, 99, 99.9])
    print(f"{name}: p50 {p50:.2f}, p99 {p99:.2f}, p99.9 {p999:.2f}, worst {took.max():.2f} µs of {deadline:.2f} µs")
    print(f"  {(took > deadline).sum()} of {len(took):,} calls took longer; {late.sum()} ({late.mean():.4%}) were late")


# %%
# The figure
# ----------


def plot(path, x, y, target, took):
    """Output beside target, and how long a sample takes beside how long it may."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (wave, times) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    part = slice(RATE // 50, RATE // 50 + 600)
    ms = np.arange(part.start, part.stop) / RATE * 1e3
    wave.plot(ms, x[part], color="0.8", label="input")
    wave.plot(ms, target[part], color="tab:orange", lw=3, label="filter")
    wave.plot(ms, y[part], color="tab:blue", lw=1, label="network, streamed")
    wave.set(xlabel="time (ms)", ylabel="signal", title="What comes out")
    wave.legend(loc="upper right")
    deadline = 1e6 / RATE
    edges = np.geomspace(min(took.min(), 0.1), max(took.max(), deadline) * 1.5, 120)
    times.hist(took, edges, color="tab:blue")
    times.axvline(deadline, color="tab:red", label=f"deadline, {deadline:.2f} µs")
    times.set(xscale="log", yscale="log", xlabel="time that a sample takes (µs)", ylabel="samples")
    times.set_title(f"{len(took):,} samples, one call each")
    times.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


# %%
# Run it
# ------


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less training, half a second of audio")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", default="realtime_audio.png", help="where to write the plot")
    args = parser.parse_args()

    rng = np.random.default_rng(args.seed)
    model = fr.Sequential(fr.LSTM(1, 16, seed=args.seed), fr.Linear(16, 1, seed=args.seed))
    train, test = batches(8 if args.quick else 64, 1024, 32, rng), batches(1, 4800, 16, rng)[0]
    optimizer = fr.optim.Adam(model, lr=5e-3)
    fr.fit(
        model, train, fr.losses.mse, optimizer, epochs=4 if args.quick else 30, clip_norm=1.0,
        schedule=fr.schedules.Cosine(), seed=args.seed,
    )  # fmt: skip
    error = error_to_signal(model(test.x)[0], test.target)
    print(f"error on notes that it has not seen: {error:.2%} of the signal's energy")

    seconds = 0.5 if args.quick else 10
    x = np.concatenate(list(notes(RATE // 4, int(4 * seconds), rng).T))[:, None].astype(np.float32)
    y, took, late = play(model, x, 1)
    report("a sample a call", took, late, 1e6 / RATE)
    blocks, took_blocks, late_blocks = play(model, x, 64)
    report("64 samples a call", took_blocks, late_blocks, 64e6 / RATE)
    whole, _ = model(x)
    same = np.array_equal(y, whole) and np.array_equal(blocks, whole)
    print(f"bitwise what the model makes of the whole {seconds} s at once: {same}")

    try:
        plot(args.plot, x[:, 0], y[:, 0], ladder(x.astype(float))[:, 0], took)
        print(f"output and times: {args.plot}")
    except ImportError as error:
        print(f"no plot: {error}; pip install matplotlib")


if __name__ == "__main__":
    main()
