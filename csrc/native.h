// native.h: streams and layers for code that is compiled elsewhere and runs without the interpreter, such as users' functions
// under Numba (src/fastrnn/jit).
//
// Such code may be kept on disk and run by another process, so it knows no address of ours: an object is one pointer to a
// struct that begins with its functions. These check their arguments, for nobody has done it before, and return a NativeError;
// when it isn't kNativeOk, nothing has changed. They take no lock, and only `forward` allocates and may wake threads.
//
// Compiled code relies on the order of the fields, on NativeArray and on the numbers of NativeError: a change of these needs
// another kNativeLayout.
#pragma once
#include <cstddef>
#include <cstdint>

#include "fastrnn.h"
#include "stream.h"

namespace fastrnn {

constexpr int kNativeLayout = 1;

enum NativeError : int64_t {
    kNativeOk = 0,
    kNativeX = 1,         // x: shape
    kNativeStrides = 2,   // x, y: unaligned, or the last axis isn't contiguous
    kNativeOut = 3,       // out: shape
    kNativeRows = 4,      // rows of out overlap each other
    kNativeOverlap = 5,   // x and out overlap
    kNativeInteger = 6,   // x: an integer outside the embedding
    kNativeState = 7,     // state: shape
    kNativeIndex = 8,     // rows: out of range
    kNativeTwice = 9,     // rows: one of them twice
    kNativeLengths = 10,  // lengths: shape, or out of range
    kNativeSteps = 11,    // too many steps in one call
    kNativeMemory = 12,   // none left
    kNativeBusy = 13,     // another thread is inside
};

struct NativeArray {
    char* data;
    int64_t ndim;
    int64_t shape[3], stride[3];  // strides in bytes
};

struct NativeStream {
    // x: [B, I] or, with one row, [I]; an embedding's is integers [B] or one integer. y: [B, P] or [P] alike; it may be x
    int64_t (*step)(NativeStream*, const NativeArray* x, const NativeArray* y);
    // x: [T, B, I] ([B, T, I]) or [T, I], y alike; it may be x, but otherwise overlaps nothing
    int64_t (*run)(NativeStream*, const NativeArray* x, const NativeArray* y);
    // state: h and c of each of `members`, [its layers, N, ·], null: zeros (c also where there is none); rows: integers [N], or
    // null for all B; inwards: 0 reads, 1 writes
    int64_t (*states)(NativeStream*, const NativeArray* const* state, const NativeArray* rows, int64_t inwards);
    int64_t (*pack)(NativeStream*);
    int64_t batch_size, input_size, output_size;
    int64_t members;       // recurrent layers as users see them
    const int64_t* sizes;  // [members, 3]: layers, P, H of each

    // ---- not for compiled code
    int64_t batch_first, integers, item;
    StreamLayer* layers;
    int64_t n;
    const Streams* table;
    int64_t busy;  // a call is inside; see native_enter
};

struct NativeLayer {
    // x: [T, B, I] ([B, T, I]) or [T, I]; y alike, C-contiguous; h_0, c_0, h_n, c_n: [L·D, B, ·], C-contiguous, or without B;
    // h_0, c_0 null for zeros, c_n null without one; lengths: integers [B] or null
    int64_t (*forward)(const NativeLayer*, const NativeArray* x, const NativeArray* h_0, const NativeArray* c_0,
                       const NativeArray* lengths, const NativeArray* y, const NativeArray* h_n, const NativeArray* c_n);
    int64_t batch_first, input_size, output_size;
    int64_t states, h_size, c_size;  // L·D, P, H

    // ---- not for compiled code
    int64_t layers;
    const Sequence* layer;  // [layers] weights and options: the rest is of the call
};

void native_stream(NativeStream*) noexcept;  // sets the functions
void native_layer(NativeLayer*) noexcept;

// Whether nobody was inside. The GIL doesn't tell, for compiled code may have let go of it.
inline bool native_enter(NativeStream* s) noexcept { return !__atomic_exchange_n(&s->busy, 1, __ATOMIC_ACQUIRE); }
inline void native_leave(NativeStream* s) noexcept { __atomic_store_n(&s->busy, 0, __ATOMIC_RELEASE); }

// Whether two of T·B rows of n elements have one in common; the steps are elements between rows.
bool rows_overlap(ptrdiff_t T, ptrdiff_t t_step, ptrdiff_t B, ptrdiff_t b_step, ptrdiff_t n) noexcept;

}  // namespace fastrnn
