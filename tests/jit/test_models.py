"""Users' cells in models, streams and on the command line."""

import numpy as np
import pytest

import fastrnn as fr
from fastrnn.cli import main
from fastrnn.jit.cell import _known
from tests.jit import cells
from tests.jit.cells import CELLS

pytest.importorskip("numba")

SOURCE = """
import fastrnn as fr
from fastrnn.jit import sigmoid, tanh

@fr.cell(gates=("z", "n"))
def light(wx, rh, s):
    z = sigmoid(wx.z + rh.z)
    return (1 - z) * tanh(wx.n + rh.n) + z * s.h

number = 3
"""


# ---- streams


def tuples(state):
    return state if isinstance(state, tuple) else (state,)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", CELLS)
def test_streams_give_the_layer_s_bits(name, batch, batch_first):
    layer = fr.CustomRNN(CELLS[name], 3, 5, 2, batch_first=batch_first, seed=0)
    x = np.random.default_rng(0).standard_normal((6, batch, 3), dtype=np.float32)
    whole = x.swapaxes(0, 1) if batch_first else x
    y, state = layer(whole)
    stream = layer.stream(batch)
    assert type(stream) is fr.Stream and stream.input_size == 3
    by_step = np.stack([stream.step(x_t) for x_t in x], 1 if batch_first else 0)
    np.testing.assert_array_equal(by_step, y)
    for a, b in zip(tuples(stream.state), tuples(state), strict=True):
        np.testing.assert_array_equal(a, b)
    stream.reset()
    out = np.empty_like(y)
    assert stream.run(whole, out=out) is out
    np.testing.assert_array_equal(out, y)
    stream.reset(rows=[0])
    for a, b in zip(tuples(stream.state), tuples(state), strict=True):
        assert not a[:, 0].any()
        np.testing.assert_array_equal(a[:, 1:], b[:, 1:])
    stream.state = state
    np.testing.assert_array_equal(stream.run(whole), layer(whole, state)[0])


def test_stream_of_one_row_without_its_axis():
    layer = fr.CustomRNN(CELLS["lstm"], 3, 5, seed=0)
    x = np.random.default_rng(0).standard_normal((6, 3), dtype=np.float32)
    stream, out = layer.stream(), np.empty(5, np.float32)
    for x_t in x:
        assert stream.step(x_t, out=out) is out
    np.testing.assert_array_equal(out, layer(x)[0][-1])
    with pytest.raises(ValueError, match="x: expected one time step"):
        stream.step(np.ones(4, np.float32))
    with pytest.raises(ValueError, match="bidirectional"):
        fr.CustomRNN(CELLS["lstm"], 3, 5, bidirectional=True).stream()


def test_streams_of_variants():
    layer = fr.LSTM(3, 5, 2, peephole=True, clip=0.4, seed=0)
    x = np.random.default_rng(0).standard_normal((6, 2, 3), dtype=np.float32)
    stream = layer.stream(2)
    np.testing.assert_array_equal([stream.step(x_t) for x_t in x], layer(x)[0])
    assert type(fr.LSTM(3, 5).stream()) is fr.Stream


def test_streams_of_sequentials():
    model = fr.Sequential(
        fr.Embedding(7, 3, seed=0), fr.CustomRNN(CELLS["peephole"], 3, 5, seed=0), fr.GRU(5, 4, seed=1),
        fr.Linear(4, 2, seed=2),
    )  # fmt: skip
    tokens = np.array([[1, 2], [3, 4], [5, 6]])
    y, states = model(tokens)
    stream = model.stream(2)
    np.testing.assert_array_equal([stream.step(t) for t in tokens], y)
    np.testing.assert_array_equal(stream.state[0][1], states[0][1])
    np.testing.assert_array_equal(stream.state[1], states[1])
    alone = model.stream()
    np.testing.assert_array_equal(alone.run(tokens[:, 0]), y[:, 0])


# ---- models


