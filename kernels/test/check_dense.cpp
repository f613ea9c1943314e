// dense.h against f64, and the promises that batches rely on: rows do not depend on how many there are, and threads may
// share one object. oneDNN chooses its own instruction set, so there is one part, not one a level.
#include <cfloat>
#include <cmath>
#include <thread>

#include "../cpu/dense.h"
#include "check.h"

using tia2::activation;
using tia2::dense;

namespace {

double act64(double v, activation act) {
    if (act == activation::gelu) return 0.5 * v * (1 + erf(v / sqrt(2.0)));
    if (act == activation::quick_gelu) return v / (1 + exp(-1.702 * v));
    return v;
}

float to_bf16(float v) {
    uint32_t bits;
    memcpy(&bits, &v, 4);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&v, &bits, 4);
    return v;
}

struct problem {
    int64_t            K, N;
    std::vector<float> weight, bias;
    problem(int64_t K_, int64_t N_) : K(K_), N(N_), weight((size_t)(K_ * N_)), bias((size_t)N_) {
        for (float &v : weight) v = check_rand_float() / sqrtf((float)K);
        for (float &v : bias) v = check_rand_float();
    }
};

// One product of M rows, each value within the rounding of a sum of K products (plus 2e-6 for oneDNN's erf).
void check_product(const problem &p, int64_t M, activation act, bool bias, bool residual, bool bf16) {
    check_case("K=%ld N=%ld M=%ld act=%d bias=%d residual=%d bf16=%d", (long)p.K, (long)p.N, (long)M, (int)act, bias, residual, bf16);
    const dense      d(p.weight.data(), p.K, p.N, bias ? p.bias.data() : nullptr, act, residual, bf16);
    check_buf<float> x((size_t)(M * p.K), 3, NAN), r((size_t)(M * p.N), 5, NAN), y((size_t)(M * p.N), 1, -7.f);
    for (size_t i = 0; i < x.n; i++) x.p()[i] = 2 * check_rand_float();
    for (size_t i = 0; i < r.n; i++) r.p()[i] = check_rand_float();
    d.run(y.p(), x.p(), residual ? r.p() : nullptr, M);
    for (int64_t m = 0; m < M; m++)
        for (int64_t n = 0; n < p.N; n++) {
            double sum = bias ? p.bias[(size_t)n] : 0, size = fabs(sum);
            for (int64_t k = 0; k < p.K; k++) {
                const float a = x.p()[m * p.K + k], b = p.weight[(size_t)(n * p.K + k)];
                const double ab = bf16 ? (double)to_bf16(a) * to_bf16(b) : (double)a * b;
                sum += ab;
                size += fabs(ab);
            }
            const double want = act64(sum, act) + (residual ? r.p()[m * p.N + n] : 0);
            const double tol  = 2e-6 + (sqrt((double)p.K) + 4) * FLT_EPSILON * (size + fabs(want));
            const float  got  = y.p()[m * p.N + n];
            if (!(fabs(got - want) <= tol)) return FAIL("row %ld, column %ld: got %.9g want %.9g", (long)m, (long)n, got, want);
        }
    if (!y.intact()) FAIL("wrote out of bounds");
}

} // namespace

TIA2_CHECK(dense) {
    check_part("dense_product", [] {
        for (const auto &shape : {std::pair<int, int>{1, 1}, {17, 5}, {64, 48}, {192, 576}, {768, 64}, {33, 130}})
            for (int64_t M : {1, 2, 7, 50})
                for (activation act : {activation::none, activation::gelu, activation::quick_gelu})
                    for (int flags = 0; flags < 8; flags++) {
                        const problem p(shape.first, shape.second);
                        try {
                            check_product(p, M, act, flags & 1, flags & 2, flags & 4);
                        } catch (const tia2::no_fast_form &) {
                            if (!(flags & 4)) FAIL("no fast f32 form"); // bf16 needs a CPU that has it
                        }
                    }
    });
    check_part("dense_rows", [] {
        // A row alone has the bits that it has among others; threads that share the object do not disturb each other.
        const problem      p(768, 256);
        dense              d(p.weight.data(), p.K, p.N, p.bias.data(), activation::gelu, false, false);
        const int64_t      M = 64;
        std::vector<float> x((size_t)(M * p.K)), all((size_t)(M * p.N)), parts(all.size());
        for (float &v : x) v = check_rand_float();
        d.run(all.data(), x.data(), nullptr, M);
        std::vector<std::thread> threads;
        for (int t = 0; t < 4; t++)
            threads.emplace_back([&, t] {
                const int64_t rows = M / 4, first = t * rows;
                for (int64_t m = first; m < first + rows;) {
                    const int64_t n = std::min<int64_t>(1 + m % 5, first + rows - m);
                    d.run(&parts[(size_t)(m * p.N)], &x[(size_t)(m * p.K)], nullptr, n);
                    m += n;
                }
            });
        for (auto &t : threads) t.join();
        for (size_t i = 0; i < all.size(); i++)
            if (fabsf(all[i] - parts[i]) > 2e-6f) return FAIL("value %zu: %.9g in a batch, %.9g apart", i, all[i], parts[i]);
    });
}
