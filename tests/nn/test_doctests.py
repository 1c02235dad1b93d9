"""The examples in the docstrings of layers."""

import doctest
import importlib
import pkgutil

import pytest

from fastrnn import nn

MODULES = [module.name for module in pkgutil.iter_modules(nn.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(f"fastrnn.nn.{name}")
    assert doctest.testmod(module).failed == 0
