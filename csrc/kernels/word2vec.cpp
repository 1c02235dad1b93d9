// word2vec.cpp: skip-gram and CBOW with negative sampling and hierarchical softmax.
//
// One prediction has an input h and targets t with vectors u_t and signs s_t:
//
//   skip-gram   h = v_w of the word w, a prediction for each word c around it
//   CBOW        h = mean (or sum) of v_c over the words c around w, one prediction
//   negative    u: the predicted word's output vector (s = +1), and those of words drawn from noise (s = -1)
//   hierarchy   u: the inner nodes on the way to the predicted word (s = +1 for code 0, -1 for code 1)
//
//   x_t = s_t·h·u_t     loss = Σ log(1 + e⁻ˣ)     g_t = η·s_t·σ(-x_t)
//   e = Σ g_t·u_t       u_t += g_t·h               v += e, for each v in h
//
// CBOW's mean hands the whole of e to each of its words, as Mikolov's program does: their gradient times their number.
// Predictions come in batches of four: first the g of all, from the vectors as they are before the batch, then the updates,
// one prediction after the other, target by target (u_t of Σ is the one before its own update).
//
// What bounds it is latency, of one prediction's arithmetic and of random rows from L2 and L3. So four chains run side by
// side, predictions are listed before they are computed, and the rows of the next batch are fetched meanwhile.
#include "../word2vec.h"

#include "word2vec_targets.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

constexpr int kBatch = 4;          // predictions whose chains of arithmetic run side by side
constexpr ptrdiff_t kList = 4096;  // numbers in the list of predictions; it stays in L1

// ---- random numbers: splitmix64 (Steele et al. 2014)

