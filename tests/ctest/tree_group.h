// tree_group.h: the kernels of tree.h in exact buffers, against the equations of tree.cpp as plain loops and their derivatives.
#pragma once
#include <numeric>

#include "decoder_naive.h"
#include "tree.h"

// A batch of trees by levels: every inner node has a child on the level below, the others from anywhere lower.
struct Forest {
    std::vector<int64_t> level, first, child;
    ptrdiff_t nodes() const { return level.back(); }
    ptrdiff_t leaves() const { return level.size() > 1 ? level[1] : 0; }
};

// slots: of every inner node; 0 for any number. holes: some slots are empty
inline Forest grow(ptrdiff_t leaves, int levels, int slots, bool holes, uint64_t seed) {
    Random random{seed};
    Forest f;
    f.level = {0, leaves}, f.first = {0};
    std::vector<int64_t> lower, fresh(size_t(leaves), 0);  // nodes without a parent: below the last level, and on it
    std::iota(fresh.begin(), fresh.end(), 0);
    auto take = [&](std::vector<int64_t>& from) {
        const size_t i = size_t(random.below(int(from.size())));
        const int64_t node = from[i];
        from.erase(from.begin() + ptrdiff_t(i));
        return node;
    };
    for (int l = 1; l < levels; ++l) {
        std::vector<int64_t> made;
        ptrdiff_t roots = 1 + random.below(3);  // that stay so
        while (ptrdiff_t(fresh.size()) > (l == 1 ? roots : 0)) {
            const size_t count = slots ? size_t(slots) : size_t(1 + random.below(5));
            std::vector<int64_t> children{take(fresh)};
            while (children.size() < count) {
                std::vector<int64_t>& from = random.below(2) && !lower.empty() ? lower : fresh;
                if (!from.empty() && !(holes && random.below(3) == 0))
                    children.push_back(take(from));
                else if (holes || !slots)
                    children.push_back(-1);
                else
                    break;
            }
            if (slots && children.size() < count) {  // too few are left
                lower.insert(lower.end(), children.begin(), children.end());
                break;
            }
            if (slots) std::swap(children[0], children[size_t(random.below(slots))]);
            for (int64_t node : children)
                if (slots || node >= 0) f.child.push_back(node);
            f.first.push_back(int64_t(f.child.size()));
            made.push_back(f.nodes() + int64_t(made.size()));
        }
        if (made.empty()) break;
        lower.insert(lower.end(), fresh.begin(), fresh.end());
        f.level.push_back(f.nodes() + int64_t(made.size()));
        fresh = made;
    }
    return f;
}

struct TreeProblem {
    int cell, slots;
    ptrdiff_t H;
    Forest f;
    Named<double> in{};  // z [N, 4H] of gated cells; h [L, H] and bias [H] of the others; U
    std::vector<double> dh{};
    bool gated() const { return cell >= fastrnn::kTreeChildSum; }
    bool sum() const { return cell == fastrnn::kTreeChildSum; }
    ptrdiff_t A() const { return sum() ? 1 : slots; }
    ptrdiff_t rows() const { return !gated() ? H : sum() ? 4 * H : (3 + A()) * H; }
    std::string name() const {
        return "tree cell=" + std::to_string(cell) + " slots=" + std::to_string(slots) + " H=" + std::to_string(H) +
               " nodes=" + std::to_string(f.nodes()) + " levels=" + std::to_string(f.level.size() - 1);
    }
};

inline TreeProblem make_trees(int cell, int slots, ptrdiff_t H, ptrdiff_t leaves, int levels, uint64_t seed) {
    TreeProblem p{cell, slots, H, grow(leaves, levels, slots, cell == fastrnn::kTreeNary, seed)};
    Random random{seed + 1};
    p.in["U"] = random.normals(size_t(p.rows() * p.A() * H), 1 / std::sqrt(double(H * p.A())));
    if (p.gated()) p.in["z"] = random.normals(size_t(p.f.nodes() * 4 * H));
    if (!p.gated()) p.in["h"] = random.normals(size_t(p.f.leaves() * H)), p.in["bias"] = random.normals(size_t(H));
    p.dh = random.normals(size_t(p.f.nodes() * H));
    return p;
}

