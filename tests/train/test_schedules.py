"""Learning-rate schedules."""

import itertools
import math

import pytest

from fastrnn.train import schedules


def test_constant_step_exponential():
    assert schedules.Constant(0.5)(7) == 0.5
    assert [schedules.Step(2, 0.5)(step) for step in range(5)] == [1.0, 1.0, 0.5, 0.5, 0.25]
    assert schedules.Exponential(0.25, every=2)(1) == 0.5


def test_cosine_over_steps():
    schedule = schedules.Cosine(total=100, final=0.1)
    assert schedule(0) == 1.0
    assert schedule(50) == pytest.approx(0.55)
    assert schedule(100) == pytest.approx(0.1)
    assert schedule(1000) == pytest.approx(0.1)


@pytest.mark.parametrize("options", [{"total": 100, "warmup": 10}, {"total": 100, "warmup": 0.1}])
def test_cosine_rises_then_falls(options):
    schedule = schedules.Cosine(**options)
    factors = [schedule(step) for step in range(101)]
    assert all(a < b for a, b in itertools.pairwise(factors[:10]))
    assert factors[10] == pytest.approx(1.0)
    assert all(a > b for a, b in itertools.pairwise(factors[10:]))
    assert factors[-1] == 0.0


def test_cosine_over_the_share_of_the_run():
    schedule = schedules.Cosine(warmup=0.2, final=0.5)
    assert [schedule(0, share) for share in (0.0, 0.1, 0.2, 0.6, 1.0)] == pytest.approx([0, 0.5, 1, 0.75, 0.5])
    with pytest.raises(ValueError, match="progress: needed"):
        schedule(0)
    rising = schedules.Cosine(warmup=4)
    assert [rising(step, 0.0) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_plateau_waits_and_is_resumable():
    def losses():
        return iter([3.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, math.nan, 1.0])

    whole, part = schedules.Plateau(0.5, patience=1), schedules.Plateau(0.5, patience=1)
    factors = []
    for i, loss in enumerate(losses()):
        whole.update(loss)
        factors.append(whole(i))
        part.update(loss)
        resumed = schedules.Plateau(0.5, patience=1)
        resumed.load_state_dict(part.state_dict())
        part = resumed
        assert part(i) == whole(i)
    assert factors == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125]


def test_cosine_with_a_warmup_in_steps_knows_the_run_from_its_progress():
    known, found = schedules.Cosine(total=100, warmup=10), schedules.Cosine(warmup=10)
    factors = [found(step, step / 100) for step in range(101)]
    assert factors == pytest.approx([known(step) for step in range(101)], abs=1e-12)
    assert max(factors) == factors[10] == 1.0
    assert schedules.Cosine(warmup=10)(5, 1.0) == 0.6


def test_plateau_has_a_floor():
    schedule = schedules.Plateau(0.1, patience=0, minimum=0.05)
    for _ in range(10):
        schedule.update(1.0)
    assert schedule(0) == 0.05


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.Constant(-1.0), "factor: expected"),
        (lambda: schedules.Step(0), "every: expected"),
        (lambda: schedules.Exponential(0.0), "gamma: expected"),
        (lambda: schedules.Cosine(total=0), "total: expected"),
        (lambda: schedules.Cosine(total=10, warmup=10), "warmup: expected fewer steps"),
        (lambda: schedules.Cosine(warmup=-0.1), "warmup: expected"),
        (lambda: schedules.Plateau(1.5), r"factor: expected a number in \(0, 1\)"),
        (lambda: schedules.Constant().load_state_dict({"type": "Step"}), "is of 'Step', expected 'Constant'"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
