"""Types of the compiled core. What each function does is said in `_core.pyx` and `_core_*.pxi`.

Over 400 lines: the stub of an extension is one file, and kernels have many arguments.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

from numpy.typing import ArrayLike, DTypeLike, NDArray

Array: TypeAlias = NDArray[Any]  # float32 or float64, one type in a call; x of recurrent layers also int64 codes
_Weights: TypeAlias = tuple[Array | None, ...]  # W, R, b_w, b_r, M of one direction
_Grads: TypeAlias = tuple[Array | None, ...]  # dW, dR, db_w, db_r, dM

# ---- settings

def select_isa(name: str | None = None) -> None: ...
def isa() -> str: ...
def isas() -> list[str]: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def default_threads() -> int: ...
def cached_bytes() -> int: ...
def fma_peak(dtype: DTypeLike, rounds: int) -> float: ...

# ---- arrays

def empty(shape: tuple[int, ...], dtype: DTypeLike) -> Array: ...

# ---- recurrent layers

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

# ---- trees

TREE_TANH: int
TREE_RELU: int
TREE_SIGMOID: int
TREE_CHILD_SUM: int
TREE_NARY: int

_Indices: TypeAlias = NDArray[Any]  # int64

def tree_forward(
    cell: int,
    levels: _Indices,
    first: _Indices,
    child: _Indices,
    U: Array,
    bias: Array | None,
    z: Array | None,
    f: Array | None,
    h: Array,
    c: Array | None,
    hc: Array,
) -> None: ...
def tree_backward(
    cell: int,
    levels: _Indices,
    first: _Indices,
    child: _Indices,
    U: Array,
    z: Array,
    f: Array | None,
    h: Array,
    c: Array | None,
    dh: Array,
    dc: Array | None,
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

# ---- matrix products and vector math

def gemm(a: Array, b: Array, out: Array, bias: Array | None = None, accumulate: bool = False) -> Array: ...

# ---- activations and softmax

def activation(name: str, x: Array, out: Array, alpha: float = 0.01) -> Array: ...
def activation_backward(name: str, x: Array, y: Array, dy: Array, out: Array, alpha: float = 0.01) -> None: ...
def softmax(x: Array, out: Array) -> None: ...
def log_softmax(x: Array, out: Array) -> None: ...
def softmax_backward(y: Array, dy: Array, out: Array) -> None: ...

# ---- losses

def cross_entropy(
    logits: Array,
    targets: NDArray[Any],
    factor: Array,
    label_smoothing: float,
    dlogits: Array | None = None,
) -> float: ...
def bce_with_logits(logits: Array, targets: Array, factor: Array, dlogits: Array | None = None) -> float: ...

# ---- layer normalisation

def layer_norm_forward(
    x: Array, gamma: Array | None, beta: Array | None, eps: float, y: Array, mean: Array, rstd: Array
) -> None: ...
def layer_norm_backward(
    dy: Array,
    x: Array,
    gamma: Array | None,
    mean: Array,
    rstd: Array,
    dx: Array,
    dgamma: Array | None = None,
    dbeta: Array | None = None,
) -> None: ...

# ---- embeddings, pooling and dropout

def embedding_forward(weight: Array, idx: NDArray[Any], out: Array) -> None: ...
def embedding_backward(dy: Array, idx: NDArray[Any], dweight: Array) -> None: ...
def max_pool(x: Array, lengths: NDArray[Any] | None, y: Array, step: NDArray[Any] | None = None) -> None: ...
def max_pool_backward(dy: Array, step: NDArray[Any], lengths: NDArray[Any] | None, dx: Array) -> None: ...
def mean_pool(x: Array, lengths: NDArray[Any] | None, y: Array) -> None: ...
def mean_pool_backward(dy: Array, lengths: NDArray[Any] | None, dx: Array) -> None: ...
def dropout(x: Array, p: float, seed: int, out: Array) -> None: ...
def dropout_mask(n: int, p: float, seed: int) -> NDArray[Any]: ...

# ---- attention

def dot_attention(
    q: Array,
    k: Array,
    v: Array,
    heads: int,
    lengths: NDArray[Any] | None,
    causal: bool,
    mask: Array | None,
    scale: float,
    dropout: float,
    seed: int,
    y: Array,
    stats: Array | None = None,
    weights: Array | None = None,
) -> None: ...
def dot_attention_backward(
    q: Array,
    k: Array,
    v: Array,
    heads: int,
    lengths: NDArray[Any] | None,
    causal: bool,
    mask: Array | None,
    scale: float,
    dropout: float,
    seed: int,
    y: Array,
    stats: Array,
    dy: Array,
    dq: Array,
    dk: Array,
    dv: Array,
) -> None: ...
def additive_attention(
    q: Array, k: Array, v: Array, x: Array, lengths: NDArray[Any] | None, y: Array, weights: Array
) -> None: ...
def additive_attention_backward(
    q: Array,
    k: Array,
    v: Array,
    x: Array,
    lengths: NDArray[Any] | None,
    weights: Array,
    dy: Array,
    dq: Array,
    dk: Array,
    dv: Array,
    dx: Array,
) -> None: ...

# ---- optimisers

Item: TypeAlias = tuple[Array, Array, Sequence[Array | None], Sequence[float], Array | None]

def update(rule: str, items: Sequence[Item]) -> None: ...
def norm_squared(arrays: Sequence[tuple[Array, Array | None]]) -> float: ...
def scale_all(arrays: Sequence[tuple[Array, Array | None]], s: float) -> None: ...

# ---- sums and simple arithmetic

def column_sum(a: Array, out: Array) -> None: ...
def sum_squares(a: Array) -> float: ...
def all_finite(a: Array) -> bool: ...
def scale(a: Array, s: float) -> None: ...
def clip(a: Array, low: float, high: float) -> None: ...
def add(a: Array, b: Array, out: Array) -> None: ...

# ---- word vectors

word2vec_block: int
word2vec_pad: int

class Word2VecTrainer:
    def __init__(
        self,
        vectors: Array,
        output: Array | None,
        nodes: Array | None,
        *,
        path: NDArray[Any] | None,
        steps: NDArray[Any] | None,
        keep: NDArray[Any] | None,
        alias_share: NDArray[Any] | None,
        alias: NDArray[Any] | None,
        negative: int,
        window: int,
        shrink: bool,
        cbow: int,
        seed: int,
    ) -> None: ...
    def train(
        self,
        tokens: NDArray[Any],
        begin: NDArray[Any],
        lr_first: float,
        lr_last: float,
        first_block: int,
        num_threads: int,
    ) -> tuple[float, int, int]: ...

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

# ---- scans through time

SCAN_SRU: int
SCAN_QRNN: int
SCAN_MIN_GRU: int
SCAN_MIN_LSTM: int
SCAN_LRU: int
SCAN_IND_RNN: int

def scan_forward(
    cell: int,
    option: bool,
    T: int,
    lengths: _Indices | None,
    first: _Indices,
    step: int,
    reverse: bool,
    z: Array,
    skip: Array | None,
    p: Array | None,
    alpha: float,
    s_0: Array | None,
    s_n: Array,
    y: Array | None,
    s: Array | None,
) -> None: ...
def scan_backward(
    cell: int,
    option: bool,
    T: int,
    lengths: _Indices | None,
    first: _Indices,
    step: int,
    reverse: bool,
    z: Array | None,
    skip: Array | None,
    p: Array | None,
    alpha: float,
    s_0: Array | None,
    y: Array | None,
    s: Array | None,
    dy: Array | None,
    ds_n: Array | None,
    ds_0: Array,
    dz: Array,
    dskip: Array | None,
    dp: Array | None,
) -> None: ...
