"""Whole models, built from the layers of `fastrnn.nn`."""

from fastrnn.models.language_model import LanguageModel
from fastrnn.models.word2vec import Word2Vec

__all__ = ["LanguageModel", "Word2Vec"]
