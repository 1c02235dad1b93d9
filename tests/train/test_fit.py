"""The training loop: what it hands to models and losses, when it stops, what it survives."""

import io
import math
import signal
import threading
import warnings

import numpy as np
import pytest

import fastrnn as fr
from fastrnn.train import schedules


@pytest.fixture(autouse=True)
def ctrl_c_works():
    """A shell starts background jobs with SIGINT ignored, and children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def regression(count=4, seed=0):
    """A model and batches that it can learn."""
    x = np.random.default_rng(seed).standard_normal((count, 6, 5, 3), dtype=np.float32)
    batches = [fr.Batch(part, part.mean(axis=(0, 2))[:, None]) for part in x]
    model = fr.Sequential(fr.GRU(3, 8, seed=0), fr.Last(), fr.Linear(8, 1, seed=1))
    return model, batches


def quick(model, data, **options):
    options.setdefault("optimizer", fr.optim.Adam(model, lr=0.01))
    return fr.fit(model, data, progress=False, **options)


def test_learns():
    model, batches = regression()
    history = quick(model, batches, loss=fr.losses.mse, epochs=40, validation=batches[:1])
    losses = [entry["loss"] for entry in history.epochs]
    assert losses[-1] < 0.3 * losses[0]
    assert len(history.validations) == len(losses) == 40
    assert len(history.steps["loss"]) == 160
    assert history.notes["stopped"] == "limit"


def test_equals_a_loop_by_hand():
    model, batches = regression()
    quick(model, batches, loss=fr.losses.mse, optimizer=fr.optim.SGD(model, lr=0.1), epochs=2, clip_norm=0.1)
    by_hand, _ = regression()
    opt = fr.optim.SGD(by_hand, lr=0.1)
    for x, target, *_ in 2 * batches:
        by_hand.zero_grads()
        y, pullback = by_hand.vjp(x)
        pullback(fr.losses.mse(y[0] if isinstance(y, tuple) else y, target)[1])
        fr.optim.clip_grad_norm(by_hand, 0.1)
        opt.step()
    for name, array in model.params.items():
        np.testing.assert_array_equal(array, by_hand.params[name])


class Spy:
    """A model that notes what it is given."""

    def __init__(self):
        self.params, self.grads = {"w": np.ones(1)}, {"w": np.zeros(1)}
        self.calls = []

    def zero_grads(self):
        self.grads["w"][:] = 0

    def state_dict(self):
        return {"w": self.params["w"].copy()}

    def load_state_dict(self, state):
        self.params["w"][:] = state["w"]

    def __call__(self, x, state=None, *, lengths=None):
        self.calls.append(("call", state, lengths, None))
        return (x * self.params["w"], len(self.calls)) if state is not None or self.carried else x

    carried = False

    def vjp(self, x, state=None, *, lengths=None, seed=None, input_grad=True):
        assert not input_grad
        self.calls.append(("vjp", state, lengths, seed))

        def pullback(dy):
            self.grads["w"] += (dy * x).sum()

        return (x * self.params["w"], len(self.calls)), pullback


def squared(y, target, lengths=None, weight=None):
    squared.calls.append((lengths, weight))
    return float(((y - target) ** 2).mean()), 2 * (y - target) / y.size


def test_what_the_first_form_gets():
    model, squared.calls = Spy(), []
    x = np.ones((3, 2, 1))
    along = fr.Batch(x, np.zeros((3, 2, 1)), [3, 1], [1.0, 2.0])
    single = (x, np.zeros((2, 1)), [2, 2])
    quick(model, [along, single], loss=squared, steps=2)
    (lengths, weight), second = squared.calls
    assert lengths == [3, 1]
    np.testing.assert_array_equal(weight, [[[1.0], [2.0]]])
    assert second == (None, None)
    assert [call[2] for call in model.calls] == [[3, 1], [2, 2]]
    assert all(isinstance(call[3], int) for call in model.calls)
    assert model.calls[0][3] != model.calls[1][3]


def test_the_state_is_carried_within_an_epoch():
    model, squared.calls = Spy(), []
    model.carried = True
    data = [(np.ones((3, 2, 1)), np.zeros((3, 2, 1)))] * 3
    quick(model, data, loss=squared, epochs=2, carry_state=True, validation=data)
    states = [(kind, state) for kind, state, *_ in model.calls]
    assert states == [
        *[("vjp", None), ("vjp", 1), ("vjp", 2)],
        *[("call", None), ("call", 4), ("call", 5)],
        *[("vjp", None), ("vjp", 7), ("vjp", 8)],
        *[("call", None), ("call", 10), ("call", 11)],
    ]


def test_the_second_form():
    model, batches = regression()
    seen = []

    def loss(model, batch, *, seed, train):
        seen.append((seed, train))
        if not train:
            return fr.losses.mse(model(batch.x)[0], batch.target)[0]
        (y, _), pullback = model.vjp(batch.x, seed=seed)
        value, dy = fr.losses.mse(y, batch.target)
        pullback(dy)
        return value

    history = quick(model, batches, loss=loss, epochs=1, validation=batches)
    assert [train for _, train in seen] == [True] * 4 + [False] * 4
    assert seen[0][0] != seen[1][0]
    assert seen[-1][0] is None
    other, batches = regression()
    same = quick(other, batches, loss=fr.losses.mse, epochs=1, validation=batches)
    assert history.steps["loss"] == same.steps["loss"]
    assert history.validations[0]["loss"] == same.validations[0]["loss"]


def test_lengths_reach_losses_of_sequences():
    x = np.random.default_rng(0).standard_normal((4, 2, 3), dtype=np.float32)
    target = np.full((4, 2), -1)
    target[:4, 0], target[:2, 1] = 1, 0
    model = fr.Sequential(fr.LSTM(3, 4, seed=0), fr.Linear(4, 2, seed=0))
    history = quick(model, [(x, target, [4, 2])], loss=fr.losses.cross_entropy, steps=1)
    (y, _) = fr.Sequential(fr.LSTM(3, 4, seed=0), fr.Linear(4, 2, seed=0))(x, lengths=[4, 2])
    expected, _ = fr.losses.cross_entropy(y, target, lengths=[4, 2])
    assert history.steps["loss"] == [expected]

    def plain(y, target):
        return 0.0, np.zeros_like(y)

    with pytest.raises(TypeError, match="takes no `lengths`"):
        quick(model, [(x, target, [4, 2])], loss=plain, steps=1)


def test_means_are_weighted_by_targets():
    model, batches = regression(1)
    batches.append(fr.Batch(batches[0].x[:, :1], batches[0].target[:1]))
    history = quick(model, batches, loss=fr.losses.mse, optimizer=fr.optim.SGD(model, lr=0.0), epochs=1)
    a, b = history.steps["loss"]
    assert history.epochs[0]["loss"] == pytest.approx((5 * a + b) / 6)


def test_limits():
    model, batches = regression()
    assert quick(model, batches, loss=fr.losses.mse, steps=6).steps["step"][-1] == 6
    history = quick(model, batches, loss=fr.losses.mse, epochs=2, steps=100)
    assert history.steps["step"][-1] == 8
    history = quick(model, batches, loss=fr.losses.mse, minutes=0.002)
    # the clock of the last step's record is read just before the clock that ends the run
    assert 0.11 < history.steps["seconds"][-1] < 1.0


def test_schedules_see_the_share_of_the_run():
    class Note(schedules.Schedule):
        def __init__(self):
            self.seen = []

        def __call__(self, step, progress=None):
            self.seen.append((step, progress))
            return 0.5

    model, batches = regression()
    note = Note()
    history = quick(model, batches, loss=fr.losses.mse, epochs=2, schedule=note)
    assert note.seen == [(i, pytest.approx(i / 8)) for i in range(8)]
    assert history.steps["lr"] == [0.005] * 8
    note = Note()
    quick(model, batches, loss=fr.losses.mse, minutes=0.003, schedule=note)
    shares = [share for _, share in note.seen]
    assert shares == sorted(shares)
    assert 0.5 < shares[-1] <= 1.0


def test_early_stopping_puts_the_best_weights_back():
    model, batches = regression()
    losses = iter([3.0, 2.0, 1.0, 1.5, 1.2, 0.1])
    kept = []

    def loss(model, batch, *, train):
        if not train:
            kept.append(model.state_dict())
            return next(losses)
        y, pullback = model.vjp(batch.x)
        value, dy = fr.losses.mse(y[0], batch.target)
        pullback(dy)
        return value

    history = quick(model, batches, loss=loss, epochs=50, validation=batches[:1], early_stopping=2)
    assert history.notes["stopped"] == "early"
    assert len(history.epochs) == 5
    for name, array in model.params.items():
        np.testing.assert_array_equal(array, kept[2][name])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_skipped(bad):
    model, batches = regression()
    broken = batches[1]._replace(target=np.full_like(batches[1].target, bad))
    good, _ = regression()
    quick(good, [batches[0], batches[2]], loss=fr.losses.mse, epochs=1)
    with pytest.warns(RuntimeWarning, match="step 2 was skipped") as record:
        history = quick(model, [batches[0], broken, broken, batches[2]], loss=fr.losses.mse, epochs=1)
    assert len(record) == 1
    assert history.notes["skipped_steps"] == 2
    assert math.isfinite(history.epochs[0]["loss"])
    for name, array in model.params.items():
        np.testing.assert_array_equal(array, good.params[name])


def test_ten_skipped_steps_are_an_error():
    model, batches = regression()
    broken = batches[1]._replace(target=np.full_like(batches[1].target, np.nan))
    before = model.state_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with pytest.raises(FloatingPointError, match=r"10 steps in a row.*the weights are those before"):
            quick(model, [broken], loss=fr.losses.mse, epochs=100)
    for name, array in model.params.items():
        np.testing.assert_array_equal(array, before[name])


class Pressing(list):
    """Batches; Ctrl-C is pressed while one of them is fetched."""

    def __init__(self, batches, at, times=1):
        super().__init__(batches)
        self.at, self.times = at, times

    def __iter__(self):
        for i in range(len(self)):
            if i == self.at:
                for _ in range(self.times):
                    signal.raise_signal(signal.SIGINT)
            yield self[i]


def test_ctrl_c_finishes_the_step_and_saves(tmp_path):
    model, batches = regression()
    quick(model, batches, loss=fr.losses.mse, epochs=2)
    expected = model.state_dict()
    model, batches = regression()
    files = {"checkpoint": tmp_path / "run", "resume": True}
    with pytest.raises(fr.Interrupted, match=r"stopped after step 3; saved in .*run, .*resume=True") as caught:
        quick(model, Pressing(batches, 2), loss=fr.losses.mse, epochs=2, **files)
    assert caught.value.history.steps["step"] == [1, 2, 3]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    model, batches = regression()
    quick(model, batches, loss=fr.losses.mse, epochs=2, **files)
    for name, array in model.params.items():
        np.testing.assert_array_equal(array, expected[name])


def test_ctrl_c_without_checkpoint_and_twice():
    model, batches = regression()
    with pytest.raises(fr.Interrupted, match="not saved"):
        quick(model, Pressing(batches, 0), loss=fr.losses.mse, epochs=2)
    with pytest.raises(KeyboardInterrupt) as caught:
        quick(model, Pressing(batches, 0, times=2), loss=fr.losses.mse, epochs=2)
    assert type(caught.value) is KeyboardInterrupt
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_fits_in_a_thread():
    model, batches = regression()
    done = []
    thread = threading.Thread(target=lambda: done.append(quick(model, batches, loss=fr.losses.mse, epochs=1)))
    thread.start()
    thread.join()
    assert len(done) == 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, r"How|how long\? Give epochs=, steps= or minutes="),
        ({"epochs": 0}, ValueError, "epochs: expected a number > 0, got 0"),
        ({"minutes": -1.0}, ValueError, "minutes: expected a number > 0"),
        ({"epochs": 1, "early_stopping": 2}, ValueError, "early_stopping: needs validation="),
        ({"epochs": 1, "validate_every": 2}, ValueError, "validate_every: needs validation="),
        ({"epochs": 1, "schedule": schedules.Plateau()}, ValueError, "Plateau needs validation="),
        ({"epochs": 1, "resume": True}, ValueError, "resume: needs checkpoint="),
        ({"epochs": 1, "carry_state": True}, ValueError, "carry_state: Linear takes no state"),
        ({"epochs": 1, "loss": None}, ValueError, "loss: needed, since Linear has no loss of its own"),
        ({"epochs": 1, "loss": 3}, TypeError, "loss: expected a function, got int"),
        ({"epochs": 1, "loss": lambda y, t: 0.5}, TypeError, r"must return \(loss, gradient of outputs\)"),
        ({"epochs": 1, "validation": [], "loss": lambda model, batch: 0.0}, ValueError, "keyword `train`"),
        ({"epochs": 1, "validation": []}, ValueError, "validation: gave no batches"),
        ({"epochs": 1, "data": []}, ValueError, "data: gave no batches in epoch 1"),
        ({"epochs": 2, "data": iter([])}, ValueError, "data: an iterator can be read once"),
        ({"epochs": 1, "data": 5}, TypeError, "data: expected an iterable of batches, got int"),
        ({"epochs": 1, "data": np.ones((2, 3, 4))}, TypeError, r"data: expected batches, fr\.Batch"),
    ],
)
def test_bad_arguments(options, error, message):
    x = np.ones((2, 3), np.float32)
    options = {"data": [(x, x[:, :2])], "loss": fr.losses.mse, **options}
    with pytest.raises(error, match=message):
        fr.fit(fr.Linear(3, 2), progress=False, **options)


def test_checkpoint_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    model, batches = regression()
    with pytest.raises(NotADirectoryError, match="expected a folder"):
        quick(model, batches, loss=fr.losses.mse, epochs=1, checkpoint=tmp_path / "file")


def test_progress_in_a_file_is_plain_lines():
    stream = io.StringIO()
    model, batches = regression()
    fr.fit(model, batches, fr.losses.mse, epochs=2, progress=fr.Progress(stream=stream), validation=batches)
    text = stream.getvalue()
    assert text.startswith("8 steps in 0:00, 2 epochs, validation loss ")
    assert "\r" not in text
    assert "\x1b" not in text


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("tqdm", [True, False])
def test_progress_on_a_terminal(tqdm, monkeypatch):
    if tqdm:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(__import__("sys").modules, "tqdm", None)
    monkeypatch.setattr("fastrnn.train.progress.TERMINAL_SECONDS", 0.0)
    stream = Terminal()
    model, batches = regression()
    progress = fr.Progress("bits", scale=2.0, unit="char", stream=stream)
    history = fr.fit(model, batches, fr.losses.mse, epochs=2, progress=progress, validation=batches)
    text = stream.getvalue()
    assert f"bits {2 * history.steps['loss'][0]:.3f}, epoch 1" in text
    assert "left" in text
    assert "validation" in text
    assert text.endswith("\n")
