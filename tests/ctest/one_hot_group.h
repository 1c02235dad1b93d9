// one_hot_group.h: one-hot input by its codes gives the bits of the dense array.
#pragma once
#include <algorithm>

#include "recurrent.h"

// with many rows for the number of classes, and with few
inline std::vector<Problem> one_hot_problems() {
    struct Size {
        ptrdiff_t T, B, I, H;
        const char* lengths;
        int D;
    };
    const Size sizes[] = {{7, 5, 6, 17, "ragged", 2}, {3, 2, 40, 33, "ragged", 1}, {1, 1, 1, 1, "full", 1},
                          {9, 4, 33, 16, "full", 2},  {2, 1, 70, 50, "full", 2},   {40, 33, 20, 40, "ragged", 1}};
    std::vector<Problem> all;
    uint64_t seed = 500;
    for (int cell = fastrnn::kRnnTanh; cell <= fastrnn::kGruBefore; ++cell)
        for (const Size& s : sizes) {
            Options o;
            o.layout = int(++seed % 4);
            o.dx = false;
            const Shape q{cell, s.T, s.B, s.I, s.H, s.H, s.D, lengths_of(s.lengths, s.T, s.B, seed)};
            Problem p = make_problem(q, o, seed);
            for (auto x = p.in.x.begin(); x != p.in.x.end(); x += s.I) {
                const auto one = std::max_element(x, x + s.I);
                std::fill(x, x + s.I, 0.0);
                *one = 1;
            }
            all.push_back(p);
        }
    return all;
}

inline void check_codes(const Problem& p, const std::string& what) {
    Problem codes = p;
    codes.o.codes = true;
    auto same = [&](const char* name, const auto& a, const auto& b, bool) { expect_same(a, b, what + " " + name); };
    const Results<float> dense = run<float>(p, 1, true);
    for (int n : {1, 2, 3, 8})
        for (ptrdiff_t checkpoint : {0, 1, 3}) each_array(run<float>(codes, n, true, checkpoint), dense, same);
    expect_same(run<float>(codes, 3, false).y, dense.y, what + " inference y");
    each_array(run<double>(codes, 1, true), run<double>(p, 1, true), same);
}