// h of all nodes
template <class S>
std::vector<S> naive_trees(const TreeProblem& p, const Named<S>& in) {
    const size_t H = size_t(p.H), N = size_t(p.f.nodes()), L = size_t(p.f.leaves()), width = size_t(p.A()) * H;
    const std::vector<S>& U = in.at("U");
    std::vector<S> h(N * H, S(0)), c(N * H, S(0));
    if (!p.gated()) std::copy(in.at("h").begin(), in.at("h").end(), h.begin());
    for (size_t n = p.gated() ? 0 : L; n < N; ++n) {
        const size_t e0 = n < L ? 0 : size_t(p.f.first[n - L]), e1 = n < L ? 0 : size_t(p.f.first[n - L + 1]);
        std::vector<S> below(width, S(0));  // the children's h side by side, or their sum
        for (size_t e = e0; e < e1; ++e)
            for (size_t u = 0; u < H && p.f.child[e] >= 0; ++u) {
                S& to = below[p.sum() ? u : (e - e0) * H + u];
                to = to + h[size_t(p.f.child[e]) * H + u];
            }
        auto product = [&](size_t row, const S* v, size_t count) {
            S total(0);
            for (size_t k = 0; k < count; ++k) total = total + U[row * width + k] * v[k];
            return total;
        };
        for (size_t u = 0; u < H; ++u) {
            if (!p.gated()) {
                const S z = in.at("bias")[u] + product(u, below.data(), width);
                h[n * H + u] = p.cell == fastrnn::kTreeTanh ? tangent(z) : p.cell == fastrnn::kTreeRelu ? rectify(z) : sigma(z);
                continue;
            }
            const S* z = in.at("z").data() + n * 4 * H + u;  // i f g o
            const size_t g = p.sum() ? 2 * H : H + width, o = g + H;
            S cell = sigma(z[0] + product(u, below.data(), width)) * tangent(z[2 * H] + product(g + u, below.data(), width));
            for (size_t e = e0; e < e1; ++e) {
                if (p.f.child[e] < 0) continue;
                const size_t child = size_t(p.f.child[e]) * H;
                cell = cell + c[child + u] * sigma(z[H] + (p.sum() ? product(H + u, h.data() + child, H)
                                                                   : product(H + (e - e0) * H + u, below.data(), width)));
            }
            c[n * H + u] = cell;
            h[n * H + u] = sigma(z[3 * H] + product(o + u, below.data(), width)) * tangent(cell);
        }
    }
    return h;
}

template <class T>
struct TreeResults {
    std::vector<T> h, c, hc, dz, df, dh;
};

template <class T>
TreeResults<T> run_trees(const TreeProblem& p, int threads) {
    const fastrnn::TreeKernels& k = *fastrnn::kernels()->tree;
    const ptrdiff_t N = p.f.nodes(), L = p.f.leaves(), E = ptrdiff_t(p.f.child.size()), H = p.H;
    auto none = [](ptrdiff_t n, bool wanted = true) { return Buffer<T>(wanted ? size_t(n) : 0, sizeof(void*)); };
    auto integers = [](const std::vector<int64_t>& from) {
        Buffer<int64_t> found(from.size(), sizeof(void*));
        std::copy(from.begin(), from.end(), found.data());
        return found;
    };
    const Buffer<int64_t> level = integers(p.f.level), first = integers(p.f.first), child = integers(p.f.child);
    const Buffer<T> U = filled<T>(p.in.at("U")), bias = p.gated() ? none(0) : filled<T>(p.in.at("bias"));
    const Buffer<T> z = p.gated() ? filled<T>(p.in.at("z")) : none((N - L) * H), f = none(E * H, p.gated()), h = none(N * H),
                    c = none(N * H, p.gated()), hc = none((N - L) * p.A() * H), dh = filled<T>(p.dh),
                    dc = none(N * H, p.gated());
    if (!p.gated()) std::copy(p.in.at("h").begin(), p.in.at("h").end(), h.data());
    fastrnn::TreeCall q{};
    q.dtype = sizeof(T) == 4 ? fastrnn::kFloat32 : fastrnn::kFloat64;
    q.cell = p.cell, q.threads = threads, q.N = N, q.L = L, q.E = E, q.H = H, q.A = p.A();
    q.levels = ptrdiff_t(p.f.level.size()) - 1;
    q.level = level.data(), q.first = first.data(), q.child = child.data(), q.U = U.data(), q.bias = bias.data();
    q.z = z.data(), q.f = f.data(), q.h = h.data(), q.c = c.data(), q.hc = hc.data();
    const Buffer<char> forward(k.workspace(&q)), backward(k.workspace(&q));
    q.workspace = forward.data();
    k.forward(&q);
    TreeResults<T> r;
    r.h = content(h), r.c = content(c), r.hc = content(hc);
    q.dh = dh.data(), q.dc = dc.data(), q.workspace = backward.data();
    k.backward(&q);
    r.dz = content(z), r.df = content(f), r.dh = content(dh);
    return r;
}

