"""Text: vocabularies, tokenisers, and corpora from files, folders and the Python standard library."""

from fastrnn.text.adapters import AdaptedVocabulary, as_vocabulary, token_stream, vocabulary_from_config
from fastrnn.text.characters import CharVocabulary
from fastrnn.text.corpus import Corpus, load_corpus, split_corpus, standard_library
from fastrnn.text.tokenizers import join_tokens, split_tokens, split_words
from fastrnn.text.vocabulary import Vocabulary

__all__ = [
    "AdaptedVocabulary",
    "CharVocabulary",
    "Corpus",
    "Vocabulary",
    "as_vocabulary",
    "join_tokens",
    "load_corpus",
    "split_corpus",
    "split_tokens",
    "split_words",
    "standard_library",
    "token_stream",
    "vocabulary_from_config",
]
