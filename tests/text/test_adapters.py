"""Tokenisers of others as vocabularies."""

import builtins
import json
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn as fr
from fastrnn.text import CharVocabulary, Vocabulary, as_vocabulary, vocabulary_from_config


class Bytes:
    """A tokeniser of a user: no special tokens, nothing to write it with."""

    vocab_size = 256

    def encode(self, text):
        return list(text.encode())

    def decode(self, ids):
        return bytes(ids).decode()


class Pieces:
    """The methods of a sentencepiece processor that we use."""

    names = ("<unk>", "<s>", "</s>", "▁a", "▁b")

    def __init__(self, model_proto=b"\x00\xff"):
        self.proto = model_proto

    def encode(self, text):
        return [self.names.index("▁" + c) if "▁" + c in self.names else 0 for c in text.split()]

    def decode(self, ids):
        return " ".join(self.names[k].strip("▁") for k in ids)

    def get_piece_size(self):
        return len(self.names)

    def pad_id(self):
        return -1

    def bos_id(self):
        return 1

    def eos_id(self):
        return 2

    def unk_id(self):
        return 0

    def id_to_piece(self, k):
        return self.names[k]

    def serialized_model_proto(self):
        return self.proto


def hugging_face(specials=(), model="WordLevel", template=False):
    tokenizers = pytest.importorskip("tokenizers")
    if model == "BPE":
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = tokenizers.decoders.ByteLevel()
        alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=300, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
        )
    else:
        tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(unk_token="[UNK]"))
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        trainer = tokenizers.trainers.WordLevelTrainer(special_tokens=["[UNK]", *specials], show_progress=False)
    tokenizer.train_from_iterator(["to be or not to be"] * 3, trainer)
    if template:
        ends = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = tokenizers.processors.TemplateProcessing("[CLS] $0 [SEP]", special_tokens=ends)
    return tokenizer


def specials_of(vocabulary):
    return vocabulary.pad, vocabulary.bos, vocabulary.eos, vocabulary.unk


def again(vocabulary):
    return vocabulary_from_config(json.loads(json.dumps(vocabulary.config())))


def test_a_vocabulary_is_returned_as_it_is():
    vocabulary = Vocabulary(["a"])
    assert as_vocabulary(vocabulary) is vocabulary
    adapted = as_vocabulary(CharVocabulary("ab"))
    assert as_vocabulary(adapted) is adapted
    assert as_vocabulary(vocabulary.config()) == vocabulary
    assert as_vocabulary(adapted.config()) == adapted


@settings(deadline=None)
@given(st.text(min_size=1))
def test_characters_keep_their_numbers(string):
    own = CharVocabulary.from_text(string)
    vocabulary = as_vocabulary(own)
    n = len(own)
    assert specials_of(vocabulary) == (n, n + 1, n + 2, 0) and len(vocabulary) == n + 3
    np.testing.assert_array_equal(vocabulary.encode(string), own.encode(string), strict=True)
    assert vocabulary.decode([n + 1, *vocabulary.encode(string), n, n + 2, 1]) == string
    assert again(vocabulary) == vocabulary
    assert again(own) == own


def test_missing_special_tokens_of_hugging_face_come_last():
    own = hugging_face()
    vocabulary = as_vocabulary(own)
    n = own.get_vocab_size()
    assert specials_of(vocabulary) == (n, n + 1, n + 2, own.token_to_id("[UNK]")) and len(vocabulary) == n + 3
    assert vocabulary.encode("to be me").tolist() == own.encode("to be me").ids
    assert vocabulary.decode([n + 1, *vocabulary.encode("to be"), n, n + 2, 1, 1]) == "to be"
    assert [vocabulary.token(k) for k in (n, n + 1, n + 2)] == ["<pad>", "<bos>", "<eos>"]
    assert vocabulary.token(own.token_to_id("be")) == "be"


@pytest.mark.parametrize(
    "names",
    [("[PAD]", "[CLS]", "[SEP]"), ("<pad>", "<s>", "</s>"), ("<|padding|>", "<|startoftext|>", "<|endoftext|>")],
)
def test_usual_names_are_found(names):
    own = hugging_face(names)
    vocabulary = as_vocabulary(own)
    assert specials_of(vocabulary)[:3] == tuple(map(own.token_to_id, names))
    assert len(vocabulary) == own.get_vocab_size()


def test_names_and_numbers_can_be_given():
    own = hugging_face(("[X]", "[Y]"))
    vocabulary = as_vocabulary(own, pad="[X]", eos=own.token_to_id("[Y]"))
    assert (vocabulary.pad, vocabulary.eos) == (own.token_to_id("[X]"), own.token_to_id("[Y]"))
    assert vocabulary.bos == own.get_vocab_size()
    with pytest.raises(ValueError, match=r"bos: the tokenizer has no token '\[Z\]'"):
        as_vocabulary(own, bos="[Z]")
    with pytest.raises(ValueError, match="bos: expected the number of a token, below"):
        as_vocabulary(own, bos=1000)
    with pytest.raises(TypeError, match="pad: this vocabulary has its special tokens already"):
        as_vocabulary(vocabulary, pad=0)


