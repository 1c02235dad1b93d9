"""Each script in `examples/` runs, in its quick mode, as users run it."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
SAYS = {
    "from_pytorch.py": r"logits \(12, 3, 20\), largest difference",
    "japanese_vowels_sklearn.py": r"RNNClassifier +accuracy 9\d\.\d%",
    "numpy_loop.py": r"[\d.]+ times faster",
    "realtime_audio.py": r"bitwise what the model makes of the whole 0.5 s at once: True",
    "ragged_classification.py": r"accuracy on held-out lines: (9\d|100)\.\d%",
    "speech_classification.py": r"best: \w+",
    "dialogue.py": r"(?m)^HRED +(9[5-9]|100)\.\d% of answers right",
    "vae_digits.py": r"latent space of 16: bound_nats [\d.-]+",
    "translate_numbers.py": r"attention +\d+\.\d+ +\d+\.\d%",
    "vqvae_digits.py": r"perplexity: (1\d|2\d|3[0-2])\.\d",
    "binary_addition.py": r"best setting: \w+, \w+: (99\.\d|100\.0)%",
    "bptt.py": r"relu, norm clipped to 1: 100 of 100 steps",
    "numpy_pipeline.py": r"largest relative difference of the losses of 20 steps: \d+e-1\d",
    "predict_sine.py": r"LSTM  rms error one step ahead 0\.0",
    "predict_word.py": r"held-out perplexity: unigrams \d+\.\d, bigrams \d+\.\d, LSTM \d+\.\d",
    "seq2seq_sine_cosine.py": r"LSTM with attention +cosine 0\.[0-2]",
    "tree_sentiment.py": r"recursive net  +(9\d|100)\.\d%",
    "word_vectors.py": r"skip-gram: .* words/s, twins' reciprocal rank 0\.[89]",
}


def run(script, folder, *options):
    command = [sys.executable, "-W", "error", str(script), "--quick", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.name)
def test_example_runs(script, tmp_path):
    text = script.read_text(encoding="utf-8")
    for package in re.findall(r"(?:import|from) (torch|sklearn|aeon|num2words)\b", text):
        pytest.importorskip(package, reason=f"the example needs {package}")
    start = time.perf_counter()
    result = run(script, tmp_path)
    assert result.returncode == 0, result.stderr
    assert re.search(SAYS[script.name], result.stdout), result.stdout
    assert time.perf_counter() - start < 60  # a few seconds on a machine that has nothing else to do


def test_there_are_examples():
    assert {path.name for path in EXAMPLES} == set(SAYS), "each script with what it must say"


def test_an_example_is_reproducible_and_draws(tmp_path):
    script = EXAMPLES[0].with_name("ragged_classification.py")
    results = [run(script, tmp_path, "--seed", "3", "--plot", f"{k}.png") for k in range(2)]
    first, second = (result.stdout.replace(f"{k}.png", "") for k, result in enumerate(results))
    assert first == second
    if "pip install" not in first:  # without matplotlib it says so
        assert (tmp_path / "0.png").read_bytes()[:4] == b"\x89PNG"


def test_without_pytorch_the_example_says_so(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('none here')")
    script = str(EXAMPLES[0].with_name("from_pytorch.py"))
    code = f"import sys, runpy; sys.argv = ['x']; sys.path.insert(0, {str(tmp_path)!r}); "
    code += f"runpy.run_path({script!r}, run_name='__main__')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert result.stderr.strip() == "this example needs PyTorch: pip install torch"
