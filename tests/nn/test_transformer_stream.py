"""A Transformer step by step does what it does with all steps at once."""

import numpy as np
import pytest

import fastrnn as fr

LENGTHS = [5, 2, 0]


def turned(batch_first):
    return lambda a: a.swapaxes(0, 1) if batch_first else a


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_steps_and_parts_are_the_whole(norm_first, batch_first, bias):
    rng, turn = np.random.default_rng(0), turned(batch_first)
    options = {"norm_first": norm_first, "batch_first": batch_first, "bias": bias, "dtype": np.float64, "seed": 0}
    model = fr.TransformerDecoder(16, 4, 2, 32, **options)
    x, memory = (
        rng.standard_normal((70, 3, 16)),
        rng.standard_normal((5, 3, 16)),
    )  # more steps than there is room at first
    whole = turn(model(turn(x), turn(memory), memory_lengths=LENGTHS))
    stream = model.stream(turn(memory), memory_lengths=LENGTHS)
    for _ in range(2):
        np.testing.assert_allclose(np.stack([stream.step(row) for row in x]), whole, rtol=0, atol=1e-12)
        assert stream.position == 70
        stream.reset()
    parts = [turn(stream.run(turn(x[:4]))), stream.step(x[4])[None], turn(stream.run(turn(x[5:])))]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=1e-12)


def test_an_encoder_is_causal():
    model = fr.TransformerEncoder(8, 2, 3, 16, activation="gelu", seed=0)
    x = np.random.default_rng(0).standard_normal((6, 2, 8), np.float32)
    stream = model.stream(2)
    np.testing.assert_allclose(stream.run(x), model(x, causal=True), rtol=0, atol=1e-5)
    assert repr(stream) == "TransformerStream(3 layers, d_model=8, batch_size=2, position=6)"


def test_rows_are_chosen():
    rng = np.random.default_rng(0)
    model = fr.TransformerDecoder(8, 2, 2, 16, dtype=np.float64, seed=0)
    x, memory = rng.standard_normal((5, 3, 8)), rng.standard_normal((5, 3, 8))
    rows = [2, 0, 0, 1]
    stream = model.stream(memory, memory_lengths=LENGTHS)
    stream.run(x[:2])
    stream.select(rows)
    assert stream.batch_size == 4
    found = stream.run(x[2:, rows])
    expected = model(x, memory, memory_lengths=LENGTHS)[2:, rows]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    stream.reset()
    assert stream.batch_size == 3
    np.testing.assert_allclose(stream.step(x[0]), model(x[:1], memory, memory_lengths=LENGTHS)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("use, error, message", [
    (lambda m: m.stream(0), ValueError, "batch_size: expected a positive integer, got 0"),
    (lambda m: m.stream(2).step(np.ones((1, 8), np.float32)), ValueError,
     r"x: expected one step, \[2, 8\] \(batch_size, d_model\), got shape \(1, 8\)"),
    (lambda m: m.stream().step(np.ones((1, 8))), TypeError, "x: expected float32, got float64"),
    (lambda m: m.stream(2).run(np.ones((0, 2, 8), np.float32)), ValueError,
     r"x: expected \[T, 2, 8\] with T ≥ 1 \(d_model=8\), got shape \(0, 2, 8\)"),
    (lambda m: m.stream(2).select([2]), ValueError, r"rows: expected integers from 0 to 1 \(batch_size=2\), got 2"),
    (lambda m: m.stream(2).select([]), (TypeError, ValueError), "rows: expected integers"),
    (lambda m: fr.TransformerDecoder(8, 2, 1, 16).stream(np.ones((5, 8), np.float32)), ValueError,
     r"memory: expected \[T, B, 8\] with T ≥ 1"),
    (lambda m: fr.TransformerDecoder(8, 2, 1, 16).stream(np.ones((5, 1, 8), np.float32), memory_lengths=[6]),
     ValueError, "memory_lengths: expected integers from 0 to S=5, got 6 in row 0"),
])  # fmt: skip
def test_errors(use, error, message):
    with pytest.raises(error, match=message):
        use(fr.TransformerEncoder(8, 2, 1, 16, seed=0))