@pytest.mark.parametrize("cell", ["importable", "peephole"])
def test_language_models(cell, tmp_path):
    cell = cells.importable if cell == "importable" else CELLS[cell]
    vocabulary = fr.text.CharVocabulary.from_text("to be or not to be")
    model = fr.models.LanguageModel(vocabulary, cell, hidden_size=32, num_layers=2, seed=0)
    data = fr.TokenWindows(vocabulary.encode("to be or not " * 40), batch_size=4, seq_len=16)
    before = model.bits_per_char("to be or not to be")
    fr.fit(model, data, None, fr.optim.Adam(model, lr=0.02), epochs=8, progress=False)
    assert model.bits_per_char("to be or not to be") < before / 2
    text = model.sample("to be", length=10, seed=1, temperature=0)
    assert text == " or not to"
    fr.save(model, tmp_path / "m.safetensors")
    again = fr.load(tmp_path / "m.safetensors", cells=None if cell is cells.importable else {cell.name: cell})
    assert again.cell is cell and again.sample("to be", length=10, temperature=0) == text
    assert cell.__name__ in repr(model)


def test_sequence_models(tmp_path):
    rng = np.random.default_rng(0)
    x = [rng.standard_normal((n, 1), dtype=np.float32) for n in rng.integers(3, 12, 200)]
    y = np.array(["up" if sequence.sum() > 0 else "down" for sequence in x])
    model = fr.models.SequenceClassifier(1, ["down", "up"], 16, cell=CELLS["peephole"], bidirectional=True, seed=0)
    model.fit(x, y, epochs=20, lr=0.01)
    assert model.score(x, y) > 0.9
    fr.save(model, tmp_path / "m.safetensors")
    again = fr.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.predict_proba(x[:5]), model.predict_proba(x[:5]))
    regressor = fr.models.SequenceRegressor(1, hidden_size=8, cell=cells.importable, seed=0)
    assert regressor.predict(x[:3]).shape == (3,)
    words = fr.models.MaskedLanguageModel(9, CELLS["several_states"], hidden_size=8, seed=0)
    assert words.rnn.cell is CELLS["several_states"]


def test_unknown_cells():
    with pytest.raises(ValueError, match=r"cell: expected one of lstm, .*, or a cell made by fr\.cell, got 'lstn'"):
        fr.models.LanguageModel(5, "lstn")
    with pytest.raises(ValueError, match="cell: 'nowhere:cell' is not known; import nowhere"):
        fr.models.LanguageModel(5, "nowhere:cell")
    with pytest.raises(TypeError, match="cell: expected a cell made by"):
        fr.models.LanguageModel(5, len)


# ---- the command line


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cells_of_mine.py").write_text(SOURCE)
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question.\n" * 200)
    (tmp_path / "broken_cells.py").write_text("1 / 0")
    return tmp_path


TRAIN = ["train", "--text", "text.txt", "--hidden", "16", "--batch", "4", "--seq-len", "16", "--out", "run"]


def test_train_and_sample(folder, capsys):
    cell = ["--cell", "cells_of_mine:light"]
    assert main([*TRAIN, *cell, "--steps", "5"]) == 0
    printed = capsys.readouterr().out
    assert "model: light, 1 layer of 16 units" in printed
    assert "--cell cells_of_mine:light" in printed.splitlines()[-1]
    assert main(["train", "--resume", "--out", "run", "--steps", "8"]) == 2
    assert "is of a cell of yours; name it: --cell cells_of_mine:light" in capsys.readouterr().err
    assert main(["train", "--resume", "--out", "run", "--steps", "8", *cell]) == 0
    capsys.readouterr()
    assert main(["sample", "run", "--length", "12", *cell]) == 0
    assert len(capsys.readouterr().out) >= 12


def test_sample_asks_for_the_cell(folder, capsys):
    cell = ["--cell", "cells_of_mine:light"]
    assert main([*TRAIN, *cell, "--steps", "2"]) == 0
    _known.pop("cells_of_mine:light")  # as in another process
    assert main(["sample", "run"]) == 2
    assert "name its cell: --cell module:name" in capsys.readouterr().err


@pytest.mark.parametrize(
    "cell, text",
    [
        ("lstn", "fastgrnn, or module:name of a cell made by fr.cell, got 'lstn'"),
        ("nowhere_at_all:cell", "nowhere_at_all can't be imported: ModuleNotFoundError"),
        ("broken_cells:cell", "broken_cells can't be imported: ZeroDivisionError"),
        ("cells_of_mine:number", "expected number of cells_of_mine to be a cell made by fr.cell, got int"),
        ("cells_of_mine:nothing", "cells_of_mine has no nothing"),
    ],
)
def test_wrong_cells(folder, capsys, cell, text):
    try:
        code = main([*TRAIN, "--cell", cell, "--steps", "1"])
    except SystemExit as stop:  # argparse's
        code = stop.code
    assert code == 2 and text in capsys.readouterr().err
