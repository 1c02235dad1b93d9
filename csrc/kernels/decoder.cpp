// decoder.cpp: the table of decoder.h.
#include "decoder_backward.h"
#include "entry.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

template <class T>
void sizes_t(const Decoder& d, DecoderSizes& out) {
    DecoderPlan<T> p;
    out.forward = lay_out_decoder(p, d, false, nullptr, &out);
    out.backward = d.save ? lay_out_decoder(p, d, true, nullptr, &out) : 0;
}
template <class T>
void forward_t(const Decoder& d) {
    DecoderPlan<T> p;
    if (prepare_decoder(p, d, false)) pool_run(p.most_threads, decoder_forward_job<T>, &p);
}
template <class T>
void backward_t(const Decoder& d) {
    DecoderPlan<T> p;
    if (prepare_decoder(p, d, true)) pool_run(p.most_threads, decoder_backward_job<T>, &p);
}

}  // namespace

void decoder_sizes(const Decoder* d, DecoderSizes* out) {
    d->dtype == kFloat32 ? sizes_t<float>(*d, *out) : sizes_t<double>(*d, *out);
}
void decoder_forward(const Decoder* d) { d->dtype == kFloat32 ? forward_t<float>(*d) : forward_t<double>(*d); }
void decoder_backward(const Decoder* d) { d->dtype == kFloat32 ? backward_t<float>(*d) : backward_t<double>(*d); }

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
