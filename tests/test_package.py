"""The package as it is installed: what an import costs, settings, types, and the README's examples."""

import importlib.util
import os
import pickle
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

import fastrnn as fr

ROOT = Path(__file__).parents[1]


def python(code, **environment):
    """Run code in a fresh interpreter."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("FASTRNN_")} | environment
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)


def test_import_loads_numpy_alone():
    code = "import sys, fastrnn; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    result = python(code)
    assert result.returncode == 0, result.stderr
    loaded = set(result.stdout.split())
    assert "numpy" in loaded
    heavy = {"numba", "matplotlib", "tqdm", "safetensors", "torch", "scipy", "mpi4py", "onnx", "sklearn"}
    assert not loaded & heavy
    # nothing of the standard library that is slow to load, either
    slow = {"asyncio", "multiprocessing", "unittest", "http", "argparse", "dataclasses"}
    beyond = set(python(code.replace("fastrnn", "numpy")).stdout.split())
    assert not (loaded - beyond) & slow


def test_import_leaves_models_and_training_for_later():
    code = "import sys, fastrnn as fr; print(*sorted(name for name in sys.modules if name.startswith('fastrnn.')))"
    loaded = {name.split(".")[1] for name in python(code).stdout.split()}
    assert {"nn", "io", "functional"} <= loaded
    assert not loaded & {"models", "train", "optim", "text", "reference", "bench", "cli"}


def test_names_that_come_later_are_there():
    code = """
import fastrnn as fr
assert set(fr.__all__) <= set(dir(fr))
assert {name for name in fr.__all__ if getattr(fr, name) is None} == set()
from fastrnn import *  # every name of __all__
assert fit is fr.fit is fr.train.fit and callable(fit) and schedules is fr.train.schedules
assert Batch is fr.train.Batch and models is fr.models
"""
    result = python(code)
    assert result.returncode == 0, result.stderr
    with pytest.raises(AttributeError, match=r"^module 'fastrnn' has no attribute 'Fit'$"):
        fr.Fit  # noqa: B018


@pytest.mark.parametrize("first", [[], ["models"], ["fit"], ["Batch", "train"], ["train", "fit"], ["optim", "fit"]])
def test_names_that_come_later_come_in_any_order(first):
    """`train.fit` is the name of a module, too."""
    code = f"import fastrnn as fr; [getattr(fr, name) for name in {first}]; print(fr.fit.__name__, fr.train.__name__)"
    assert python(code).stdout == "fit fastrnn.train\n"


def test_models_are_known_before_they_are_imported(tmp_path):
    """Files and pickles name their classes: whoever reads them finds these."""
    model = fr.models.Autoencoder(3, 2, seed=0)
    fr.save(model, tmp_path / "m.safetensors")
    (tmp_path / "m.pickle").write_bytes(pickle.dumps(model))
    x = np.ones((2, 3), np.float32)
    readers = {
        "m.safetensors": "fr.load('m.safetensors')",
        "m.pickle": "pickle.loads(open('m.pickle', 'rb').read())",
    }
    for name, reader in readers.items():
        code = f"import os, pickle, fastrnn as fr, numpy as np; os.chdir({str(tmp_path)!r}); m = {reader}; "
        result = python(f"{code}print(type(m).__module__, m(np.ones((2, 3), np.float32)).tolist())")
        assert result.returncode == 0, f"{name}: {result.stderr}"
        assert result.stdout == f"fastrnn.models.autoencoder {model(x).tolist()}\n"


def test_types_are_installed():
    package = files("fastrnn")
    assert (package / "py.typed").is_file()
    assert (package / "_core.pyi").is_file()


def test_info():
    facts = fr.info()
    assert facts["version"] == fr.__version__
    assert facts["isa"] in facts["isas"]
    assert facts["num_threads"] == fr.get_num_threads() >= 1
    assert facts["caches"]["workspace"] >= 0


@pytest.mark.parametrize("isa", fr.info()["isas"])
def test_isa_is_chosen(isa):
    assert python("import fastrnn as fr; print(fr.info()['isa'])", FASTRNN_ISA=isa).stdout.strip() == isa


def test_best_isa_by_default():
    assert python("import fastrnn as fr; print(fr.info()['isa'])").stdout.strip() == fr.info()["isas"][0]


def test_unknown_isa_is_an_error():
    result = python("import fastrnn", FASTRNN_ISA="abacus")
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("ValueError: FASTRNN_ISA: expected one of ")
    assert last.endswith("got 'abacus'")


def test_number_of_threads_is_chosen():
    assert python("import fastrnn as fr; print(fr.get_num_threads())", FASTRNN_NUM_THREADS="3").stdout == "3\n"


@pytest.mark.parametrize("number", ["0", "-1", "two", "1.5", " "])
def test_bad_number_of_threads_is_an_error(number):
    result = python("import fastrnn", FASTRNN_NUM_THREADS=number)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    expected = f"ValueError: FASTRNN_NUM_THREADS: expected an integer of at least 1, got {number!r}"
    assert last == expected


def readme_examples():
    """The README's Python blocks: each may use what those before it defined."""
    return re.findall(r"^```python\n(.+?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)


def test_readme_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for number, code in enumerate(readme_examples()):
        libraries = [name for name in ("torch", "sklearn") if f"{name} import" in code or f"import {name}" in code]
        missing = [name for name in libraries if importlib.util.find_spec(name) is None]
        if missing or (not names.get("theirs") and "theirs" in code and "import torch" not in code):
            continue
        exec(compile(code, f"README.md, Python block {number}", "exec"), names)
    assert names["loss"] < 0.2  # the first one trains
    assert names["logits"].shape == (32, 2)


def test_readme_starts_with_ten_lines_of_code():
    lines = [line for line in readme_examples()[0].splitlines() if line.strip()]
    assert len(lines) <= 13  # the two imports and a long line's rest beside the ten
