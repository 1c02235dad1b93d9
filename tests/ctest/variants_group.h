// variants_group.h: the functions of the built-in cells' variants (variant.h) on tiles, against variants_naive.h.
//
// Every combination of flags and every activation in every place; tiles of all units and in two parts, with and without saving.
// Sections have fences between them, and rows end where their last vector does: AddressSanitizer sees what goes past.
#pragma once
#include "variants_naive.h"

constexpr size_t kVariantRows = 9;
constexpr double kFence = 1234.5;

// arrays of whole vectors, what lies past H being numbers that must not matter
template <class T>
Buffer<T> padded(const Units& values, size_t width, Random& random) {
    Buffer<T> b(width, sizeof(T) < 8 ? 8 : sizeof(T));
    for (size_t u = 0; u < width; ++u) b[u] = T(u < values.size() ? values[u] : 2 * random.normal());
    return b;
}

// one tile, forward and backward
template <class T>
struct VariantRun {
    std::vector<RowInputs> gradient;         // [rows]
    std::vector<std::vector<Units>> states;  // [rows][states]
    bool intact = true, finite = true;

    VariantRun(const VariantProblem& p, const std::vector<RowInputs>& in, const std::vector<std::vector<Units>>& weights,
               bool save, bool parts) {
        using namespace fastrnn;
        CellSpec spec;
        if (!kernels()->variant(&p.q, sizeof(T) == 4 ? kFloat32 : kFloat64, p.cell, &spec)) return;
        const size_t lanes = size_t(kernels()->vector_bytes) / sizeof(T), Hp = (p.H + lanes - 1) / lanes * lanes;
        const size_t section = Hp + lanes, S = size_t(spec.sections), N = size_t(spec.states), rows = kVariantRows;
        Random random{p.H};
        std::vector<Buffer<T>> memory;
        auto pointer = [&](const Units& values, size_t width) -> void* {
            memory.push_back(padded<T>(values, width, random));
            return memory.back().data();
        };
        std::vector<void*> gates, product, vectors;
        std::vector<std::vector<void*>> before(N), after(N), gradients(N);
        for (size_t r = 0; r < rows; ++r) {
            Buffer<T> g((S - 1) * section + Hp, sizeof(T) < 8 ? 8 : sizeof(T));
            for (size_t i = 0; i < g.size(); ++i) g[i] = i % section < Hp ? T(random.normal()) : T(kFence);
            for (size_t k = 0; k < in[r].z.size(); ++k)
                for (size_t u = 0; u < p.H; ++u) g[section_of(spec, k) * section + u] = T(in[r].z[k][u]);
            gates.push_back(g.data());
            memory.push_back(std::move(g));
            product.push_back(pointer(Units(p.H, 0.0), Hp));
            for (size_t s = 0; s < N; ++s) {
                before[s].push_back(pointer(in[r].before[s], Hp));
                after[s].push_back(pointer(Units(p.H, double(NAN)), Hp));
                gradients[s].push_back(pointer(weights[r][s], Hp));
            }
        }
        for (const Units& v : in[0].vectors) vectors.push_back(pointer(v, Hp));
        std::vector<void* const*> tables[3];
        for (size_t s = 0; s < N; ++s)
            tables[0].push_back(before[s].data()), tables[1].push_back(after[s].data()),
                tables[2].push_back(gradients[s].data());
        CellTile t{};
        t.rows = int64_t(rows);
        t.section = int64_t(section);
        t.gates = gates.data();
        t.before = reinterpret_cast<const void* const* const*>(tables[0].data());
        t.after = tables[1].data();
        t.vectors = vectors.data();
        t.save = save;
        t.context = spec.context;
        t.units = int64_t(p.H);
        const bool in_parts = parts && !spec.whole_rows && Hp > lanes;
        auto call = [&](CellFunction f) {
            for (int part = in_parts ? 0 : 1; part < 2; ++part) {
                t.first = part && in_parts ? int64_t(lanes) : 0;
                t.last = int64_t(part ? Hp : lanes);
                f(&t);
            }
        };
        auto at = [&](size_t r, int64_t s) { return static_cast<T*>(gates[r]) + size_t(s) * section; };

        call(spec.forward);
        if (spec.forward2) {  // what the schedule does between the stages
            for (size_t r = 0; r < rows; ++r)
                for (size_t u = 0; u < p.H; ++u)
                    for (size_t v = 0; v < p.H; ++v)
                        at(r, spec.section_x[2])[u] += at(r, spec.section_product)[v] * T(p.mix[v * p.H + u]);
            call(spec.forward2);
        }
        for (size_t r = 0; r < rows; ++r) {
            states.emplace_back();
            for (size_t s = 0; s < N; ++s) states[r].push_back(units(after[s][r], p.H));
        }
        if (save) {
            t.after = nullptr;
            t.gradient = tables[2].data();
            call(spec.backward);
            if (spec.backward2) {
                t.product = product.data();
                for (size_t r = 0; r < rows; ++r)
                    for (size_t v = 0; v < p.H; ++v) {
                        T d = 0;
                        for (size_t u = 0; u < p.H; ++u) d += at(r, spec.section_x[2])[u] * T(p.mix[v * p.H + u]);
                        static_cast<T*>(product[r])[v] = d;
                    }
                call(spec.backward2);
            }
            for (size_t r = 0; r < rows; ++r) {
                RowInputs d;
                for (size_t k = 0; k < in[r].z.size(); ++k) d.z.push_back(units(at(r, int64_t(section_of(spec, k))), p.H));
                for (size_t s = 0; s < N; ++s) d.before.push_back(units(gradients[s][r], p.H));
                for (size_t v = 0; v < vectors.size(); ++v) d.vectors.push_back(units(at(r, spec.section_v[v]), p.H));
                gradient.push_back(std::move(d));
            }
        }
        for (const Buffer<T>& b : memory)
            for (size_t i = 0; i < b.size(); ++i) finite = finite && std::isfinite(b[i]);
        for (size_t r = 0; r < rows; ++r)
            for (size_t i = 0; i < (S - 1) * section + Hp; ++i)
                intact = intact && (i % section < Hp || static_cast<T*>(gates[r])[i] == T(kFence));
    }

