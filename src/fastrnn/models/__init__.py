"""Whole models, built from the layers of `fastrnn.nn`."""

from fastrnn.models.autoencoder import Autoencoder
from fastrnn.models.classifier import SequenceClassifier
from fastrnn.models.language_model import LanguageModel
from fastrnn.models.regressor import SequenceRegressor
from fastrnn.models.seq2seq_regressor import Seq2SeqRegressor
from fastrnn.models.sequence_vae import SequenceVAE
from fastrnn.models.tree_classifier import TreeClassifier
from fastrnn.models.vae import VAE, Elbo
from fastrnn.models.vq_vae import VQVAE, VectorQuantizer
from fastrnn.models.word2vec import Word2Vec

__all__ = [
    "VAE",
    "VQVAE",
    "Autoencoder",
    "Elbo",
    "LanguageModel",
    "Seq2SeqRegressor",
    "SequenceClassifier",
    "SequenceRegressor",
    "SequenceVAE",
    "TreeClassifier",
    "VectorQuantizer",
    "Word2Vec",
]
