"""Text: vocabularies, tokenisers, and corpora from files, folders and the Python standard library."""

from fastrnn.text.characters import CharVocabulary
from fastrnn.text.corpus import Corpus, load_corpus, split_corpus, standard_library
from fastrnn.text.vocabulary import Vocabulary, split_words

__all__ = [
    "CharVocabulary",
    "Corpus",
    "Vocabulary",
    "load_corpus",
    "split_corpus",
    "split_words",
    "standard_library",
]