    // where RowInputs::z[k] lies
    static size_t section_of(const fastrnn::CellSpec& spec, size_t k) {
        if (spec.sections == 4 && spec.gates == 3 && spec.vectors == 0) return spec.forward2 && k == 2 ? 3 : k;  // GRU
        return k;
    }
    static Units units(const void* p, size_t n) { return Units(static_cast<const T*>(p), static_cast<const T*>(p) + n); }
};

// all arrays of a run in one, for comparisons
inline Units flat(const std::vector<std::vector<Units>>& states) {
    Units all;
    for (const auto& row : states)
        for (const Units& a : row) all.insert(all.end(), a.begin(), a.end());
    return all;
}
inline Units flat(std::vector<RowInputs> rows, int which) {
    Units all;
    for (RowInputs& row : rows)
        for (const Units& a : which == 0 ? row.z : which == 1 ? row.before : row.vectors)
            all.insert(all.end(), a.begin(), a.end());
    return all;
}

inline void check_variant(const VariantProblem& p, const std::vector<std::string>& isas, uint64_t seed) {
    Random random{seed};
    const bool lstm = p.lstm();
    const size_t holes = !p.q.peephole ? 0 : p.q.coupled ? 2 : 3;
    const size_t vectors = p.cell == fastrnn::kFastRnn ? 2 : p.fast() ? 4 : holes + 2 * p.q.norm_c;
    const size_t sections = p.cell < fastrnn::kLstm || p.fast() ? 1 : lstm ? size_t(4 - p.q.coupled) : p.two_stages() ? 3 : 4;
    auto arrays = [&](size_t n) {
        std::vector<Units> all;
        for (size_t k = 0; k < n; ++k) all.push_back(random.normals(p.H));
        return all;
    };
    const std::vector<Units> shared = arrays(vectors);
    std::vector<RowInputs> in, right;
    std::vector<std::vector<Units>> weights, states;
    for (size_t r = 0; r < kVariantRows; ++r) {
        in.push_back({arrays(sections), arrays(lstm ? 2 : 1), shared});
        weights.push_back(arrays(lstm ? 2 : 1));
        states.push_back(naive_step(p, in[r]));
        right.push_back(naive_gradient(p, in[r], weights[r]));
    }
    const char* parts[] = {"dz", "dstates", "dvectors"};
    for (const std::string& isa : isas) {
        if (const char* why = fastrnn::select(isa.c_str())) return report.fail(why);
        const std::string what = isa + " " + p.name;
        const VariantRun<double> wide(p, in, weights, true, false);
        const VariantRun<float> narrow(p, in, weights, true, false);
        expect_close(flat(wide.states), flat(states), 1e-12, what + " states");
        expect_close(flat(narrow.states), flat(wide.states), 1e-5, what + " float32 states");
        for (int k = 0; k < 3; ++k) {
            expect_close(flat(wide.gradient, k), flat(right, k), 1e-6, what + " " + parts[k]);
            expect_close(flat(narrow.gradient, k), flat(wide.gradient, k), 1e-4, what + " float32 " + parts[k]);
        }
        report.expect(wide.intact && narrow.intact, what + " writes between sections");
        report.expect(wide.finite && narrow.finite, what + " isn't finite in the padding");
        const VariantRun<double> split(p, in, weights, true, true), unsaved(p, in, weights, false, true);
        expect_same(flat(split.states), flat(wide.states), what + " in parts");
        for (int k = 0; k < 3; ++k)
            expect_same(flat(split.gradient, k), flat(wide.gradient, k), what + " in parts " + parts[k]);
        expect_same(flat(unsaved.states), flat(wide.states), what + " inference");
    }
}

