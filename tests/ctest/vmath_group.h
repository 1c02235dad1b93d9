// vmath_group.h: exp, tanh and sigmoid against long double: every length in exact buffers, the whole range, its edges.
#pragma once
#include "recurrent.h"

inline double exact(int f, double x) {
    if (f == 0) return double(std::exp((long double)x));
    if (f == 1) return double(std::tanh((long double)x));
    const long double e = std::exp(-std::fabs((long double)x));
    return double((x < 0 ? e : 1.0L) / (1.0L + e));
}

template <class T>
double ulps(T got, double want) {
    if (double(T(want)) == double(got)) return 0;
    const double unit = double(std::nextafter(std::fabs(T(want)), T(HUGE_VAL))) - double(std::fabs(T(want)));
    return std::fabs(double(got) - want) / unit;
}

template <class T>
void vmath_of(int dtype) {
    const char* names[] = {"exp", "tanh", "sigmoid"};
    const double largest = sizeof(T) == 4 ? 88 : 709;
    Random random{7};
    for (int f = 0; f < 3; ++f) {
        // every length around the vectors', in exact buffers, out of place and in place
        for (int n = 0; n <= 40; ++n) {
            const std::vector<double> values = random.normals(size_t(n), 3);
            Buffer<T> x = filled<T>(values), y(size_t(n), sizeof(void*));
            fastrnn::kernels()->ops->activation(dtype, f, x.data(), y.data(), n, 0, 1);
            for (int i = 0; i < n; ++i) report.expect(ulps(y[size_t(i)], exact(f, double(x[size_t(i)]))) <= 4, names[f]);
            fastrnn::kernels()->ops->activation(dtype, f, x.data(), x.data(), n, 0, 1);
            expect_same(content(x), content(y), std::string(names[f]) + " in place");
        }
        // the whole range, with several threads
        const int n = 60000;
        Buffer<T> x{size_t(n)}, y{size_t(n)};
        for (int i = 0; i < n; ++i) {
            const double u = 2 * random.uniform() - 1;
            x[size_t(i)] = T(i % 3 == 0 ? u * largest : i % 3 == 1 ? u * 4 : u * std::pow(10.0, -random.below(30)));
        }
        fastrnn::kernels()->ops->activation(dtype, f, x.data(), y.data(), n, 0, 3);
        double worst = 0;
        for (int i = 0; i < n; ++i) worst = std::fmax(worst, ulps(y[size_t(i)], exact(f, double(x[size_t(i)]))));
        report.expect(worst <= 4, std::string(names[f]) + ": " + std::to_string(worst) + " ulp");
        const T inf = T(HUGE_VAL);
        Buffer<T> edge = filled<T>({0.0, -0.0, HUGE_VAL, -HUGE_VAL, double(NAN)});
        fastrnn::kernels()->ops->activation(dtype, f, edge.data(), edge.data(), 5, 0, 1);
        const T at_zero = T(exact(f, 0)), top = f == 0 ? inf : T(1), bottom = f == 1 ? T(-1) : T(0);
        report.expect(edge[0] == at_zero && edge[1] == at_zero && edge[2] == top && edge[3] == bottom, names[f]);
        report.expect(edge[4] != edge[4], std::string(names[f]) + ": NaN");
        report.expect(f != 1 || std::signbit(edge[1]), "tanh(-0) = -0");
    }
}
