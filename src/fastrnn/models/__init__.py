"""Whole models, built from the layers of `fastrnn.nn`."""

from fastrnn.models.language_model import LanguageModel

__all__ = ["LanguageModel"]
