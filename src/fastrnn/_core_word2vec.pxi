# Training of word vectors (csrc/word2vec.h).

cdef extern from "word2vec.h" namespace "fastrnn" nogil:
    cdef struct Word2VecJob "fastrnn::Word2Vec":
        ptrdiff_t V, stride
        float* vectors
        float* output
        float* nodes
        const int64_t* path
        const int32_t* steps
        ptrdiff_t deepest
        const uint32_t* keep
        const uint32_t* alias_share
        const int32_t* alias
        ptrdiff_t negative, window
        int shrink, cbow
        const int32_t* tokens
        ptrdiff_t N
        const int64_t* begin
        ptrdiff_t S, longest
        double lr_first, lr_last
        uint64_t seed, first_block
        double loss
        int64_t pairs, kept
        void* workspace
        int threads

    cdef struct Word2VecTable "fastrnn::Word2VecKernels":
        size_t (*workspace)(const Word2VecJob*) noexcept nogil
        void (*train)(Word2VecJob*) noexcept nogil

    const ptrdiff_t kWord2VecBlock
    const ptrdiff_t kWord2VecPad


word2vec_block = kWord2VecBlock
word2vec_pad = kWord2VecPad


cdef class Word2VecTrainer:
    """The matrices, tables and settings of csrc/word2vec.h, looked at once; `train` then takes the text in pieces.

    vectors, output, nodes: float32 [V, stride] and [V-1, stride], changed in place; output None without negatives, nodes
    None without a tree. path int64 [V+1] and steps int32, keep uint32 [V] or None, alias_share uint32 and alias int32 [V].
    """
    cdef Word2VecJob job
    cdef list _held

    def __init__(self, vectors, output, nodes, *, path, steps, keep, alias_share, alias, ptrdiff_t negative,
                 ptrdiff_t window, bint shrink, int cbow, uint64_t seed):
        cdef Word2VecJob* j = &self.job
        cdef ptrdiff_t i, count
        floats_2d(vectors, "vectors", &j.V, &j.stride)
        if j.V < 1 or j.V >= 1 << 30 or j.stride < 1 or j.stride % kWord2VecPad:
            raise ValueError(f"vectors: expected rows of a multiple of {kWord2VecPad}, got shape {vectors.shape}")
        if not (0 <= negative < 1 << 20 and 1 <= window < 1 << 30 and 0 <= cbow <= 2):
            raise ValueError(f"negative, window, cbow: got {negative}, {window}, {cbow}")
        j.vectors = <float*>block(vectors, cnp.NPY_FLOAT32, j.V, j.stride, "vectors", True)
        j.output = <float*>optional(output, cnp.NPY_FLOAT32, j.V, j.stride, "output", True)
        j.nodes = <float*>optional(nodes, cnp.NPY_FLOAT32, j.V - 1, j.stride, "nodes", True)
        j.keep = <const uint32_t*>optional(keep, cnp.NPY_UINT32, j.V, 1, "keep")
        j.negative, j.window, j.shrink, j.cbow, j.seed = negative if output is not None else 0, window, shrink, cbow, seed
        j.alias_share = NULL
        j.alias = NULL
        if j.negative:
            j.alias_share = <const uint32_t*>block(alias_share, cnp.NPY_UINT32, j.V, 1, "alias_share")
            j.alias = <const int32_t*>block(alias, cnp.NPY_INT32, j.V, 1, "alias")
            for i in range(j.V):
                if not 0 <= j.alias[i] < j.V:
                    raise ValueError(f"alias: expected words from 0 to {j.V - 1}, got {j.alias[i]}")
        if nodes is not None:
            count = len(steps)
            j.path = <const int64_t*>block(path, cnp.NPY_INT64, j.V + 1, 1, "path")
            j.steps = <const int32_t*>block(steps, cnp.NPY_INT32, count, 1, "steps")
            if j.path[0] != 0 or j.path[j.V] != count or (np.diff(path) < 0).any():
                raise ValueError("path: expected ascending positions in steps")
            j.deepest = np.diff(path).max()
            for i in range(count):
                if not 0 <= j.steps[i] < 2 * (j.V - 1):
                    raise ValueError(f"steps: expected nodes from 0 to {j.V - 2}, got {j.steps[i]} >> 1")
        self._held = [vectors, output, nodes, path, steps, keep, alias_share, alias]

    def train(self, tokens, begin, double lr_first, double lr_last, uint64_t first_block, int num_threads):
        """Work through tokens int32 [N], sentences from begin int64 [S+1]: (Σ loss, predictions, tokens kept)."""
        cdef Word2VecJob j = self.job
        cdef ptrdiff_t i
        j.N, j.S, j.longest = len(tokens), len(begin) - 1, 0
        j.tokens = <const int32_t*>block(tokens, cnp.NPY_INT32, j.N, 1, "tokens")
        j.begin = <const int64_t*>block(begin, cnp.NPY_INT64, j.S + 1, 1, "begin")
        if j.S < 0 or j.begin[0] != 0 or j.begin[j.S] != j.N or not 1 <= num_threads <= 256:
            raise ValueError(f"begin: expected positions from 0 to {j.N}, and 1 to 256 threads, got {num_threads}")
        for i in range(j.S):
            if j.begin[i + 1] < j.begin[i]:
                raise ValueError("begin: expected ascending positions")
            j.longest = max(j.longest, j.begin[i + 1] - j.begin[i])
        for i in range(j.N):
            if not 0 <= j.tokens[i] < j.V:
                raise ValueError(f"tokens: expected words from 0 to {j.V - 1}, got {j.tokens[i]}")
        if j.N == 0:
            return 0.0, 0, 0
        j.lr_first, j.lr_last, j.first_block, j.threads = lr_first, lr_last, first_block, num_threads
        cdef const Word2VecTable* table = <const Word2VecTable*>kernels().word2vec
        j.workspace = workspace_acquire(table.workspace(&j))
        if j.workspace == NULL:
            raise MemoryError("no memory for training word vectors")
        with nogil:
            table.train(&j)
        workspace_release(j.workspace)
        return j.loss, j.pairs, j.kept
