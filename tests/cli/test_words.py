"""The commands on models of words."""

import json
import re

import numpy as np
import pytest

import fastrnn as fr
from fastrnn.cli import main
from fastrnn.cli.tokens import KEPT, LONGEST, pieces, unknown_tokens
from fastrnn.text import CharVocabulary, Vocabulary, as_vocabulary

TINY = ["--tokens", "words", "--hidden", "8", "--embedding", "4", "--batch", "4", "--seq-len", "10", "--cell", "gru"]
LINE = "The quick brown fox (of two) didn't jump; the lazy dog slept.\n"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(LINE * 60)


def test_train_sample_and_resume(capsys):
    assert main(["train", "--text", "text.txt", *TINY, "--steps", "30", "--out", "run"]) == 0
    shown = capsys.readouterr()
    found = re.search(r"held-out text: perplexity ([\d.]+), ([\d.]+) bits per word \((\d+) words\)", shown.out)
    perplexity, bits, words = map(float, found.groups())
    assert perplexity == pytest.approx(2**bits, rel=0.01)
    held_out = round(len(LINE) * 60 * 0.05)
    assert words == len(fr.text.split_tokens((LINE * 60)[-held_out:])) + 2
    assert "bits/word" in shown.err
    assert float(re.search(r"([\d.]+)% held out", shown.out)[1]) == pytest.approx(5, abs=0.6)  # of the words
    notes = fr.History.load("run/history.json").notes
    assert notes["held_out_perplexity"] == pytest.approx(perplexity, abs=0.06)
    model = fr.load("run/model.safetensors")
    assert model.vocabulary.tokenizer == "tokens" and "didn't" in model.vocabulary

    assert main(["sample", "run", "--prompt", "The quick ", "--length", "12", "--seed", "1"]) == 0
    first = capsys.readouterr().out
    text = model.vocabulary.decode(
        [*model.vocabulary.encode("The quick"), *model.generate("The quick ", 12, temperature=0.8, seed=1)]
    )
    assert first == text + "\n"
    assert main(["sample", "run", "--prompt", "The zebra", "--length", "0"]) == 0
    assert "not in the model's vocabulary: 'zebra'" in capsys.readouterr().err

    assert main(["train", "--resume", "--steps", "40", "--out", "run"]) == 0
    assert "going on after step 30" in capsys.readouterr().out
    assert main(["train", "--resume", "--steps", "40", "--out", "run", "--tokens", "characters"]) == 2
    assert "--tokens: the run in run began with 'words', not 'characters'" in capsys.readouterr().err


def test_each_kind_has_its_defaults(tmp_path, capsys):
    assert main(["train", "--text", "text.txt", "--steps", "1", "--hidden", "4", "--out", "c"]) == 0
    assert main(["train", "--text", "text.txt", *TINY[:6], "--batch", "2", "--steps", "1", "--out", "w"]) == 0
    settings = [json.loads((tmp_path / name / "settings.json").read_text()) for name in "cw"]
    assert [(s["tokens"], s["symbols"], s["seq_len"]) for s in settings] == [
        ("characters", 128, 128),
        ("words", 8000, 32),
    ]
    capsys.readouterr()


def test_too_few_words_are_counted(tmp_path, capsys):
    (tmp_path / "short.txt").write_text("one two three .")
    assert main(["train", "--text", "short.txt", "--tokens", "words", "--out", "s"]) == 2
    assert "--text: 4 words are too few for --batch 32 and --seq-len 32; at least" in capsys.readouterr().err


VOCABULARY = Vocabulary.from_texts([LINE], tokenizer="tokens")


def test_pieces_make_the_text():
    tokens = VOCABULARY.encode(LINE)
    for cut in range(len(tokens)):
        prompt = VOCABULARY.decode(tokens[:cut])
        assert prompt + "".join(pieces(VOCABULARY, prompt, tokens[cut:].tolist())) == LINE
    assert list(pieces(VOCABULARY, "The ", [VOCABULARY.encode("quick")[0], 2])) == ["quick", ""]
    assert "".join(pieces(CharVocabulary("ab"), "a", [1, 2])) == "ab"


def test_long_texts_are_not_read_again_and_again():
    tokens = np.tile(VOCABULARY.encode(LINE), 4 * LONGEST // 10)
    longest = 0

    class Counting:
        def encode(self, text):
            return VOCABULARY.encode(text)

        def decode(self, numbers):
            nonlocal longest
            longest = max(longest, len(numbers))
            return VOCABULARY.decode(numbers)

    text = "".join(pieces(Counting(), "", tokens.tolist()))
    assert text.split() == (LINE * (4 * LONGEST // 10)).split()
    assert KEPT < longest <= LONGEST + 1


def test_a_character_in_bytes_waits_for_its_last_one():
    class Bytes:
        vocab_size = 256

        def encode(self, text):
            return list(text.encode())

        def decode(self, ids):
            return bytes(ids).decode(errors="replace")

    vocabulary = as_vocabulary(Bytes())
    assert list(pieces(vocabulary, "n", "é!".encode())) == ["é", "!"]
    assert unknown_tokens(vocabulary, "x") == []
