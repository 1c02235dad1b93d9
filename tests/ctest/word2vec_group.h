// word2vec_group.h: training of word vectors in exact buffers: tables, text and matrices that end where they end.
#pragma once
#include "check.h"
#include "fastrnn.h"
#include "word2vec.h"

struct Word2VecCase {
    ptrdiff_t V = 23, stride = 32, negative = 5, window = 3;
    int cbow = 0, tree = 0, threads = 1;

    // targets are zero at first: each costs log 2
    void run(const std::string& what) {
        using namespace fastrnn;
        Random random{5};
        const ptrdiff_t N = 5000, S = 4;
        Buffer<float> vectors{size_t(V * stride)}, output{negative ? size_t(V * stride) : 0},
            nodes{tree ? size_t((V - 1) * stride) : 0};
        for (size_t i = 0; i < vectors.size(); ++i) vectors[i] = float(random.normal());
        for (size_t i = 0; i < output.size(); ++i) output[i] = 0;
        for (size_t i = 0; i < nodes.size(); ++i) nodes[i] = 0;
        Buffer<int64_t> path{size_t(V + 1)}, begin{size_t(S + 1)};
        const ptrdiff_t depth = V - 1;  // a tree like a list: word w leaves it at node w
        std::vector<int32_t> ways;
        path[0] = 0;
        for (ptrdiff_t w = 0; w < V; ++w) {
            for (ptrdiff_t k = 0; k < (w < depth ? w : depth - 1) + 1; ++k) ways.push_back(int32_t(2 * k + (k == w)));
            path[size_t(w + 1)] = int64_t(ways.size());
        }
        Buffer<int32_t> steps{ways.size()}, alias{size_t(V)}, tokens{size_t(N)};
        for (size_t i = 0; i < ways.size(); ++i) steps[i] = ways[i];
        Buffer<uint32_t> keep{size_t(V)}, share{size_t(V)};
        for (ptrdiff_t w = 0; w < V; ++w) {
            keep[size_t(w)] = 0xc0000000u;
            share[size_t(w)] = uint32_t(random.next());
            alias[size_t(w)] = int32_t(V - 1 - w);
        }
        for (ptrdiff_t i = 0; i < N; ++i) tokens[size_t(i)] = int32_t(random.below(int(V)));
        const int64_t ends[] = {0, 1, 1, 4000, N};
        for (size_t s = 0; s <= size_t(S); ++s) begin[s] = ends[s];

        Word2Vec job{};
        job.V = V, job.stride = stride, job.vectors = vectors.data();
        job.output = output.data(), job.nodes = nodes.data();
        job.path = path.data(), job.steps = steps.data(), job.deepest = depth;
        job.keep = keep.data(), job.alias_share = share.data(), job.alias = alias.data();
        job.negative = negative, job.window = window, job.shrink = 1, job.cbow = cbow;
        job.tokens = tokens.data(), job.N = N, job.begin = begin.data(), job.S = S, job.longest = 3999;
        job.seed = 9, job.threads = threads;
        const Word2VecKernels& table = *kernels()->word2vec;
        Buffer<char> workspace(table.workspace(&job));
        job.workspace = workspace.data();
        const std::vector<float> before = content(vectors);
        table.train(&job);  // at a learning rate of zero
        report.expect(job.pairs > N / 2 && std::fabs(double(job.kept) / N - 0.75) < 0.03,
                      what + ": predictions and words kept");
        const double targets = job.loss / double(job.pairs) / 0.69314718055994531;
        const double least = double(negative > 0) + tree,
                     most = double(negative ? 1 + negative : 0) + (tree ? double(depth) : 0);
        report.expect(targets >= least && targets <= most + 1e-6, what + ": loss of " + std::to_string(targets) + " targets");
        expect_same(content(vectors), before, what + ": nothing moves at a rate of zero");
        job.lr_first = job.lr_last = 0.01;
        table.train(&job);
        bool finite = job.loss == job.loss, moved = false;
        for (size_t i = 0; i < vectors.size(); ++i) {
            finite = finite && std::fabs(vectors[i]) < 100;
            moved = moved || vectors[i] != before[i];
        }
        report.expect(finite && moved, what + ": learns");
    }
};

// several threads write into the same vectors on purpose, so ThreadSanitizer gets one
inline void word2vec_group(const std::string& isa, bool only_one_thread) {
    for (int cbow = 0; cbow <= 2; ++cbow)
        for (int tree = 0; tree <= 1; ++tree)
            for (ptrdiff_t negative : {0, 1, 5, 7, 8, 30})
                for (ptrdiff_t stride : {16, 48})
                    for (int threads : {1, 3}) {
                        if ((!tree && !negative) || (threads > 1 && only_one_thread)) continue;
                        Word2VecCase c;
                        c.cbow = cbow, c.tree = tree, c.negative = negative, c.stride = stride, c.threads = threads;
                        c.run(isa + " word2vec cbow " + std::to_string(cbow) + " tree " + std::to_string(tree) + " negative " +
                              std::to_string(negative));
                    }
}
