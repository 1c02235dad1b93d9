"""Fast recurrent networks on the CPU, from plain NumPy arrays.

Examples
--------
>>> import numpy as np, fastrnn as fr
>>> lstm = fr.LSTM(input_size=8, hidden_size=16, seed=0)
>>> x = np.ones((20, 4, 8), np.float32)  # [T, B, I]
>>> (y, (h_n, c_n)), pullback = lstm.vjp(x)
>>> dx, (dh_0, dc_0) = pullback(np.ones_like(y))
>>> fr.optim.SGD(lstm, lr=0.1).step()
"""

from typing import TYPE_CHECKING

from fastrnn import _threads, functional, io, nn
from fastrnn._info import __version__, info
from fastrnn._threads import get_num_threads, set_num_threads
from fastrnn.io import load, save
from fastrnn.nn import (
    GELU,
    GRU,
    LRU,
    LSTM,
    QRNN,
    RNN,
    SRU,
    Attention,
    CustomRNN,
    Dropout,
    Embedding,
    FastGRNN,
    FastRNN,
    GRUCell,
    IndRNN,
    Last,
    Layer,
    LayerNorm,
    LayerStream,
    LeakyReLU,
    Linear,
    LSTMCell,
    MaxPool,
    MeanPool,
    MinGRU,
    MinLSTM,
    Model,
    MultiHeadAttention,
    OneHot,
    OneHotArray,
    Parallel,
    Parameter,
    PositionalEncoding,
    RecursiveNet,
    ReLU,
    Residual,
    RNNCell,
    Sequential,
    Sigmoid,
    Softmax,
    Stream,
    Swish,
    Tanh,
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
    TreeLSTM,
    Trees,
    activations,
    concat,
    init,
    losses,
    one_hot,
    ops,
    stack,
    value_and_grad,
)

__all__ = [
    "GELU",
    "GRU",
    "LRU",
    "LSTM",
    "QRNN",
    "RNN",
    "SRU",
    "ArrayBatches",
    "Attention",
    "Batch",
    "CustomRNN",
    "DialogueBatches",
    "Dialogues",
    "Dropout",
    "Embedding",
    "FastGRNN",
    "FastRNN",
    "GRUCell",
    "History",
    "IndRNN",
    "Interrupted",
    "LSTMCell",
    "Last",
    "Layer",
    "LayerNorm",
    "LayerStream",
    "LeakyReLU",
    "Linear",
    "MaxPool",
    "MeanPool",
    "MinGRU",
    "MinLSTM",
    "Model",
    "MultiHeadAttention",
    "OneHot",
    "OneHotArray",
    "PairBatches",
    "Parallel",
    "Parameter",
    "PositionalEncoding",
    "Progress",
    "RNNCell",
    "ReLU",
    "RecursiveNet",
    "Residual",
    "SequenceBatches",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Stream",
    "Swish",
    "Tanh",
    "TokenWindows",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "TreeBatches",
    "TreeLSTM",
    "Trees",
    "__version__",
    "activations",
    "cell",
    "concat",
    "fit",
    "functional",
    "get_num_threads",
    "info",
    "init",
    "io",
    "jit",
    "load",
    "losses",
    "models",
    "nn",
    "one_hot",
    "ops",
    "optim",
    "reference",
    "save",
    "schedules",
    "set_num_threads",
    "stack",
    "text",
    "train",
    "value_and_grad",
]

# Imported when one of its names is first used: `import fastrnn` has to be quick.
if TYPE_CHECKING:
    from fastrnn import jit, models, optim, reference, text, train
    from fastrnn.jit import cell
    from fastrnn.train import (
        ArrayBatches,
        Batch,
        DialogueBatches,
        Dialogues,
        History,
        Interrupted,
        PairBatches,
        Progress,
        SequenceBatches,
        TokenWindows,
        TreeBatches,
        schedules,
    )
    from fastrnn.train.fit import fit
else:  # a type checker that saw this would believe in every name
    _MODULES = ("jit", "models", "optim", "reference", "text", "train")
    _NAMES = {
        "jit": ("cell",),
        "train": (
            "ArrayBatches", "Batch", "DialogueBatches", "Dialogues", "History", "Interrupted", "PairBatches",
            "Progress", "SequenceBatches", "TokenWindows", "TreeBatches", "fit", "schedules",
        ),
    }  # fmt: skip
    _HOME = {name: module for module, names in _NAMES.items() for name in names}

    def __getattr__(name: str) -> object:
        import importlib

        if name in _MODULES:
            return importlib.import_module(f"fastrnn.{name}")
        if name not in _HOME:
            raise AttributeError(f"module 'fastrnn' has no attribute {name!r}")
        found = globals()[name] = getattr(importlib.import_module(f"fastrnn.{_HOME[name]}"), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


# where the class of a file may be that isn't known yet
nn._layer.LATER += ["fastrnn.models", "fastrnn.interop.graph"]
_threads._meet_threadpoolctl()
