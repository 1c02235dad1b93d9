// fastrnn_ctest: the C++ code without Python, for sanitizers, other compilers and emulators.
//
//   fastrnn_ctest [GROUP ...]      runs all groups, or those named; prints a line for each; exits with 1 on a failure
//
// Kernels run on every instruction set of the machine, in both float types, against the scalar loops of naive.h.
// pytest goes deeper (tests/); this program sees what pytest can't: reads and writes past the end of exact buffers,
// undefined behaviour, data races, and machines that are only emulated.
#include <sstream>

#include "attention_group.h"
#include "check.h"
#include "decoder_group.h"
#include "fastrnn.h"
#include "gemm_group.h"
#include "given_group.h"
#include "naive.h"
#include "native_group.h"
#include "one_hot_group.h"
#include "ops_group.h"
#include "pool_group.h"
#include "recurrent.h"
#include "scan_group.h"
#include "search_group.h"
#include "stack_group.h"
#include "stream_group.h"
#include "stream_variants_group.h"
#include "tree_group.h"
#include "variants_group.h"
#include "vmath_group.h"
#include "word2vec_group.h"

using namespace fastrnn;

namespace {

#if defined(__SANITIZE_THREAD__)
constexpr bool kThreadSanitizer = true;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
constexpr bool kThreadSanitizer = true;
#else
constexpr bool kThreadSanitizer = false;
#endif
#else
constexpr bool kThreadSanitizer = false;
#endif

std::vector<std::string> isas() {
    std::istringstream names(available_isas());
    std::vector<std::string> found;
    for (std::string name; names >> name;) found.push_back(name);
    return found;
}

void use(const std::string& isa) {
    const char* why = select(isa.c_str());
    if (why) report.fail(why);
}

// ---- dispatch

void dispatch() {
    report.expect(!isas().empty(), "no instruction set");
    report.expect(select(nullptr) == nullptr && kernels()->name == isas()[0], "the best one is chosen");
    const char* why = select("abacus");
    report.expect(why && std::strstr(why, "expected one of") && std::strstr(why, "abacus"), "an unknown name is an error");
    report.expect(kernels()->name == isas()[0], "an error changes nothing");
    for (const std::string& isa : isas()) {
        use(isa);
        report.expect(isa == kernels()->name && kernels()->vector_bytes >= 16, isa);
        report.expect(kernels()->fma_peak(kFloat32, 10) > 0 && kernels()->fma_peak(kFloat64, 10) > 0, "fma_peak");
    }
}

// ---- arithmetic

void vmath() {
    for (const std::string& isa : isas()) {
        use(isa);
        vmath_of<float>(kFloat32);
        vmath_of<double>(kFloat64);
    }
}

void gemm() {
    for (const std::string& isa : isas()) {
        use(isa);
        gemm_of<float>(kFloat32);
        gemm_of<double>(kFloat64);
    }
}

void ops() {
    for (const std::string& isa : isas()) {
        use(isa);
        ops_of<float>(kFloat32, isa);
        ops_of<double>(kFloat64, isa);
    }
}

// ---- recurrent layers

std::vector<Problem> problems() {
    struct Size {
        ptrdiff_t T, B, I, H;
        const char* lengths;
        int D;
    };
    const Size sizes[] = {
        {1, 1, 1, 1, "full", 1},      {2, 2, 3, 1, "ragged", 2},   {17, 1, 5, 15, "full", 1},   {2, 7, 4, 16, "full", 2},
        {17, 2, 9, 16, "ragged", 1},  {17, 7, 3, 17, "ragged", 2}, {1, 7, 20, 17, "ragged", 1}, {2, 1, 17, 33, "full", 2},
        {17, 7, 18, 33, "ragged", 1}, {5, 3, 2, 33, "empty", 2},   {3, 0, 4, 5, "full", 2},     {90, 7, 6, 8, "ragged", 1},
    };
    std::vector<Problem> all;
    uint64_t seed = 1;
    for (int cell = kRnnTanh; cell <= kGruBefore; ++cell)
        for (const Size& s : sizes)
            for (ptrdiff_t P : {ptrdiff_t(0), ptrdiff_t(5), ptrdiff_t(40)}) {
                if (P && (cell != kLstm || s.B == 0)) continue;
                ++seed;
                Options o;
                o.layout = int(seed % 4);
                o.bias = seed % 5 != 0;
                o.initial = seed % 3 != 0;
                o.dy = seed % 7 != 0;
                o.dstate = seed % 4 != 1;
                o.dx = seed % 6 != 0;
                o.grads = seed % 11 != 0;
                const Shape q{cell, s.T, s.B, s.I, s.H, P ? P : s.H, s.D, lengths_of(s.lengths, s.T, s.B, seed)};
                all.push_back(make_problem(q, o, seed, P > 0));
            }
    return all;
}

void recurrent() {
    for (const Problem& p : problems()) {
        const Expected e = expected(p, 99);
        for (const std::string& isa : isas()) {
            use(isa);
            const std::string what = isa + " " + p.name;
            const Results<double> wide = run<double>(p, 1, true);
            check_expected(p, e, wide, what);
            const Results<float> narrow = run<float>(p, 1, true);
            each_array(narrow, wide, [&](const char* name, const auto& a, const auto& b, bool gradient) {
                expect_close(a, b, gradient ? 1e-4 : 1e-5, what + " float32 " + name);
            });
            const Results<double> unsaved = run<double>(p, 1, false);
            expect_same(unsaved.y, wide.y, what + " inference y");
            for (int d = 0; d < 2; ++d) {
                expect_same(unsaved.h_n[d], wide.h_n[d], what + " inference h_n");
                expect_same(unsaved.c_n[d], wide.c_n[d], what + " inference c_n");
            }
            for (ptrdiff_t checkpoint : {ptrdiff_t(1), (p.q.T + 1) / 2})
                each_array(run<double>(p, 1, true, checkpoint), wide,
                           [&](const char* name, const auto& a, const auto& b, bool) {
                               expect_same(a, b, what + " from checkpoints " + name);
                           });
        }
    }
}

void one_hot() {
    for (const Problem& p : one_hot_problems())
        for (const std::string& isa : isas()) {
            use(isa);
            check_codes(p, isa + " one-hot " + p.name);
        }
}

// A row's result is its own: alone it comes out bitwise the same, and NaN in another row doesn't reach it.
void rows() {
    for (int cell = kRnnTanh; cell <= kGruBefore; ++cell) {
        const Shape q{cell, 6, 5, 4, 19, 19, 2, {6, 0, 3, 6, 5}};
        Problem p = make_problem(q, Options(), 5);
        Problem alone = p;
        const ptrdiff_t row = 3;
        alone.q.B = 1;
        alone.q.lengths = {6};
        alone.in.x.clear();
        for (ptrdiff_t t = 0; t < q.T; ++t)
            for (ptrdiff_t i = 0; i < q.I; ++i) alone.in.x.push_back(p.in.x[size_t((t * q.B + row) * q.I + i)]);
        for (int d = 0; d < 2; ++d)
            for (auto* v : {&alone.in.dir[d].h_0, &alone.in.dir[d].c_0})
                if (!v->empty()) *v = std::vector<double>(v->begin() + row * q.H, v->begin() + (row + 1) * q.H);
        Problem poisoned = p;
        poisoned.in.x[0] = double(NAN);  // step 0 of row 0
        for (const std::string& isa : isas()) {
            use(isa);
            auto of_row = [](const std::vector<float>& y, ptrdiff_t b, ptrdiff_t B) {
                const size_t width = y.size() / size_t(6 * B);
                std::vector<float> v;
                for (size_t t = 0; t < 6; ++t) {
                    const size_t at = (t * size_t(B) + size_t(b)) * width;
                    v.insert(v.end(), y.begin() + ptrdiff_t(at), y.begin() + ptrdiff_t(at + width));
                }
                return v;
            };
            const std::string what = isa + " " + p.name;
            const Results<float> all = run<float>(p, 1, true), spoiled = run<float>(poisoned, 1, true);
            expect_same(of_row(run<float>(alone, 1, false).y, 0, 1), of_row(all.y, row, q.B), what + " one row alone");
            for (ptrdiff_t b = 1; b < q.B; ++b) {
                expect_same(of_row(spoiled.y, b, q.B), of_row(all.y, b, q.B), what + " y beside NaN");
                expect_same(of_row(spoiled.dx, b, q.B), of_row(all.dx, b, q.B), what + " dx beside NaN");
            }
            report.expect(spoiled.y[0] != spoiled.y[0], what + " NaN in, NaN out");
        }
    }
}

// Bitwise the same for any number of threads. The shapes make the schedule split rows, units, directions, or leave
// threads over; most need some ten million operations before eight threads are worth waking.
void threads() {
    struct Size {
        ptrdiff_t T, B, I, H;
        const char* lengths;
        int D;
    };
    const Size sizes[] = {{17, 33, 33, 33, "ragged", 1}, {9, 3, 40, 160, "full", 1},   {17, 9, 65, 65, "ragged", 2},
                          {12, 40, 30, 50, "full", 2},   {40, 1, 100, 190, "full", 1}, {150, 33, 20, 17, "ragged", 1}};
    uint64_t seed = 1000;
    for (int cell = kRnnTanh; cell <= kGruBefore; ++cell)
        for (const Size& s : sizes)
            for (ptrdiff_t P : {ptrdiff_t(0), s.H * 3 / 4}) {
                if (P && cell != kLstm) continue;
                Options o;
                o.layout = int(++seed % 4);
                const Shape q{cell, s.T, s.B, s.I, s.H, P ? P : s.H, s.D, lengths_of(s.lengths, s.T, s.B, seed)};
                const Problem p = make_problem(q, o, seed, P > 0);
                for (const std::string& isa : kThreadSanitizer ? std::vector<std::string>{isas()[0]} : isas()) {
                    use(isa);
                    const Results<float> one = run<float>(p, 1, true);
                    for (int n : {2, 3, 8}) {
                        const std::string what = isa + " " + p.name + " threads=" + std::to_string(n) + " ";
                        auto same = [&](const char* name, const auto& a, const auto& b, bool) {
                            expect_same(a, b, what + name);
                        };
                        each_array(run<float>(p, n, true), one, same);
                        each_array(run<float>(p, n, true, 1), one, same);
                        const Results<float> unsaved = run<float>(p, n, false);
                        same("inference y", unsaved.y, one.y, false);
                        for (int d = 0; d < s.D; ++d) same("inference h_n", unsaved.h_n[d], one.h_n[d], false);
                    }
                }
            }
}

void attention() {
    for (const std::string& isa : isas()) {
        use(isa);
        attention_of<float>(kFloat32, isa);
        attention_of<double>(kFloat64, isa);
    }
}

void streams() {
    for (const std::string& isa : isas()) {
        use(isa);
        stream_cells<float>();
        stream_cells<double>();
        stream_others<float>();
        stream_others<double>();
        stream_variants<float>();
        stream_variants<double>();
    }
}

void stacks() {
    for (const std::string& isa : kThreadSanitizer ? std::vector<std::string>{isas()[0]} : isas()) {
        use(isa);
        stacks_of<float>(isa);
        if (!kThreadSanitizer) stacks_of<double>(isa);
    }
    select(nullptr);
    busy_stacks();
}

void decoder() {
    for (const DecoderProblem& p : decoder_problems()) {
        const Named<double> right = naive_decoder(p, p.in);
        for (const std::string& isa : isas()) {
            use(isa);
            check_decoder(p, right, isa);
        }
    }
    for (const std::string& isa : isas()) {
        use(isa);
        decoder_sampling(isa);
    }
}

void decoder_threads() {
    for (const std::string& isa : kThreadSanitizer ? std::vector<std::string>{isas()[0]} : isas()) {
        use(isa);
        decoder_with_threads(isa, kThreadSanitizer);
    }
}

void search() {
    for (const SearchProblem& p : search_problems()) {
        const std::vector<FoundText> right = naive_search(p);
        for (const std::string& isa : isas()) {
            use(isa);
            check_search(p, right, isa);
        }
    }
    for (const std::string& isa : isas()) {
        use(isa);
        search_without_numbers<float>(isa);
        search_without_numbers<double>(isa);
    }
}

void search_threads() {
    for (const std::string& isa : kThreadSanitizer ? std::vector<std::string>{isas()[0]} : isas()) {
        use(isa);
        search_with_threads(isa, kThreadSanitizer);
    }
}

void trees() {
    for (const std::string& isa : isas()) {
        use(isa);
        trees_group(isa, kThreadSanitizer);
    }
}

void scans() {
    for (const std::string& isa : isas()) {
        use(isa);
        scans_group(isa, kThreadSanitizer);
    }
}

void word2vec() {
    for (const std::string& isa : isas()) {
        use(isa);
        word2vec_group(isa, kThreadSanitizer);
    }
}

void variants() { variants_group(isas()); }

void given() {
    for (const std::string& isa : kThreadSanitizer ? std::vector<std::string>{isas()[0]} : isas()) {
        use(isa);
        given_group(kThreadSanitizer);
    }
}

void native() { native_group(isas(), kThreadSanitizer); }

}  // namespace

