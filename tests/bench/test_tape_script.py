"""`benchmarks/tape.py`: what it compares is the same, and it prints what it says."""

import json

import pytest

import fastrnn as fr
from tests.bench.test_scripts import load, printed

CASES = {name: (model, data) for name, model, data in load("tape").cases() if "small" in name}


@pytest.mark.parametrize("case", CASES)
def test_the_tape_gives_the_gradients_that_were_written_by_hand(case):
    model, data = CASES[case]
    load("tape").same(model, fr.value_and_grad(model.loss, model), data)


def test_a_wrong_gradient_by_hand_is_noticed():
    model, data = CASES["layers, small"]
    by_hand = model.by_hand

    def wrong(*args):
        loss = by_hand(*args)
        model.grads["output.bias"][0] += 1
        return loss

    model.by_hand = wrong
    try:
        with pytest.raises(AssertionError, match=r"output\.bias"):
            load("tape").same(model, fr.value_and_grad(model.loss, model), data)
    finally:
        del model.by_hand


def test_figures():
    (name, found), *rest = json.loads(
        printed("tape", "--repeat", "20", "--case", "loop, small", "--json").splitlines()[-1]
    ).items()
    assert name == "loop, small" and not rest
    assert found["overhead"] == pytest.approx(found["tape_us"] / found["by_hand_us"] - 1, abs=0.01)
