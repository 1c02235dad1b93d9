// native.cpp: arguments of compiled code checked, and handed to the kernels (native.h).
#include "native.h"

#include <cstring>
#include <initializer_list>

#include "pool.h"

namespace fastrnn {
namespace {

// ---- arrays

bool whole_elements(const NativeArray& a, int64_t item) {
    int64_t bits = int64_t(reinterpret_cast<intptr_t>(a.data));
    for (int64_t i = 0; i < a.ndim; ++i) bits |= a.stride[i];
    return (bits & (item - 1)) == 0;
}

bool contiguous_last(const NativeArray& a, int64_t item) { return a.shape[a.ndim - 1] == 1 || a.stride[a.ndim - 1] == item; }

bool c_contiguous(const NativeArray& a, int64_t item) {
    for (int64_t i = a.ndim - 1; i >= 0; --i) {
        if (a.shape[i] == 0) return true;
        if (a.shape[i] > 1 && a.stride[i] != item) return false;
        item *= a.shape[i];
    }
    return true;
}

// Whether the addresses between first and last byte have some in common.
bool may_overlap(const NativeArray& a, int64_t a_item, const NativeArray& b, int64_t b_item) {
    const NativeArray* both[2] = {&a, &b};
    const char *low[2], *high[2];
    for (int k = 0; k < 2; ++k) {
        low[k] = high[k] = both[k]->data;
        for (int64_t i = 0; i < both[k]->ndim; ++i) {
            const int64_t reach = (both[k]->shape[i] - 1) * both[k]->stride[i];
            (reach < 0 ? low : high)[k] += reach;
        }
        high[k] += k ? b_item : a_item;
    }
    return low[0] < high[1] && low[1] < high[0];
}

// Whether a row of x and one of y have an element in common, rows of I and of P elements which lie t and b elements apart in
// both, as when they are columns of one array; `from`: elements from x's first row to y's.
bool rows_meet(int64_t from, int64_t T, int64_t t, int64_t B, int64_t b, int64_t I, int64_t P) {
    const int64_t step = b < 0 ? -b : b;
    for (int64_t dt = 1 - T; dt < T; ++dt) {
        const int64_t low = -P - from - dt * t, high = I - from - dt * t;  // a multiple of b between them?
        int64_t db = 0;
        if (B > 1 && step) {
            db = low / step + (low % step >= 0);  // the first above
            if (db < 1 - B) db = 1 - B;
        }
        if (db < B && low < db * step && db * step < high) return true;
    }
    return false;
}

// ---- streams

int64_t stream_step(NativeStream* s, const NativeArray* x, const NativeArray* y) {
    const int64_t item = s->item, x_item = s->integers ? 8 : item, ndim = x->ndim + s->integers;
    if (!(ndim == 2 ? x->shape[0] == s->batch_size : ndim == 1 && s->batch_size == 1)) return kNativeX;
    if (!s->integers && x->shape[ndim - 1] != s->input_size) return kNativeX;
    if (y->ndim != ndim || y->shape[ndim - 1] != s->output_size || (ndim == 2 && y->shape[0] != s->batch_size))
        return kNativeOut;
    if (!whole_elements(*x, x_item) || !whole_elements(*y, item) || (!s->integers && !contiguous_last(*x, item)) ||
        !contiguous_last(*y, item))
        return kNativeStrides;
    const int64_t x_b = ndim == 2 ? x->stride[0] / x_item : 0, y_b = ndim == 2 ? y->stride[0] / item : 0;
    if (s->batch_size > 1 && -s->output_size < y_b && y_b < s->output_size) return kNativeRows;
    if (!native_enter(s)) return kNativeBusy;
    const ptrdiff_t bad = s->table->step(s->layers, int(s->n), x->data, x_b, y->data, y_b);
    native_leave(s);
    return bad < 0 ? kNativeOk : kNativeInteger;
}

int64_t stream_run(NativeStream* s, const NativeArray* x, const NativeArray* y) {
    const int64_t item = s->item, x_item = s->integers ? 8 : item, ndim = x->ndim + s->integers;
    if (ndim != 3 && !(ndim == 2 && s->batch_size == 1)) return kNativeX;
    const int time = ndim == 3 && s->batch_first ? 1 : 0;
    const int64_t T = x->shape[time], B = s->batch_size, I = s->integers ? 1 : s->input_size, P = s->output_size;
    if (T < 1 || (ndim == 3 && x->shape[1 - time] != B) || (!s->integers && x->shape[ndim - 1] != I)) return kNativeX;
    if (y->ndim != ndim || y->shape[time] != T || (ndim == 3 && y->shape[1 - time] != B) || y->shape[ndim - 1] != P)
        return kNativeOut;
    if (!whole_elements(*x, x_item) || !whole_elements(*y, item) || (!s->integers && !contiguous_last(*x, item)) ||
        !contiguous_last(*y, item))
        return kNativeStrides;
    const int64_t x_t = x->stride[time] / x_item, x_b = ndim == 3 ? x->stride[1 - time] / x_item : 0;
    const int64_t y_t = y->stride[time] / item, y_b = ndim == 3 ? y->stride[1 - time] / item : 0;
    if (rows_overlap(T, y_t, B, y_b, P)) return kNativeRows;
    const bool in_place = !s->integers && x->data == y->data && x_t == y_t && (x_b == y_b || B == 1);
    if (in_place && rows_overlap(T, x_t, B, x_b, I)) return kNativeOverlap;
    if (!in_place && may_overlap(*x, x_item, *y, item)) {
        const bool alike = !s->integers && (x_t == y_t || T == 1) && (x_b == y_b || B == 1);
        if (!alike || rows_meet((y->data - x->data) / item, T, x_t, B, x_b, I, P)) return kNativeOverlap;
    }
    if (!native_enter(s)) return kNativeBusy;
    const ptrdiff_t bad = s->table->run(s->layers, int(s->n), T, x->data, x_t, x_b, y->data, y_t, y_b);
    native_leave(s);
    return bad < 0 ? kNativeOk : kNativeInteger;
}

int64_t row_of(const NativeArray& rows, int64_t k) {
    int64_t row;
    std::memcpy(&row, rows.data + k * rows.stride[0], sizeof row);
    return row;
}

int64_t check_rows(const NativeStream* s, const NativeArray& rows) {
    if (rows.ndim != 1) return kNativeIndex;
    bool ascending = true;
    for (int64_t k = 0; k < rows.shape[0]; ++k) {
        if (uint64_t(row_of(rows, k)) >= uint64_t(s->batch_size)) return kNativeIndex;
        ascending = ascending && (k == 0 || row_of(rows, k - 1) < row_of(rows, k));
    }
    for (int64_t k = 1; !ascending && k < rows.shape[0]; ++k)
        for (int64_t j = 0; j < k; ++j)
            if (row_of(rows, j) == row_of(rows, k)) return kNativeTwice;
    return kNativeOk;
}

// h or c of one layer, rows `step` elements apart, from or to part `k` of an array [layers, N, size]
void exchange(const NativeStream* s, void* mine, int64_t step, int64_t size, const NativeArray* a, int64_t k,
              const NativeArray* rows, bool inwards) {
    const int64_t count = rows ? rows->shape[0] : s->batch_size, item = s->item;
    for (int64_t b = 0; b < count; ++b) {
        char* row = static_cast<char*>(mine) + (rows ? row_of(*rows, b) : b) * step * item;
        if (!a) {
            if (inwards) std::memset(row, 0, size_t(size * item));
            continue;
        }
        char* other = a->data + k * a->stride[0] + (a->ndim == 3 ? b * a->stride[1] : 0);
        const int64_t apart = a->stride[a->ndim - 1];
        if (apart == item) {
            std::memcpy(inwards ? row : other, inwards ? other : row, size_t(size * item));
            continue;
        }
        for (int64_t u = 0; u < size; ++u)
            std::memcpy(inwards ? row + u * item : other + u * apart, inwards ? other + u * apart : row + u * item,
                        size_t(item));
    }
}

bool is_state(const NativeStream* s, const NativeArray* a, int64_t layers, int64_t count, int64_t size) {
    if (!a) return true;
    const bool batch = a->ndim == 3 ? a->shape[1] == count : a->ndim == 2 && s->batch_size == 1 && count == 1;
    return batch && a->shape[0] == layers && a->shape[a->ndim - 1] == size;
}

int64_t stream_states(NativeStream* s, const NativeArray* const* state, const NativeArray* rows, int64_t inwards) {
    if (rows)
        if (const int64_t error = check_rows(s, *rows)) return error;
    const int64_t count = rows ? rows->shape[0] : s->batch_size;
    for (int64_t m = 0; m < s->members; ++m) {
        const int64_t* size = s->sizes + 3 * m;
        if (!is_state(s, state[2 * m], size[0], count, size[1]) || !is_state(s, state[2 * m + 1], size[0], count, size[2]))
            return kNativeState;
    }
    if (!native_enter(s)) return kNativeBusy;
    int64_t m = 0, k = 0;  // the member that the next cell belongs to, and its layer there
    for (int64_t i = 0; i < s->n; ++i) {
        const StreamLayer& l = s->layers[i];
        if (l.kind != kStreamCell) continue;
        exchange(s, l.h, l.y_b, l.P, state[2 * m], k, rows, inwards);
        if (l.c) exchange(s, l.c, l.c_b, l.H, state[2 * m + 1], k, rows, inwards);
        if (++k == s->sizes[3 * m]) ++m, k = 0;
    }
    native_leave(s);
    return kNativeOk;
}

int64_t stream_pack(NativeStream* s) {
    if (!native_enter(s)) return kNativeBusy;
    for (int64_t i = 0; i < s->n; ++i) s->table->pack(s->layers + i);
    native_leave(s);
    return kNativeOk;
}

// ---- layers

// A state [L·D, B, size], or [L·D, size] for one sequence; B·size fit: they are those of an array that is there.
bool fits(const NativeArray* a, int64_t ndim, int64_t states, int64_t B, int64_t size, int64_t item) {
    if (!a) return true;
    return a->ndim == ndim && a->shape[0] == states && (ndim == 2 || a->shape[1] == B) && a->shape[ndim - 1] == size &&
           c_contiguous(*a, item) && whole_elements(*a, item);
}

char* part(const NativeArray* a, int64_t offset) { return a ? a->data + offset : nullptr; }

struct Run {  // a call of a layer: what its Sequences have in common, and the outputs between them
    const NativeLayer* l;
    Sequence first;
    const NativeArray *h_0, *c_0, *y, *h_n, *c_n;
    int64_t y_t, y_b;  // of y
    int64_t item;