// Σ over nodes and rows of U of what a direction of U would add to z
inline double slope_of_weights(const TreeProblem& p, const TreeResults<double>& r, const std::vector<double>& direction) {
    const size_t H = size_t(p.H), L = size_t(p.f.leaves()), width = size_t(p.A()) * H;
    double total = 0;
    for (size_t n = 0; n + L < size_t(p.f.nodes()); ++n)
        for (size_t u = 0; u < H; ++u) {
            auto add = [&](size_t row, double dz, const double* v, size_t count) {
                for (size_t k = 0; k < count; ++k) total += dz * direction[row * width + k] * v[k];
            };
            const double* hc = r.hc.data() + n * width;
            if (!p.gated()) {
                add(u, r.dz[n * H + u], hc, width);
                continue;
            }
            const double* dz = r.dz.data() + (n + L) * 4 * H + u;
            const size_t g = p.sum() ? 2 * H : H + width;
            add(u, dz[0], hc, width), add(g + u, dz[2 * H], hc, width), add(g + H + u, dz[3 * H], hc, width);
            const size_t e0 = size_t(p.f.first[n]);
            for (size_t e = e0; e < size_t(p.f.first[n + 1]); ++e) {
                if (p.sum())
                    add(H + u, r.df[e * H + u], r.h.data() + size_t(p.f.child[e]) * H, H);
                else
                    add(H + (e - e0) * H + u, r.df[e * H + u], hc, width);
            }
        }
    return total;
}

inline void check_trees(const TreeProblem& p, const std::string& isa) {
    const std::string what = isa + " " + p.name();
    const TreeResults<double> wide = run_trees<double>(p, 1);
    const TreeResults<float> narrow = run_trees<float>(p, 1);
    expect_close(wide.h, naive_trees(p, p.in), 1e-12, what + " h");
    expect_close(narrow.h, wide.h, 1e-5, what + " float32 h");
    expect_close(narrow.dh, wide.dh, 1e-4, what + " float32 dh");
    expect_close(narrow.dz, wide.dz, 1e-4, what + " float32 dz");
    Named<Dual> in;
    for (const auto& [name, v] : p.in) in[name] = std::vector<Dual>(v.begin(), v.end());
    Random random{78};
    for (auto& [name, input] : in) {
        const std::vector<double> direction = random.normals(input.size());
        for (size_t i = 0; i < input.size(); ++i) input[i].d = direction[i];
        const std::vector<Dual> h = naive_trees(p, in);
        for (Dual& v : input) v.d = 0;
        double slope = 0, sum = 0;
        for (size_t i = 0; i < h.size(); ++i) slope += p.dh[i] * h[i].d;
        if (name == "U") sum = slope_of_weights(p, wide, direction);
        for (size_t i = 0; name == "bias" && i < wide.dz.size(); ++i) sum += wide.dz[i] * direction[i % size_t(p.H)];
        for (size_t i = 0; (name == "h" || name == "z") && i < direction.size(); ++i)
            sum += (name == "h" ? wide.dh : wide.dz)[i] * direction[i];
        if (!(std::fabs(sum - slope) <= 1e-10 * (1 + std::fabs(slope)) * std::sqrt(1.0 + double(h.size()))))
            report.fail(what + " d" + name + ": slope " + std::to_string(sum) + ", expected " + std::to_string(slope));
    }
}

inline void trees_group(const std::string& isa, bool few) {
    const std::pair<int, int> kinds[] = {{fastrnn::kTreeTanh, 2},     {fastrnn::kTreeRelu, 1}, {fastrnn::kTreeSigmoid, 3},
                                         {fastrnn::kTreeChildSum, 0}, {fastrnn::kTreeNary, 2}, {fastrnn::kTreeNary, 5}};
    uint64_t seed = 40;
    for (const auto& [cell, slots] : kinds) {
        for (ptrdiff_t H : {1, 15, 16, 33, 70})
            for (ptrdiff_t leaves : {1, 7, 120})
                check_trees(make_trees(cell, slots, H, leaves, leaves > 1 ? 6 : 1, ++seed), isa);
        if (few && cell == fastrnn::kTreeRelu) continue;
        const TreeProblem p = make_trees(cell, slots, 60, 700, 7, ++seed);
        const TreeResults<float> one = run_trees<float>(p, 1);
        for (int n : {2, 3, 8}) {
            const TreeResults<float> found = run_trees<float>(p, n);
            const std::string what = isa + " " + p.name() + " threads=" + std::to_string(n);
            expect_same(found.h, one.h, what + " h");
            expect_same(found.c, one.c, what + " c");
            expect_same(found.hc, one.hc, what + " hc");
            expect_same(found.dz, one.dz, what + " dz");
            expect_same(found.df, one.df, what + " df");
            expect_same(found.dh, one.dh, what + " dh");
        }
    }
}
