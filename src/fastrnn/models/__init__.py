"""Whole models, built from the layers of `fastrnn.nn`."""

from fastrnn.models.autoencoder import Autoencoder
from fastrnn.models.classifier import SequenceClassifier
from fastrnn.models.hred import HRED
from fastrnn.models.language_model import LanguageModel
from fastrnn.models.masked_language_model import MaskedLanguageModel
from fastrnn.models.regressor import SequenceRegressor
from fastrnn.models.scheduled_sampling import ScheduledSampling
from fastrnn.models.seq2seq import Seq2Seq
from fastrnn.models.seq2seq_regressor import Seq2SeqRegressor
from fastrnn.models.sequence_vae import SequenceVAE
from fastrnn.models.tree_classifier import TreeClassifier
from fastrnn.models.vae import VAE, Elbo
from fastrnn.models.vhred import VHRED
from fastrnn.models.vq_vae import VQVAE, VectorQuantizer
from fastrnn.models.word2vec import Word2Vec

__all__ = [
    "HRED",
    "VAE",
    "VHRED",
    "VQVAE",
    "Autoencoder",
    "Elbo",
    "LanguageModel",
    "MaskedLanguageModel",
    "ScheduledSampling",
    "Seq2Seq",
    "Seq2SeqRegressor",
    "SequenceClassifier",
    "SequenceRegressor",
    "SequenceVAE",
    "TreeClassifier",
    "VectorQuantizer",
    "Word2Vec",
]
