// cells.cpp: the built-in cells as the schedule sees them.
#include "cell_given.h"
#include "cell_gru.h"
#include "cell_lstm.h"
#include "cell_rnn.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

template <class T, class Cell>
CellShape<T> shape() {
    CellShape<T> s{};
    s.G = Cell::G;
    s.first = Cell::kFirst;
    for (int g = 0; g < Cell::G; ++g) {
        s.section_x[g] = Cell::kSectionX[g];
        s.section_r[g] = Cell::kSectionR[g];
        if (s.section_x[g] != s.section_r[g]) s.apart |= 1u << g;
    }
    s.S = Cell::kSections;
    s.plain = Cell::G == 1;
    s.fusable = Cell::kSections == Cell::G;
    s.second = Cell::kSecond;
    s.candidate = Cell::kSecond && Cell::kCarries;
    s.product = 2;
    s.carries = Cell::kCarries;
    s.kept = Cell::kHasC;
    s.first_kept = 1;
    s.forward = Cell::template forward<T>;
    s.backward = Cell::template backward<T>;
    s.state_gradient = Cell::template state_gradient<T>;
    return s;
}

template <class T>
CellShape<T> shape_given(const Sequence& q) {
    const CellSpec& spec = *q.spec;
    CellShape<T> s{};
    s.spec = &spec;
    s.G = int(spec.gates);
    s.S = int(spec.sections);
    bool in_order = true;
    for (int g = 0; g < s.G; ++g) {
        s.section_x[g] = int(spec.section_x[g]);
        s.section_r[g] = int(spec.section_r[g]);
        if (q.norm) s.section_x[g] = s.S + g, s.section_r[g] = s.S + s.G + g;  // norm.h
        if (s.section_x[g] != s.section_r[g]) s.apart |= 1u << g;
        in_order = in_order && s.section_x[g] == g;
    }
    if (q.norm) s.S += 2 * s.G;
    s.candidate = spec.forward2;
    s.product = int(spec.section_product);
    s.second = s.candidate || q.dir[0].M;
    s.first = s.candidate ? s.G - 1 : s.G;
    s.plain = s.G == 1 && !s.apart && in_order;
    s.fusable = !s.apart && !s.candidate && s.G <= kMaxNV && in_order;
    s.carries = true;
    s.operand = q.recurrent_dropout > 0 ? int(spec.states) : 0;
    s.kept = int(spec.states) + (q.recurrent_dropout > 0);
    s.first_kept = 0;
    s.forward = Given::forward<T>;
    s.backward = Given::backward<T>;
    s.state_gradient = Given::state_gradient<T>;
    return s;
}

}  // namespace

template <class T>
CellShape<T> shape_of(const Sequence& q) {
    switch (q.cell) {
        case kLstm:
            return q.dir[0].M ? shape<T, Lstm<true>>() : shape<T, Lstm<false>>();
        case kGruAfter:
            return shape<T, GruAfter>();
        case kGruBefore:
            return shape<T, GruBefore>();
        case kGiven:
            return shape_given<T>(q);
        default:
            return shape<T, Rnn>();
    }
}
template void initial_given<float>(Step<float>&);
template void initial_given<double>(Step<double>&);
template CellShape<float> shape_of<float>(const Sequence&);
template CellShape<double> shape_of<double>(const Sequence&);

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