int main(int argc, char** argv) {
    const std::pair<const char*, void (*)()> groups[] = {
        {"dispatch", dispatch},
        {"vmath", vmath},
        {"gemm", gemm},
        {"ops", ops},
        {"recurrent", recurrent},
        {"one_hot", one_hot},
        {"rows", rows},
        {"streams", streams},
        {"threads", threads},
        {"workspace", workspace},
        {"pool", pool},
        {"forked", forked},
        {"stacks", stacks},
        {"word2vec", word2vec},
        {"attention", attention},
        {"decoder", decoder},
        {"decoder_threads", decoder_threads},
        {"search", search},
        {"search_threads", search_threads},
        {"trees", trees},
        {"variants", variants},
        {"given", given},
        {"scans", scans},
        {"native", native},
    };
    int ran = 0;
    for (const auto& [name, group] : groups) {
        bool wanted = argc == 1;
        for (int i = 1; i < argc; ++i) wanted = wanted || !std::strcmp(argv[i], name);
        if (!wanted) continue;
        ++ran;
        const int before = report.failures;
        select(nullptr);
        group();
        std::printf("%-10s %s\n", name, report.failures == before ? "ok" : "FAILED");
        std::fflush(stdout);
    }
    std::printf("%d groups on %s: %s\n", ran, available_isas(),
                ran == 0          ? "no such group"
                : report.failures ? (std::to_string(report.failures) + " failures").c_str()
                                  : "all ok");
    return ran == 0 || report.failures != 0;
}
