"""Whole models, built from the layers of `fastrnn.nn`."""

from fastrnn.models.language_model import LanguageModel
from fastrnn.models.tree_classifier import TreeClassifier

__all__ = ["LanguageModel", "TreeClassifier"]
