"""The examples of autoencoders and classifiers: the figures that they print, and what they say without their data."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
NEEDS = {"vae_digits": "sklearn", "vqvae_digits": "sklearn", "speech_classification": "aeon"}


def figures(name, folder, *options):
    pytest.importorskip(NEEDS[name], reason=f"{name} needs {NEEDS[name]}")
    command = [
        sys.executable,
        "-W",
        "error",
        str(EXAMPLES / f"{name}.py"),
        "--quick",
        "--json",
        "--output",
        str(folder),
    ]
    result = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    if "pip install" not in result.stdout:  # without matplotlib it says so
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    return json.loads(result.stdout.splitlines()[-1])


def untimed(found):
    return json.loads(re.sub(r'"\w*seconds": [\d.]+', '"": 0', json.dumps(found)))


def test_a_latent_space_knows_digits(tmp_path):
    found = figures("vae_digits", tmp_path / "new")
    assert set(found) == {"latent_2", "latent_16"}
    assert found["latent_2"]["nearest_neighbour_accuracy"] > 0.4  # chance: 0.1
    assert found["latent_16"]["nearest_neighbour_accuracy"] > 0.8
    assert found["latent_16"]["pixel_error"] < 0.17  # of the mean image: 0.19
    assert untimed(figures("vae_digits", tmp_path / "new")) == untimed(found)


def test_codes_keep_digits_and_a_prior_writes_them(tmp_path):
    found = figures("vqvae_digits", tmp_path)
    assert found["pixel_error"] < found["mean_image_error"] - 0.02
    assert found["samples_away"] < found["independent_away"]
    assert found["prior_bits"] < found["bits"]
    assert untimed(figures("vqvae_digits", tmp_path, "--seed", "1")) != untimed(found)


def test_speech_is_recognised(tmp_path):
    found = figures("speech_classification", tmp_path)
    assert found["bidirectional LSTM"]["accuracy"] > 0.95
    assert {"simple RNN", "GRU", "bidirectional LSTM", "LSTM, clipping 0.5", "best"} == set(found)


@pytest.mark.parametrize("name", NEEDS)
def test_without_its_data_the_example_says_what_to_install(name, tmp_path):
    (tmp_path / f"{NEEDS[name]}.py").write_text("raise ImportError('none here')")
    code = f"import sys, runpy; sys.argv = ['x']; sys.path.insert(0, {str(tmp_path)!r}); "
    code += f"runpy.run_path({str(EXAMPLES / name) + '.py'!r}, run_name='__main__')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    package = {"sklearn": "scikit-learn"}.get(NEEDS[name], NEEDS[name])
    assert re.fullmatch(
        rf"this example needs {package}, for its (data|images): pip install {package}", result.stderr.strip()
    )
