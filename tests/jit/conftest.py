"""The core's settings, as the tests of the core have them."""

from tests.core.conftest import isa, threads

__all__ = ["isa", "threads"]
