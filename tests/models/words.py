"""Texts and kernels' inputs that the tests of word2vec share."""

import numpy as np

from fastrnn import _core
from fastrnn.models._word_tables import alias_table, huffman, keep_shares

CLASSES = 6  # of words that keep the same company


def class_text(sentences=3000, seed=0):
    """Sentences of ten words, all of one of six classes of eight words: words of a class are alike by construction."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(CLASSES, size=sentences)
    return [[f"{kind}.{word}" for word in rng.integers(8, size=10)] for kind in kinds]


def share_in_class(model):
    """Of each word's seven nearest, how many are of its class."""
    hits = [near[0] == word[0] for word in model.words for near, _ in model.most_similar(word, topn=7)]
    return np.mean(hits)


def kernel_case(V=50, D=20, *, negative=5, hs=False, sample=0.0, seed=0, sizes=(7, 1, 0, 200, 1900, 33, 600)):
    """Matrices with rows as kernels want them, tables, and sentences of the sizes."""
    rng = np.random.default_rng(seed)
    width = -(-D // _core.word2vec_pad) * _core.word2vec_pad
    p = 1 / np.arange(1, V + 1)
    sentences = [rng.choice(V, size, p=p / p.sum()).tolist() for size in sizes]
    counts = np.bincount(np.concatenate(sentences).astype(np.int64), minlength=V)
    matrices = {"vectors": np.zeros((V, width), np.float32)}
    if negative:
        matrices["output"] = np.zeros((V, width), np.float32)
    if hs:
        matrices["nodes"] = np.zeros((V - 1, width), np.float32)
    for matrix in matrices.values():
        matrix[:, :D] = rng.standard_normal((len(matrix), D)) / np.sqrt(D)
    tables = dict.fromkeys(("alias_share", "alias", "path", "steps"))
    tables["keep"] = keep_shares(counts, sample)
    if negative:
        tables["alias_share"], tables["alias"] = alias_table(counts**0.75)
    if hs:
        tables["path"], tables["steps"] = huffman(counts)
    return matrices, tables, sentences


def as_piece(sentences):
    """Tokens and begins as the kernel takes them."""
    begin = np.concatenate([[0], np.cumsum([len(s) for s in sentences])]).astype(np.int64)
    return np.array([w for s in sentences for w in s], np.int32), begin


def run_kernel(matrices, tables, sentences, *, lr, seed, first_block=0, threads=1, **options):
    """Train in place with the compiled kernel."""
    trainer = _core.Word2VecTrainer(
        matrices["vectors"], matrices.get("output"), matrices.get("nodes"), seed=seed, **options, **tables
    )
    return trainer.train(*as_piece(sentences), *lr, first_block, threads)
