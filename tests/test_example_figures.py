"""Examples with figures: one JSON object in the last line, a plot, the same figures for the same seed."""

import json

import pytest

from tests.test_examples import EXAMPLES, run

WITH_FIGURES = [path for path in EXAMPLES if '"--json"' in path.read_text(encoding="utf-8")]
CHECKS = {
    "binary_addition.py": lambda f: f["best_exact"] >= 0.99 and f["speedup"] > 5,
    "bptt.py": lambda f: f["nested_difference"] < 1e-12 and f["truncation"]["0.5"][-1] < 1e-10,
    "numpy_pipeline.py": lambda f: f["difference"] < 1e-9,
    "predict_sine.py": lambda f: all(cell["one_step"] < 0.05 for cell in f.values()),
    "seq2seq_sine_cosine.py": lambda f: (
        all(n["cosine"] < 0.4 for n in f["networks"].values())
        and f["training"]["free running"]["all_steps"] < 0.7 * f["training"]["teacher forcing"]["all_steps"]
    ),
    "tree_sentiment.py": lambda f: f["accuracy"]["recursive net"] > 0.95 and f["accuracy"]["bag of words"] < 0.75,
}
TIMES = ("seconds", "loop_us", "fastrnn_us", "speedup", "by_hand_ms", "fastrnn_ms")


def without_times(figures):
    if not isinstance(figures, dict):
        return figures
    return {name: without_times(value) for name, value in figures.items() if name not in TIMES}


@pytest.mark.parametrize("script", [p for p in WITH_FIGURES if p.name in CHECKS], ids=lambda path: path.name)
def test_figures_and_plot(script, tmp_path):
    figures = []
    for folder in ("a", "b"):
        result = run(script, tmp_path, "--json", "--seed", "3", "--output", folder)
        assert result.returncode == 0, result.stderr
        figures.append(json.loads(result.stdout.splitlines()[-1]))
        if "pip install" not in result.stdout:  # without matplotlib it says so
            (plot,) = (tmp_path / folder).glob("*.png")
            assert plot.read_bytes()[:4] == b"\x89PNG"
    assert CHECKS[script.name](figures[0]), figures[0]
    assert without_times(figures[0]) == without_times(figures[1])


def test_every_check_has_its_script():
    assert {path.name for path in WITH_FIGURES} >= set(CHECKS)
