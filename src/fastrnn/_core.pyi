"""Types of the compiled core. What each function does is said in `_core.pyx` and `_core_*.pxi`.

`_core_*.pyi` hold the parts that stand by themselves; when the program runs, all of it is one module.
"""

from typing import Any, TypeAlias

from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastrnn._core_attention import *  # noqa: F403
from fastrnn._core_ops import *  # noqa: F403
from fastrnn._core_scan import *  # noqa: F403
from fastrnn._core_tree import *  # noqa: F403
from fastrnn._core_word2vec import *  # noqa: F403

Array: TypeAlias = NDArray[Any]  # float32 or float64, one type in a call; x of recurrent layers also int64 codes
_Weights: TypeAlias = tuple[Array | None, ...]  # W, R, b_w, b_r, M of one direction
_Grads: TypeAlias = tuple[Array | None, ...]  # dW, dR, db_w, db_r, dM

# ---- settings

def select_isa(name: str | None = None) -> None: ...
def isa() -> str: ...
def isas() -> list[str]: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def set_own_threads(n: int) -> int: ...
def borrow_threads(parallel: int, id: int, size: int) -> bool: ...
def default_threads() -> int: ...
def cached_bytes() -> int: ...
def fma_peak(dtype: DTypeLike, rounds: int) -> float: ...

# ---- arrays

def empty(shape: tuple[int, ...], dtype: DTypeLike) -> Array: ...

# ---- recurrent layers

FAST_GRNN: int
FAST_RNN: int
RNN_TANH: int
RNN_RELU: int
RNN_SIGMOID: int
LSTM: int
GRU_AFTER: int
GRU_BEFORE: int

class Saved:
    def backward(
        self,
        dy: Array | None,
        dh_n: Array | None,
        dc_n: Array | None,
        grads: tuple[_Grads, ...],
        input_grad: bool,
        dh_0: Array | None,
        dc_0: Array | None,
        retain: bool = False,
        dx: Array | None = None,
        dc_all: Array | None = None,
    ) -> Array | None: ...

def forward(
    cell: int,
    x: Array,
    weights: tuple[_Weights, ...],
    h_0: Array | None,
    c_0: Array | None,
    lengths: NDArray[Any] | None,
    batch_first: bool,
    reverse: bool,
    y: Array,
    h_n: Array,
    c_n: Array | None,
    save: bool,
    checkpoint: int = 0,
    options: Options | None = None,
    c_all: Array | None = None,
) -> Saved | None: ...
def forward_layers(
    cell: int,
    x: Array,
    layers: tuple[tuple[_Weights, ...], ...],
    h_0: Array | None,
    c_0: Array | None,
    lengths: NDArray[Any] | None,
    batch_first: bool,
    save: bool,
    checkpoint: int,
    rate: float,
    mask: int,
    options: Options | None = None,
) -> tuple[Array, Array, Array | None, list[Any]]: ...
def backward_layers(
    kept: list[Saved],
    dy: Array | None,
    dh_n: Array | None,
    dc_n: Array | None,
    grads: tuple[tuple[_Grads, ...], ...],
    input_grad: bool,
    retain: bool,
    rate: float,
    mask: int,
    dh_all: Array | None = None,
    dc_all: Array | None = None,
) -> tuple[Array | None, Array, Array | None]: ...

ACTIVATIONS: tuple[str, ...]

class Options:
    def __init__(
        self,
        variant: tuple[Any, ...] | None = None,
        address: int = 0,
        owner: Any = None,
        zoneout: tuple[float, ...] = (),
        recurrent_dropout: float = 0.0,
        norm: int = 0,
        expect: bool = True,
        seed: int = 0,
        reset: NDArray[Any] | None = None,
        reset_h: NDArray[Any] | None = None,
        reset_c: NDArray[Any] | None = None,
        all_states: bool = False,
        input_masks: list[Any] | None = None,
    ) -> None: ...

# ---- streams

STREAM_CELL: int
STREAM_LINEAR: int
STREAM_ACTIVATION: int
STREAM_SOFTMAX: int
STREAM_NORM: int
STREAM_EMBEDDING: int

class Stream:
    busy: bool
    input_size: int
    def __init__(
        self,
        layers: list[tuple[Any, ...]],
        batch: int,
        dtype: DTypeLike,
        batch_first: bool = False,
        members: NDArray[Any] | None = None,
    ) -> None: ...
    def step(self, x: ArrayLike, out: Array | None = None) -> Array: ...
    def run(self, x: ArrayLike, out: Array | None = None) -> Array: ...
    def pack(self) -> None: ...
    def read_states(self, states: list[tuple[int, Any, Any]]) -> None: ...
    def write_states(self, states: list[tuple[int, Any, Any]], rows: NDArray[Any] | None) -> None: ...
    @property
    def _native_address(self) -> int: ...

# ---- for compiled code

NATIVE_LAYOUT: int

class NativeLayers:
    address: int
    def __init__(
        self, cell: int, layers: tuple[tuple[_Weights, ...], ...], batch_first: bool, dtype: DTypeLike
    ) -> None: ...

# ---- many small steps

def online_sgd(
    cell: int,
    x: Array,
    target: Array,
    weights: tuple[Array | None, Array | None, Array | None, Array | None],
    V: Array,
    b_v: Array | None,
    lr: float,
    losses: Array,
) -> None: ...

# ---- the decoder with attention and input feeding

DECODER_LAYERS: int

class SavedDecoder:
    def backward(
        self,
        dy: Array | None,
        dh_n: Array | None,
        dc_n: Array | None,
        grads: tuple[_Grads, ...],
        others: tuple[Array | None, ...],
        input_grad: bool,
        dkeys: Array,
        dvalues: Array,
        retain: bool = False,
    ) -> tuple[Array | None, Array, Array | None, Array]: ...

def decoder_forward(
    cell: int,
    x: Array,
    layers: tuple[_Weights, ...],
    h_0: Array | None,
    c_0: Array | None,
    feed_0: Array | None,
    lengths: NDArray[Any] | None,
    keys: Array,
    values: Array,
    source_lengths: NDArray[Any] | None,
    U: Array | None,
    v: Array | None,
    scale: float,
    C: Array,
    b_c: Array | None,
    feeding: bool,
    batch_first: bool,
    weights: bool,
    save: bool,
    sampling: tuple[float, int, Array, Array, Array | None, NDArray[Any]] | None = None,
    options: Options | None = None,
) -> tuple[Array, Array, Array | None, Array | None, SavedDecoder | None]: ...

# ---- searches

SEARCH_BEAM: int
SEARCH_SAMPLE: int

def search(
    mode: int,
    cell: int,
    batch: int,
    input_size: int,
    layers: tuple[_Weights, ...],
    h_0: Array | None,
    c_0: Array | None,
    feed_0: Array | None,
    keys: Array | None,
    values: Array | None,
    source_lengths: NDArray[Any] | None,
    U: Array | None,
    v: Array | None,
    scale: float,
    C: Array | None,
    b_c: Array | None,
    feeding: bool,
    batch_first: bool,
    embedding: Array,
    extra: Array | None,
    O: Array,
    b_o: Array | None,
    banned: NDArray[Any] | None,
    bos: int,
    eos: int,
    width: int,
    n_best: int,
    most: int,
    least: int,
    length_penalty: float,
    coverage_penalty: float,
    early: bool,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int,
    weights: bool,
    options: Options | None = None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], Array | None]: ...