def test_templates_add_nothing():
    own = hugging_face(("[CLS]", "[SEP]"), template=True)
    assert len(own.encode("to be").ids) == 4
    assert as_vocabulary(own).encode("to be").tolist() == own.encode("to be", add_special_tokens=False).ids


@pytest.mark.parametrize("model", ["WordLevel", "BPE"])
def test_hugging_face_comes_back_from_files(model, tmp_path):
    vocabulary = as_vocabulary(hugging_face(("<s>",), model))
    rebuilt = again(vocabulary)
    assert rebuilt == vocabulary and hash(rebuilt) == hash(vocabulary)
    assert rebuilt.encode("not to be").tolist() == vocabulary.encode("not to be").tolist()
    assert rebuilt.decode(rebuilt.encode("not to be")) == "not to be"
    assert specials_of(rebuilt) == specials_of(vocabulary) and len(rebuilt) == len(vocabulary)


def test_bytes_need_no_unknown_token():
    own = hugging_face(model="BPE")
    vocabulary = as_vocabulary(own)
    n = own.get_vocab_size()
    assert specials_of(vocabulary) == (n, n + 1, n + 2, n + 3)
    assert vocabulary.decode(vocabulary.encode("été ☃")) == "été ☃"


def test_one_token_may_begin_and_end():
    own = hugging_face(("<|endoftext|>",), "BPE")
    end = own.token_to_id("<|endoftext|>")
    vocabulary = as_vocabulary(own, bos=end)
    assert vocabulary.decode([end, *vocabulary.encode("to be"), end, 70]) == "to be"


def test_the_tokenizer_inside_a_pretrained_one():
    own = hugging_face(("[MASK]", "<|x|>"))
    wrapper = types.SimpleNamespace(backend_tokenizer=own, pad_token_id=own.token_to_id("<|x|>"), eos_token_id=None)
    vocabulary = as_vocabulary(wrapper)
    assert vocabulary.tokenizer is own and vocabulary.pad == own.token_to_id("<|x|>")
    assert vocabulary.unk == own.token_to_id("[UNK]") and vocabulary.eos == own.get_vocab_size() + 1


def test_the_package_that_is_missing_is_named(monkeypatch):
    config = as_vocabulary(hugging_face()).config()
    real = builtins.__import__

    def refuse(name, *rest, **more):
        if name.startswith("tokenizers"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr("importlib.import_module", lambda name: refuse(name))
    with pytest.raises(ImportError, match="one of the package tokenizers: pip install tokenizers"):
        vocabulary_from_config(config)


def test_sentencepiece_tells_its_special_tokens(monkeypatch):
    vocabulary = as_vocabulary(Pieces())
    assert specials_of(vocabulary) == (5, 1, 2, 0) and len(vocabulary) == 6
    assert vocabulary.encode("a b c").tolist() == [3, 4, 0]
    assert vocabulary.decode([1, 3, 4, 2, 3]) == "a b"
    assert vocabulary.token(3) == "▁a" and vocabulary.token(5) == "<pad>"
    found = types.SimpleNamespace(SentencePieceProcessor=Pieces)
    monkeypatch.setattr("importlib.import_module", lambda name: {"sentencepiece": found}[name])
    rebuilt = again(vocabulary)
    assert rebuilt.tokenizer.proto == b"\x00\xff" and rebuilt == vocabulary


def test_a_tokenizer_of_ones_own():
    vocabulary = as_vocabulary(Bytes())
    assert specials_of(vocabulary) == (256, 257, 258, 259)
    assert vocabulary.encode("né").dtype == np.int32
    assert vocabulary.decode([257, *vocabulary.encode("né"), 258, 5]) == "né"
    assert vocabulary.token(110) == "n"
    with pytest.raises(TypeError, match=r"a Bytes can't be written to a file .* model\.load_state_dict"):
        vocabulary.config()
    assert vocabulary == vocabulary and vocabulary != as_vocabulary(Bytes())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: as_vocabulary(3), "vocabulary: expected a Vocabulary, a CharVocabulary, or a tokenizer"),
        (lambda: as_vocabulary(object()), "which has no method 'encode'"),
        (lambda: as_vocabulary(types.SimpleNamespace(encode=len, decode=len)), "size: SimpleNamespace doesn't say"),
        (lambda: as_vocabulary(Bytes()).encode(b"x"), "text: expected str, got bytes"),
    ],
)
def test_what_is_no_tokenizer(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_unknown_descriptions():
    config = as_vocabulary(CharVocabulary("ab")).config()
    for wrong in ({**config, "kind": "x"}, {**config, "format": "x"}, {k: v for k, v in config.items() if k != "pad"}):
        with pytest.raises(ValueError, match=r"^config: "):
            vocabulary_from_config(wrong)


def test_the_public_names():
    assert fr.text.as_vocabulary is as_vocabulary and set(fr.text.__all__) <= set(dir(fr.text))
