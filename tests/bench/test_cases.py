"""Cases: operation counts, weights, data, and arguments that don't fit."""

import pytest

import fastrnn as fr
from fastrnn.bench import MODES, SHAPES, Case, CharModel, Shape, grid
from fastrnn.bench.cases import FLOAT64_SHAPES
from fastrnn.cli.settings import LEARNING_RATES, Settings


@pytest.mark.parametrize(("cell", "gates"), [("lstm", 4), ("gru", 3), ("rnn", 1)])
def test_flops_are_those_of_the_matrix_products(cell, gates):
    T, B, I, H = shape = Shape(3, 2, 5, 7)
    forward = 2 * T * B * (I + H) * gates * H
    assert Case(cell, shape, "infer").flops == forward
    assert Case(cell, shape, "train").flops == 3 * forward


def test_flops_of_stacked_layers_in_two_directions():
    case = Case("gru", Shape(1, 1, 5, 7), "infer", num_layers=2, bidirectional=True)
    assert case.flops == 2 * 2 * (5 + 7) * 21 + 2 * 2 * (14 + 7) * 21


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_weights_are_those_of_a_layer(cell, bidirectional):
    case = Case(cell, Shape(4, 2, 5, 7), dtype="float64", num_layers=2, bidirectional=bidirectional)
    layer = {"lstm": fr.LSTM, "gru": fr.GRU, "rnn": fr.RNN}[cell](5, 7, 2, bidirectional=bidirectional, dtype="float64")
    layer.load_state_dict(case.weights())
    x, dy = case.data()
    assert layer(x)[0].shape == dy.shape
    assert {a.dtype.name for a in [x, dy, *case.weights().values()]} == {"float64"}


def test_flops_of_a_ragged_batch_are_those_of_its_steps():
    assert Case("rnn", Shape(9, 2, 5, 7), "infer", lengths=(9, 3)).flops == 2 * 12 * 12 * 7


def test_a_step_is_one_step():
    case = Case("lstm", Shape(50, 2, 5, 7), "step")
    assert case == Case("lstm", Shape(1, 2, 5, 7), "step")
    assert str(case) == "lstm step B=2 I=5 H=7"
    assert case.flops == 2 * 2 * 12 * 28
    assert case.data().x.shape == (1, 2, 5)


def test_the_grid_has_every_case_once():
    cases = grid(modes=MODES)
    assert len(cases) == len(set(cases))
    assert sum(case.mode != "step" for case in cases) == 11 * 3 * 2
    assert {case.shape.T for case in cases if case.mode == "step"} == {1}
    assert set(FLOAT64_SHAPES) < set(SHAPES)


def test_names():
    assert str(SHAPES[0]) == "T=1 B=1 I=16 H=16"
    assert Shape.parse("1,2,3,4") == (1, 2, 3, 4)
    case = Case("rnn", Shape(1, 1, 1, 1), "infer", "float64", 2, True)
    assert str(case) == "rnn infer T=1 B=1 I=1 H=1 layers=2 bidirectional float64"


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "1,2,3,0", "a,b,c,d"])
def test_bad_shapes(text):
    with pytest.raises(ValueError, match=r"shape: expected T,B,I,H"):
        Shape.parse(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cell": "tanh"}, "cell: expected one of lstm, gru, rnn, got 'tanh'"),
        ({"mode": "fly"}, "mode: expected one of train, infer, step, got 'fly'"),
        ({"mode": "step", "bidirectional": True}, "mode: a single step has one direction and no lengths"),
        ({"lengths": (2,)}, r"lengths: expected 1 whole numbers from 1 to 1, got \(2,\)"),
        ({"lengths": (1, 1)}, r"lengths: expected 1 whole numbers from 1 to 1, got \(1, 1\)"),
        ({"dtype": "int8"}, "dtype: expected one of float32, float64, got 'int8'"),
    ],
)
def test_bad_cases(arguments, message):
    with pytest.raises(ValueError, match=message):
        Case(**{"cell": "lstm", "shape": SHAPES[0], **arguments})


def test_character_model_is_the_one_that_train_trains():
    train, model = Settings(), CharModel()
    assert (train.embedding, train.hidden, train.layers, train.seq_len, train.batch) == (
        model.embedding,
        model.hidden,
        model.num_layers,
        model.T,
        model.B,
    )
    assert LEARNING_RATES["lstm"] == model.lr
