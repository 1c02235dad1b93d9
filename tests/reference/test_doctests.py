"""The examples in the docstrings run."""

import doctest
import importlib
import pkgutil

import pytest

from fastrnn import reference

NAMES = [
    "fastrnn.reference",
    *(m.name for m in pkgutil.iter_modules(reference.__path__, "fastrnn.reference.")),
]
WITHOUT_EXAMPLES = {"fastrnn.reference._sequence"}


@pytest.mark.parametrize("name", NAMES)
def test_examples(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0
    assert result.attempted > 0 or name in WITHOUT_EXAMPLES


def test_every_public_name_is_documented():
    for name in reference.__all__:
        assert getattr(reference, name).__doc__, name
