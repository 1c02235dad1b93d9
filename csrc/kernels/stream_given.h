// stream_given.h: cells given by functions (cell.h) in a stream: the schedule's own step, on memory that stays.
//
// A stream's step is the step of a layer (CellShape::forward) in a team of one thread, so that zoneout, layer norm, a
// projection and cells in two stages are written once, and the bits are the layer's. A row of the state is that of Plan's
// `cell`: every state, h first, each padded to whole vectors; two such arrays take turns.
#pragma once
#include "../stream.h"
#include "simd.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// as Streams::prepare and ::pack; step and run are set, too
size_t prepare_given(StreamLayer*, void* memory);
void pack_given(StreamLayer*);

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