FR_INLINE uint64_t mix64(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
struct Draws {
    uint64_t state;
    FR_INLINE uint64_t next() { return mix64(state += 0x9e3779b97f4a7c15u); }
    FR_INLINE uint32_t below(uint64_t n) { return uint32_t(((next() >> 32) * n) >> 32); }
};

// ---- the list of predictions

// A record is: inputs, their number before them; the predicted word; negatives, their number before them.
struct List {
    int32_t* record;  // [room]
    int32_t* start;   // where each begins
    ptrdiff_t used, count;
};

struct Thread {
    List list;
    int32_t* words;  // [longest] the sentence without the words that subsampling drops
    Group* groups;   // [kBatch·groups a prediction]
    float* g;        // [kGroup] each; an even number of them
    float* h;        // [kBatch, stride]
    float* e;        // [stride]
    LogProduct product;
    double loss;
    int64_t pairs, kept;
};

FR_INLINE ptrdiff_t sentence_window(const Word2Vec& q) { return least(q.window, q.longest); }
// numbers that one word may add
FR_INLINE ptrdiff_t most(const Word2Vec& q) {
    const ptrdiff_t around = 2 * sentence_window(q), rest = 3 + q.negative;
    return q.cbow ? around + rest : around * (1 + rest);
}
// a batch may wait for a word's
FR_INLINE ptrdiff_t room(const Word2Vec& q) {
    const ptrdiff_t least_room = most(q) + (kBatch - 1) * (most(q) + 1);
    return least_room > kList ? least_room : kList;
}
FR_INLINE ptrdiff_t groups_in_batch(const Word2Vec& q) {
    const ptrdiff_t targets = (q.output ? 1 + q.negative : 0) + (q.nodes ? q.deepest : 0);
    return kBatch * (targets / kGroup + 1) + 1;  // one more: g comes by two
}

FR_INLINE void draw_negatives(const Word2Vec& q, int32_t word, Draws& draws, List& list) {
    list.record[list.used++] = word;
    const ptrdiff_t number = list.used++;
    for (ptrdiff_t k = 0; k < q.negative; ++k) {
        const uint64_t r = draws.next();
        const uint32_t cell = uint32_t(((r >> 32) * uint64_t(q.V)) >> 32);
        const uint32_t own = 0u - uint32_t(uint32_t(r) < q.alias_share[cell]);  // a branch would be guessed wrong too often
        const int32_t other = int32_t((cell & own) | (uint32_t(q.alias[cell]) & ~own));
        list.record[list.used] = other;
        list.used += other != word;  // the word itself is no noise
    }
    list.record[number] = int32_t(list.used - number - 1);
}

FR_INLINE void list_word(const Word2Vec& q, const int32_t* words, ptrdiff_t n, ptrdiff_t i, Draws& draws, List& list) {
    const ptrdiff_t reach = q.shrink ? q.window - ptrdiff_t(draws.below(uint64_t(q.window))) : q.window;
    const ptrdiff_t first = i > reach ? i - reach : 0, end = n - i > reach ? i + reach + 1 : n;
    if (end - first < 2) return;
    if (!q.cbow) {
        for (ptrdiff_t j = first; j < end; ++j) {
            if (j == i) continue;
            list.start[list.count++] = int32_t(list.used);
            list.record[list.used++] = 1;
            list.record[list.used++] = words[i];
            draw_negatives(q, words[j], draws, list);
        }
        return;
    }
    list.start[list.count++] = int32_t(list.used);
    list.record[list.used++] = int32_t(end - first - 1);
    for (ptrdiff_t j = first; j < end; ++j)
        if (j != i) list.record[list.used++] = words[j];
    draw_negatives(q, words[i], draws, list);
}

FR_INLINE void fetch(const float* row, ptrdiff_t stride) {
    for (ptrdiff_t d = 0; d < stride; d += 16) __builtin_prefetch(row + d, 1);
}

FR_INLINE void fetch_rows(const Word2Vec& q, const int32_t* r) {
    for (int32_t k = 0; k < r[0]; ++k) fetch(q.vectors + r[1 + k] * q.stride, q.stride);
    r += 1 + r[0];
    if (q.output) {
        fetch(q.output + r[0] * q.stride, q.stride);
        for (int32_t k = 0; k < r[1]; ++k) fetch(q.output + r[2 + k] * q.stride, q.stride);
    }
    if (q.nodes)
        for (int64_t k = q.path[r[0]]; k < q.path[r[0] + 1]; ++k) fetch(q.nodes + (q.steps[k] >> 1) * q.stride, q.stride);
}

// ---- predictions

struct Member {  // of a batch: one prediction
    const int32_t* input;
    int32_t inputs;
    ptrdiff_t first, end;  // its groups
};

// h of a prediction: the row of its input itself, or the sum or mean in `room`
FR_INLINE float* hidden(const Word2Vec& q, const int32_t* input, int32_t inputs, float* room) {
    if (inputs == 1) return q.vectors + input[0] * q.stride;
    const VF factor = broadcast(q.cbow == 2 ? 1.0f / float(inputs) : 1.0f);
    for (ptrdiff_t d = 0; d < q.stride; d += VL<float>) {
        VF s = load(q.vectors + input[0] * q.stride + d);
        for (int32_t k = 1; k < inputs; ++k) s += load(q.vectors + input[k] * q.stride + d);
        store(room + d, s * factor);
    }
    return room;
}

// the targets of a record, in groups from `group` on; returns how many
FR_INLINE ptrdiff_t targets(const Word2Vec& q, const int32_t* target, float* h, Group* group) {
    ptrdiff_t count = 0;
    int n = kGroup;
    auto add = [&](float* u, uint32_t minus) {
        if (n == kGroup) {
            group[count++] = Group{{}, h, 0, 0};
            n = 0;
        }
        Group& last = group[count - 1];
        last.row[n] = u;
        last.minus |= minus << n;
        last.n = ++n;
    };
    if (q.output) {
        add(q.output + target[0] * q.stride, 0);
        for (int32_t k = 0; k < target[1]; ++k) add(q.output + target[2 + k] * q.stride, 1);
    }
    if (q.nodes)
        for (int64_t k = q.path[target[0]]; k < q.path[target[0] + 1]; ++k)
            add(q.nodes + (q.steps[k] >> 1) * q.stride, uint32_t(q.steps[k] & 1));
    return count;
}

FR_INLINE void learn(const Word2Vec& q, const Member& part, const Thread& own) {
    const ptrdiff_t stride = q.stride;
    const Group* groups = own.groups;
    if (part.inputs == 1 && part.end == part.first + 1)
        return update<kInPlace>(groups[part.first], own.g + part.first * kGroup, nullptr, stride);
    for (ptrdiff_t k = part.first; k < part.end; ++k) {
        if (k == part.first)
            update<kSet>(groups[k], own.g + k * kGroup, own.e, stride);
        else
            update<kAdd>(groups[k], own.g + k * kGroup, own.e, stride);
    }
    if (part.first == part.end) return;  // a tree of one word
    for (ptrdiff_t d = 0; d < stride; d += VL<float>) {
        const VF e = load(own.e + d);
        for (int32_t k = 0; k < part.inputs; ++k) {
            float* v = q.vectors + part.input[k] * stride + d;
            store(v, load(v) + e);
        }
    }
}

void predict_batch(const Word2Vec& q, ptrdiff_t first, int n, float lr, Thread& own) {
    const List& list = own.list;
    Member part[kBatch];
    ptrdiff_t groups = 0;
    for (int p = 0; p < n; ++p) {
        if (first + kBatch + p < list.count) fetch_rows(q, list.record + list.start[first + kBatch + p]);
        const int32_t* r = list.record + list.start[first + p];
        float* h = hidden(q, r + 1, r[0], own.h + p * q.stride);
        const ptrdiff_t end = groups + targets(q, r + 1 + r[0], h, own.groups + groups);
        part[p] = Member{r + 1, r[0], groups, end};
        groups = end;
    }
    gradients_of(own.groups, groups, own.g, q.stride, lr, own.product);
    for (int p = 0; p < n; ++p) learn(q, part[p], own);
}

// works through whole batches, or all; keeps the rest
void work_off(const Word2Vec& q, Thread& own, float lr, bool all) {
    List& list = own.list;
    ptrdiff_t k = 0;
    for (ptrdiff_t p = 0; p < least(ptrdiff_t(kBatch), list.count); ++p) fetch_rows(q, list.record + list.start[p]);
    for (; k + kBatch <= list.count || (all && k < list.count); k += kBatch)
        predict_batch(q, k, int(least(ptrdiff_t(kBatch), list.count - k)), lr, own);
    k = least(k, list.count);
    own.pairs += k;
    const ptrdiff_t from = k < list.count ? list.start[k] : list.used;
    std::memmove(list.record, list.record + from, size_t(list.used - from) * sizeof(int32_t));
    for (ptrdiff_t p = k; p < list.count; ++p) list.start[p - k] = int32_t(list.start[p] - from);
    list.used -= from;
    list.count -= k;
}

// ---- blocks and threads

// the first sentence that begins at `token` or later
FR_INLINE ptrdiff_t sentence_from(const Word2Vec& q, int64_t token) {
    ptrdiff_t low = 0, high = q.S;
    while (low < high) {
        const ptrdiff_t middle = (low + high) / 2;
        q.begin[middle] < token ? low = middle + 1 : high = middle;
    }
    return low;
}

void train_block(const Word2Vec& q, ptrdiff_t block, Thread& own) {
    Draws draws{mix64(mix64(q.seed) + q.first_block + uint64_t(block))};
    const double done = double(block * kWord2VecBlock) / double(q.N);
    const float lr = float(q.lr_first + (q.lr_last - q.lr_first) * done);
    own.product = LogProduct();
    ptrdiff_t s = sentence_from(q, block * kWord2VecBlock);
    for (; s < q.S && q.begin[s] < (block + 1) * kWord2VecBlock; ++s) {
        ptrdiff_t n = 0;
        for (int64_t i = q.begin[s]; i < q.begin[s + 1]; ++i) {
            own.words[n] = q.tokens[i];
            n += q.keep ? uint32_t(draws.next() >> 32) <= q.keep[q.tokens[i]] : 1;
        }
        own.kept += n;
        for (ptrdiff_t i = 0; i < n; ++i) {
            if (own.list.used + most(q) > room(q)) work_off(q, own, lr, false);
            list_word(q, own.words, n, i, draws, own.list);
        }
    }
    work_off(q, own, lr, true);
    own.loss += own.product.log();  // a block's sums stay in the range of the exponents
}

FR_INLINE size_t lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

// gives each array of a thread its place from `at` on; returns the bytes that all take
size_t lay_out(const Word2Vec& q, char* at) {
    Thread* own = reinterpret_cast<Thread*>(at);
    size_t used = lines(sizeof(Thread));
    auto take = [&](auto*& array, ptrdiff_t n) {
        if (at) {
            void* place = at + used;
            std::memcpy(&array, &place, sizeof array);
        }
        used += lines(size_t(n) * sizeof(*array));
    };
    Thread none{};
    Thread& t = at ? (*own = none, *own) : none;
    take(t.list.record, room(q));
    take(t.list.start, room(q));
    take(t.words, q.longest);
    take(t.groups, groups_in_batch(q));
    take(t.g, groups_in_batch(q) * kGroup);
    take(t.h, kBatch * q.stride);
    take(t.e, q.stride);
    return used;
}
FR_INLINE Thread* thread_of(const Word2Vec& q, int id) {
    return reinterpret_cast<Thread*>(static_cast<char*>(q.workspace) + size_t(id) * lay_out(q, nullptr));
}

struct Job {
    Word2Vec& q;
    ptrdiff_t next;  // the block that nobody has taken yet
};

void train_blocks(void* ctx, int id, int) noexcept {
    Job& job = *static_cast<Job*>(ctx);
    const ptrdiff_t blocks = (job.q.N + kWord2VecBlock - 1) / kWord2VecBlock;
    Thread* own = thread_of(job.q, id);
    for (;;) {
        const ptrdiff_t block = __atomic_fetch_add(&job.next, 1, __ATOMIC_RELAXED);
        if (block >= blocks) return;
        train_block(job.q, block, *own);
    }
}

size_t workspace(const Word2Vec* q) { return size_t(q->threads) * lay_out(*q, nullptr); }

void train(Word2Vec* q) {
    for (int id = 0; id < q->threads; ++id) lay_out(*q, reinterpret_cast<char*>(thread_of(*q, id)));
    Job job{*q, 0};
    pool_run(q->threads, train_blocks, &job);
    q->loss = 0;
    q->pairs = q->kept = 0;
    for (int id = 0; id < q->threads; ++id) {
        const Thread& own = *thread_of(*q, id);
        q->loss += own.loss;
        q->pairs += own.pairs;
        q->kept += own.kept;
    }
}

}  // namespace

extern const Word2VecKernels word2vec_table;
const Word2VecKernels word2vec_table = {workspace, train};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