// One unit of an RNN far out, where slopes are those of straight lines, and NaN.
template <class T>
void variant_edges(const std::string& isa) {
    using namespace fastrnn;
    for (int kind = 0; kind < kCellActivations; ++kind)
        for (double clip : {0.0, 0.5}) {
            VariantProblem p{};
            p.H = 1;
            p.q.clip = clip;
            p.q.activation[0] = {kind, 0.25, 0.5};
            const std::string what = isa + " edges of activation " + std::to_string(kind);
            for (double z : {0.0, -0.0, 1e-20, -1e-20, 30.0, -30.0, 150.0, -150.0, 1e30, -1e30}) {
                const std::vector<RowInputs> in(kVariantRows, RowInputs{{{z}}, {{0.0}}, {}});
                const VariantRun<T> run(p, in, {kVariantRows, {{1.0}}}, true, false);
                const double h = naive_step(p, in[0])[0][0], got = run.states[0][0][0], dz = run.gradient[0].z[0][0];
                report.expect(std::fabs(got - h) <= 4e-7 * std::fabs(h) + 1e-38, what + " at " + std::to_string(z));
                const double right = clip > 0 && std::fabs(z) > clip ? 0 : naive_gradient(p, in[0], {{1.0}}).z[0][0];
                const bool smooth = std::fabs(z) > 1 && (std::fabs(z) < 1e10 || std::fabs(h) < 1e10);
                report.expect(std::isfinite(dz) && (!smooth || std::fabs(dz - right) <= 1e-6),
                              what + " slope at " + std::to_string(z));
            }
            const std::vector<RowInputs> in(kVariantRows, RowInputs{{{double(NAN)}}, {{0.0}}, {}});
            const VariantRun<T> run(p, in, {kVariantRows, {{1.0}}}, true, false);
            report.expect(std::isnan(run.states[0][0][0]) && std::isnan(run.gradient[0].z[0][0]), what + ": NaN");
        }
}

inline void variants_group(const std::vector<std::string>& isas) {
    using namespace fastrnn;
    const size_t sizes[] = {1, 5, 8, 16, 17, 33};
    uint64_t seed = 1;
    for (int k = 0; k <= kCellActivations; ++k)  // the usual activations; then each in each place
        for (int cell : {int(kRnnTanh), int(kLstm), int(kGruAfter), int(kGruBefore), int(kFastRnn), int(kFastGrnn)})
            for (int flags = 0; flags < (cell == kLstm ? 16 : 2); ++flags) {
                VariantProblem p{};
                p.cell = cell;
                p.H = sizes[++seed % 6];
                p.q.clip = flags & 1 ? 0.7 : 0;
                p.q.peephole = flags & 2, p.q.coupled = flags & 4, p.q.norm_c = flags & 8;
                const int places[] = {k - 1, (k + 3) % kCellActivations, (k + 7) % kCellActivations};
                const int usual[] = {cell == kRnnTanh || cell == kFastRnn ? kActTanh : kActSigmoid, kActTanh, kActTanh};
                for (int a = 0; a < 3; ++a) p.q.activation[a] = {k ? places[a] : usual[a], 0.6 - 0.1 * a, 0.3 + 0.1 * a};
                if (p.two_stages()) p.mix = Random{seed}.normals(p.H * p.H, 1 / std::sqrt(double(p.H)));
                p.name = "cell " + std::to_string(cell) + " activations " + std::to_string(k) + " flags " +
                         std::to_string(flags) + " H=" + std::to_string(p.H);
                check_variant(p, isas, seed);
            }
    for (const std::string& isa : isas) {
        select(isa.c_str());
        variant_edges<float>(isa);
        variant_edges<double>(isa);
        VariantSettings q{};
        CellSpec spec;
        report.expect(kernels()->variant(&q, kFloat32, kGruAfter, &spec) && spec.context == &q, isa + " all identities");
        q.activation[1].kind = kCellActivations;
        report.expect(!kernels()->variant(&q, kFloat32, kGruAfter, &spec), isa + " takes no unknown activation");
        report.expect(kernels()->variant(&q, kFloat32, kRnnTanh, &spec), isa + " an RNN has one activation");
        report.expect(!kernels()->variant(&q, kFloat32, kFastGrnn, &spec), isa + " FastGRNN has two activations");
        report.expect(!kernels()->variant(&q, kFloat32, kGiven, &spec), isa + " a given cell has no variants");
        report.expect(!kernels()->variant(&q, kFloat32, kFastGrnn + 1, &spec), isa + " no such cell");
        q.peephole = true;
        report.expect(!kernels()->variant(&q, kFloat32, kRnnTanh, &spec), isa + " an RNN has no peepholes");
    }
}
