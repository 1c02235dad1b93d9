"""A run that is stopped anywhere and resumed gives the bits of one that never was."""

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fastrnn as fr

from . import runs


class Crash(Exception):
    pass


def crashing(function, at):
    """Raise at the at-th call, before the function is called."""
    calls = 0

    def wrapped(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == at:
            raise Crash
        return function(*args, **kwargs)

    return wrapped


def weights_of(model):
    return {name: array.copy() for name, array in model.params.items()}


def assert_bitwise(first, second):
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)


@pytest.mark.parametrize("make", [runs.language_model, runs.classifier])
@pytest.mark.parametrize("limit", [{"steps": 21}, {"epochs": 3}])
def test_crash_at_every_step(make, limit, tmp_path):
    model, data, options = make()
    fr.fit(model, data, **limit, progress=False, **options)
    expected = weights_of(model)
    for at in range(2, 22, 3):
        model, data, options = make()
        model.vjp = crashing(model.vjp, at)
        folder = tmp_path / str(at)
        files = {"checkpoint": folder, "checkpoint_seconds": 0.0, "progress": False}
        with pytest.raises(Crash):
            fr.fit(model, data, **limit, **files, **options)
        model, data, options = make(seed=99)  # nothing of the new objects may matter
        history = fr.fit(model, data, **limit, **files, resume=True, **options)
        assert_bitwise(weights_of(model), expected)
        assert history.steps["step"] == list(range(1, len(history.steps["step"]) + 1))


def test_the_crash_may_be_long_after_the_checkpoint(tmp_path):
    model, data, options = runs.language_model()
    fr.fit(model, data, steps=20, progress=False, **options)
    expected = weights_of(model)
    folder = tmp_path / "run"
    # Two runs with a longer limit would see another schedule, so the first part is a run that crashes.
    model, data, options = runs.language_model()
    model.vjp = crashing(model.vjp, 11)
    with pytest.raises(Crash):
        fr.fit(model, data, steps=20, progress=False, checkpoint=folder, checkpoint_seconds=0.0, **options)
    model, data, options = runs.language_model()
    model.vjp = crashing(model.vjp, 6)
    with pytest.raises(Crash):  # this one saves nothing
        fr.fit(model, data, steps=20, progress=False, checkpoint=folder, resume=True, **options)
    model, data, options = runs.language_model()
    fr.fit(model, data, steps=20, progress=False, checkpoint=folder, resume=True, **options)
    assert_bitwise(weights_of(model), expected)


def test_a_list_of_batches_and_a_plain_iterable(tmp_path):
    x = np.random.default_rng(0).standard_normal((5, 4, 6, 3), dtype=np.float32)
    batches = [(part, part.sum(axis=(0, 2))[:, None]) for part in x]

    class Plain:
        def __iter__(self):
            return iter(batches)

    def make():
        model = fr.Sequential(fr.GRU(3, 4, seed=0), fr.Last(), fr.Linear(4, 1, seed=1))
        return model, {"loss": fr.losses.mse, "optimizer": fr.optim.Adam(model), "progress": False}

    model, options = make()
    fr.fit(model, batches, epochs=3, **options)
    expected = weights_of(model)
    for data in (batches, Plain()):
        folder = tmp_path / type(data).__name__
        model, options = make()
        model.vjp = crashing(model.vjp, 9)
        with pytest.raises(Crash):
            fr.fit(model, data, epochs=3, checkpoint=folder, checkpoint_seconds=0.0, **options)
        model, options = make()
        fr.fit(model, data, epochs=3, checkpoint=folder, resume=True, **options)
        assert_bitwise(weights_of(model), expected)


@pytest.fixture(scope="module")
def uninterrupted():
    model, data, options = runs.language_model()
    fr.fit(model, data, steps=runs.STEPS, progress=False, **options)
    return weights_of(model)


def start(folder, output, *more):
    return subprocess.Popen([sys.executable, runs.__file__, folder, output, *map(str, more)])


def test_kill_at_random_moments(tmp_path, uninterrupted):
    folder, output = tmp_path / "run", tmp_path / "weights.npz"
    checkpoint = folder / "checkpoint.safetensors"
    rng, kills = random.Random(time.time_ns()), 0
    while True:
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = start(folder, output)
        while kills < 4 and process.poll() is None:
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
                time.sleep(0.03 * rng.random())
                process.kill()
                kills += 1
                break
            time.sleep(0.001)
        code = process.wait()
        if code == 0:
            break
        assert code == -9
    assert kills
    with np.load(output) as found:
        assert_bitwise(dict(found), uninterrupted)


def test_kill_while_a_checkpoint_is_written(tmp_path, uninterrupted):
    folder, output = tmp_path / "run", tmp_path / "weights.npz"
    for where, count in (("half", 1), ("written", 4), ("half", 9), ("renamed", 7), ("written", 1)):
        assert start(folder, output, where, count).wait() == -9
        left = sorted(Path(folder).glob(".*tmp*"))
        assert len(left) == (where != "renamed")
    assert start(folder, output).wait() == 0
    assert not list(Path(folder).glob(".*tmp*"))
    with np.load(output) as found:
        assert_bitwise(dict(found), uninterrupted)


def test_a_finished_run_stays_as_it_is(tmp_path):
    model, data, options = runs.language_model()
    files = {"checkpoint": tmp_path / "run", "progress": False}
    fr.fit(model, data, steps=12, **files, **options)
    expected, path = weights_of(model), tmp_path / "run" / "checkpoint.safetensors"
    content = path.read_bytes()
    model, data, options = runs.language_model(seed=5)
    history = fr.fit(model, data, steps=12, resume=True, **files, **options)
    assert_bitwise(weights_of(model), expected)
    assert path.read_bytes() == content
    assert history.steps["step"][-1] == 12


def test_a_longer_limit_goes_on(tmp_path):
    model, data, options = runs.classifier()
    del options["schedule"]
    fr.fit(model, data, epochs=4, progress=False, **options)
    expected = weights_of(model)
    for epochs in (1, 2, 4):
        model, data, options = runs.classifier()
        del options["schedule"]
        files = {"checkpoint": tmp_path / "run", "resume": True}
        history = fr.fit(model, data, epochs=epochs, progress=False, **files, **options)
        assert len(history.epochs) == epochs
    assert_bitwise(weights_of(model), expected)


def test_what_does_not_fit_is_named(tmp_path):
    model, data, options = runs.classifier()
    files = {"checkpoint": tmp_path / "run", "progress": False, "steps": 3}
    fr.fit(model, data, **files, **options)
    with pytest.raises(FileExistsError, match="holds a checkpoint; go on from it with resume=True"):
        fr.fit(model, data, **files, **options)
    other = fr.Sequential(fr.LSTM(3, 6), fr.Last(), fr.Dropout(0.2), fr.Linear(6, 2))
    changed = {**options, "optimizer": fr.optim.SGD(other, momentum=0.9)}
    with pytest.raises(ValueError, match=r"(?s)doesn't fit this run: .*weight_ih_l0"):
        fr.fit(other, data, resume=True, **files, **changed)
    with pytest.raises(ValueError, match="is of 'SGD', expected 'Adam'"):
        fr.fit(model, data, resume=True, **files, **{**options, "optimizer": fr.optim.Adam(model)})
    with pytest.raises(ValueError, match="schedule: the run was started with one"):
        fr.fit(model, data, resume=True, **files, **{**options, "schedule": None})
    with pytest.raises(ValueError, match="data: the run was started with one"):
        fr.fit(model, list(data), resume=True, **files, **options)
    path = tmp_path / "run" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        fr.fit(model, data, resume=True, **files, **options)
