"""What holds for all tests: compiled cells go to a folder of the run; examples that need Numba are skipped without."""

import importlib.util
import os
import signal
import tempfile

import pytest

NEED_NUMBA = ("fastrnn.jit", "fastrnn.nn.custom")


def pytest_configure(config):
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start what runs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if "KERAS_BACKEND" not in os.environ and importlib.util.find_spec("tensorflow") is None:
        found = [name for name in ("torch", "jax") if importlib.util.find_spec(name)]
        os.environ["KERAS_BACKEND"] = (found or ["numpy"])[0]
    if "FASTRNN_CACHE_DIR" not in os.environ:
        config.stash[FOLDER] = tempfile.TemporaryDirectory(prefix="fastrnn-tests-")
        os.environ["FASTRNN_CACHE_DIR"] = config.stash[FOLDER].name


def pytest_unconfigure(config):
    if FOLDER in config.stash:
        del os.environ["FASTRNN_CACHE_DIR"]
        config.stash[FOLDER].cleanup()


def pytest_collection_modifyitems(items):
    if importlib.util.find_spec("numba") is None:
        for item in items:
            if isinstance(item, pytest.DoctestItem) and item.name.startswith(NEED_NUMBA):
                item.add_marker(pytest.mark.skip(reason="needs numba"))


FOLDER = pytest.StashKey[tempfile.TemporaryDirectory]()
