"""The commands: what ``fastrnn --help`` shows of each, and the module that is imported when one is called."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

__all__ = ["COMMANDS", "Entry"]


class Entry(NamedTuple):
    """A command that isn't imported yet.

    Its module has `add(subparsers)`, which sets `run=` to a function from parsed arguments to an exit code.
    """

    module: str
    summary: str
    config: bool = True  # whether --config may set its options

    def add(self, subparsers: Any) -> None:
        """Import the command and add it to the parser."""
        importlib.import_module(f"fastrnn.cli.{self.module}").add(subparsers)


COMMANDS = {
    "train": Entry("train", "train a language model of characters or words"),
    "sample": Entry("sample", "let a trained model write"),
    "train-seq2seq": Entry("train_seq2seq", "train a model that translates"),
    "translate": Entry("translate", "translate lines of text"),
    "convert": Entry("convert", "convert models: safetensors, ONNX, Keras, PyTorch", config=False),
    "info": Entry("info", "show version, instruction set, threads, caches", config=False),
    "bench": Entry("bench", "measure layers beside PyTorch, ONNX Runtime, JAX, Keras and NumPy"),
}
