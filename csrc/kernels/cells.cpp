// cells.cpp: the built-in cells as the schedule sees them.
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
        default:
            return shape<T, Rnn>();
    }
}
template CellShape<float> shape_of<float>(const Sequence&);
template CellShape<double> shape_of<double>(const Sequence&);

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