    int64_t between() const { return first.T * first.B * l->output_size * item; }  // bytes

    // layer k, reading and writing between the layers at `below` and `above`
    void describe(Sequence* q, int64_t k, char* below, char* above) const {
        *q = l->layer[k];
        q->T = first.T, q->B = first.B, q->lengths = first.lengths, q->steps = first.steps, q->threads = first.threads;
        const ptrdiff_t row = l->output_size;
        q->x = k ? below : first.x;
        q->x_t = k ? q->B * row : first.x_t;
        q->x_b = k ? row : first.x_b;
        const bool last = k + 1 == l->layers;
        for (int d = 0; d < q->D; ++d) {
            Direction& p = q->dir[d];
            const int64_t h = (k * q->D + d) * q->B * q->P * item, c = (k * q->D + d) * q->B * q->H * item;
            p.h_0 = part(h_0, h), p.c_0 = part(c_0, c), p.h_n = part(h_n, h), p.c_n = part(c_n, c);
            p.y = (last ? y->data : above) + d * q->P * item;
            p.y_t = last ? y_t : q->B * row;
            p.y_b = last ? y_b : row;
        }
    }
};

// One layer after the other: two places for what is between them, which take turns.
int64_t run_in_turn(const Run& r) {
    const size_t between = r.l->layers > 1 ? size_t(r.between() + 63) / 64 * 64 : 0;
    char* places = nullptr;
    if (between && !(places = static_cast<char*>(workspace_acquire(2 * between)))) return kNativeMemory;
    int64_t error = kNativeOk;
    for (int64_t k = 0; k < r.l->layers && !error; ++k) {
        Sequence q;
        Sizes sizes;
        r.describe(&q, k, places + (k + 1) % 2 * between, places + k % 2 * between);
        kernels()->sizes(&q, &sizes);
        q.workspace = workspace_acquire(sizes.forward);
        if (q.workspace)
            kernels()->forward(&q);
        else
            error = kNativeMemory;
        workspace_release(q.workspace);
    }
    workspace_release(places);
    return error;
}

int64_t run_at_once(const Run& r) {
    Sequence q[kMostLayers];
    const Sequence* stack[kMostLayers];
    size_t at[kMostLayers], total = 0;
    const size_t between = size_t(r.between() + 63) / 64 * 64;
    for (int64_t k = 0; k < r.l->layers; ++k) {
        Sizes sizes;
        r.describe(q + k, k, r.y->data, r.y->data);  // any places, for the sizes
        kernels()->sizes(q + k, &sizes);
        at[k] = total;
        total += (sizes.forward + 63) / 64 * 64 + between;
        stack[k] = q + k;
    }
    char* memory = static_cast<char*>(workspace_acquire(total));
    if (!memory) return kNativeMemory;
    for (int64_t k = 0; k < r.l->layers; ++k) {  // what is above a layer, then its workspace
        r.describe(q + k, k, memory + (k ? at[k - 1] : 0), memory + at[k]);
        q[k].workspace = memory + at[k] + between;
    }
    kernels()->forward_stack(stack, int(r.l->layers));
    workspace_release(memory);
    return kNativeOk;
}

int64_t read_lengths(Sequence* q, const NativeArray* lengths) {
    q->steps = q->T * q->B;
    if (!lengths) return kNativeOk;
    if (lengths->ndim != 1 || lengths->shape[0] != q->B || !c_contiguous(*lengths, 8) || !whole_elements(*lengths, 8))
        return kNativeLengths;
    q->lengths = reinterpret_cast<const int64_t*>(lengths->data);
    q->steps = 0;
    for (ptrdiff_t b = 0; b < q->B; ++b) {
        if (q->lengths[b] < 0 || q->lengths[b] > q->T) return kNativeLengths;
        q->steps += q->lengths[b];
    }
    return kNativeOk;
}

int64_t layer_forward(const NativeLayer* l, const NativeArray* x, const NativeArray* h_0, const NativeArray* c_0,
                      const NativeArray* lengths, const NativeArray* y, const NativeArray* h_n, const NativeArray* c_n) {
    const int64_t item = l->layer[0].dtype == kFloat32 ? 4 : 8, ndim = x->ndim;
    if (ndim != 3 && ndim != 2) return kNativeX;
    const int time = ndim == 3 && l->batch_first ? 1 : 0;
    Run r{l, l->layer[0], h_0, c_0, y, h_n, c_n, 0, 0, item};
    Sequence& q = r.first;
    q.T = x->shape[time];
    q.B = ndim == 3 ? x->shape[1 - time] : 1;
    if (q.T < 1 || x->shape[ndim - 1] != l->input_size) return kNativeX;
    if (q.B == 0) return kNativeOk;
    if (!whole_elements(*x, item) || !contiguous_last(*x, item)) return kNativeStrides;
    if (q.T > ((int64_t(1) << 31) - 1) / q.B) return kNativeSteps;
    for (const NativeArray* h : {h_0, h_n})
        if (!fits(h, ndim, l->states, q.B, l->h_size, item)) return kNativeState;
    for (const NativeArray* c : {c_0, c_n})
        if (!fits(c, ndim, l->states, q.B, l->c_size, item)) return kNativeState;
    if (y->ndim != ndim || y->shape[time] != q.T || (ndim == 3 && y->shape[1 - time] != q.B) ||
        y->shape[ndim - 1] != l->output_size || !c_contiguous(*y, item) || !whole_elements(*y, item))
        return kNativeOut;
    q.x = x->data;
    q.x_t = x->stride[time] / item;
    q.x_b = ndim == 3 ? x->stride[1 - time] / item : 0;
    r.y_t = time ? l->output_size : q.B * l->output_size;
    r.y_b = time ? q.T * l->output_size : l->output_size;
    q.threads = pool_threads();
    if (const int64_t error = read_lengths(&q, lengths)) return error;
    const bool stack = l->layers > 1 && l->layers <= kMostLayers && kernels()->stack_teams(&q, int(l->layers), 0) > 0;
    return stack ? run_at_once(r) : run_in_turn(r);
}

}  // namespace

void native_stream(NativeStream* s) noexcept {
    s->step = stream_step;
    s->run = stream_run;
    s->states = stream_states;
    s->pack = stream_pack;
}

void native_layer(NativeLayer* l) noexcept { l->forward = layer_forward; }

bool rows_overlap(ptrdiff_t T, ptrdiff_t t_step, ptrdiff_t B, ptrdiff_t b_step, ptrdiff_t n) noexcept {
    const ptrdiff_t t_abs = t_step < 0 ? -t_step : t_step, b_abs = b_step < 0 ? -b_step : b_step;
    if (B == 1 || T == 1) return (T > 1 && t_abs < n) || (B > 1 && b_abs < n);
    if ((b_abs >= n && t_abs >= (B - 1) * b_abs + n) || (t_abs >= n && b_abs >= (T - 1) * t_abs + n)) return false;
    if (b_abs < n) return true;
    for (ptrdiff_t t = 1; t < T; ++t) {  // the rows b at which t steps are nearly undone
        const ptrdiff_t near = -t * t_step / b_step;
        for (ptrdiff_t b = near - 1; b <= near + 1; ++b) {
            const ptrdiff_t far = b * b_step + t * t_step;
            if (-B < b && b < B && -n < far && far < n) return true;
        }
    }
    return false;
}

}  // namespace fastrnn
