"""What `fit` refuses, before it changes anything; and Ctrl-C in the last validation."""

import signal

import numpy as np
import pytest

import fastrnn as fr
from fastrnn.nn import losses
from fastrnn.train import schedules

X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
DATA = [(X, X[:, :2])]


def fit(model=None, loss=losses.mse, **options):
    model = fr.Linear(3, 2, seed=0) if model is None else model
    return fr.fit(model, DATA, loss, progress=False, **{"epochs": 1, **options})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": fr.LSTM}, TypeError, "model: expected a layer or model, got the class LSTM"),
        ({"model": "lstm"}, TypeError, "model: expected a layer or model, got 'lstm'"),
        ({"optimizer": "adam"}, TypeError, r"optimizer: expected an optimiser such as .*, got 'adam'"),
        ({"optimizer": fr.optim.Adam}, TypeError, "optimizer: expected an optimiser such as"),
        (
            {"optimizer": fr.optim.Adam(fr.Linear(3, 2))},
            ValueError,
            "optimizer: was made for another model; not of this one are weight, bias",
        ),
        ({"epochs": "2"}, TypeError, "epochs: expected a whole number, got '2'"),
        ({"epochs": 2.5}, TypeError, "epochs: expected a whole number, got 2.5"),
        ({"steps": True}, TypeError, "steps: expected a whole number, got True"),
        ({"minutes": "1"}, TypeError, "minutes: expected a number, got '1'"),
        ({"minutes": float("nan")}, ValueError, "minutes: expected a number > 0, got nan"),
        ({"clip_norm": "1"}, TypeError, "clip_norm: expected a number, got '1'"),
        ({"clip_value": -1}, ValueError, "clip_value: expected a number > 0, got -1"),
        ({"schedule": lambda step: 1.0}, TypeError, r"schedule: expected one of fr\.schedules, got <function"),
        ({"validation": DATA, "early_stopping": 1.5}, TypeError, "early_stopping: expected a whole number"),
        ({"validation": DATA, "validate_every": 0}, ValueError, "validate_every: expected >= 1, got 0"),
        ({"loss": lambda outputs: 0.0}, TypeError, r"loss: expected loss\(outputs, target\) or .*takes \(outputs\)"),
        ({"loss": lambda model, batch: None}, TypeError, "loss: expected a number as the loss, got None"),
        ({"loss": lambda y, t: (y, y)}, TypeError, "loss: expected a number as the loss, got array"),
    ],
)
def test_wrong_arguments(options, error, message):
    with pytest.raises(error, match=message):
        fit(**options)


def test_an_optimiser_of_a_part_of_the_model_is_fine():
    model = fr.Linear(3, 2, seed=0)
    bias = model.params["bias"].copy()
    fit(model, optimizer=fr.optim.SGD({"weight": (model.params["weight"], model.grads["weight"])}))
    np.testing.assert_array_equal(model.params["bias"], bias)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: {"optimizer": fr.optim.SGD(m)}, "is of 'Adam', expected 'SGD'"),
        (lambda m: {"schedule": schedules.Constant()}, "schedule: the run was started without one"),
    ],
)
def test_a_failed_resume_changes_nothing(change, message, tmp_path):
    fit(checkpoint=tmp_path)
    model = fr.Linear(3, 2, seed=5)
    before = model.state_dict()
    with pytest.raises(ValueError, match=message):
        fit(model, checkpoint=tmp_path, resume=True, **change(model))
    for name, array in model.params.items():
        np.testing.assert_array_equal(array, before[name])


def test_a_failed_resume_leaves_the_optimiser(tmp_path):
    fit(checkpoint=tmp_path)
    model = fr.Sequential(fr.Linear(3, 2, seed=0))  # its names differ, those of the optimiser don't
    pairs = {name: (model.params[f"0.{name}"], model.grads[f"0.{name}"]) for name in ("weight", "bias")}
    optimizer = fr.optim.Adam(pairs, lr=0.5)
    with pytest.raises(ValueError, match=r"(?s)doesn't fit this run: .*missing: 0\.weight"):
        fit(model, optimizer=optimizer, checkpoint=tmp_path, resume=True)
    assert optimizer.lr == 0.5
    assert optimizer.steps == 0


class Pressing(list):
    """Batches; Ctrl-C is pressed while they are read."""

    def __iter__(self):
        signal.raise_signal(signal.SIGINT)
        return super().__iter__()


def test_ctrl_c_in_the_last_validation_is_not_lost(tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(fr.Interrupted, match="stopped after step 1; saved in"):
            fr.fit(
                fr.Linear(3, 2),
                2 * DATA,
                losses.mse,
                steps=1,
                progress=False,
                checkpoint=tmp_path,
                validation=Pressing(DATA),
            )
    finally:
        signal.signal(signal.SIGINT, before)
    history = fr.fit(
        fr.Linear(3, 2),
        2 * DATA,
        losses.mse,
        steps=1,
        progress=False,
        checkpoint=tmp_path,
        resume=True,
        validation=DATA,
    )
    assert len(history.validations) == 1
