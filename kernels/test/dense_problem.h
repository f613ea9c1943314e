// dense_problem.h: a product of dense.h with random inputs, its guards, and its result in f64.
#pragma once
#include <cfloat>
#include <cmath>

#include "check.h"

using tia2::activation;

inline size_t align4(size_t n) { return (n + 3) / 4 * 4; }

inline float round_bf16(float v) {
    uint32_t bits;
    memcpy(&bits, &v, 4);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&v, &bits, 4);
    return v;
}

inline double act64(double v, activation act) {
    if (act == activation::gelu) return 0.5 * v * erfc(-v / sqrt(2.0));
    if (act == activation::quick_gelu) return v / (1 + exp(-1.702 * v));
    return v;
}

inline const char *format_name(tia2_format f) { return f == tia2_format::f32 ? "f32" : f == tia2_format::bf16 ? "bf16" : "q8"; }

// A product with its inputs, as numbers and as a call.
struct problem {
    tia2_format          format;
    size_t               M, K, N;
    std::vector<double>  x, w; // as the formats hold them
    check_buf<uint8_t>   rows, y;
    check_buf<float>     bias, residual;
    std::vector<char>    packed;
    std::vector<float>   scale;
    std::vector<int32_t> start;
    tia2_dense_call      call{};

    static size_t row_bytes(tia2_format f, size_t K) { return f == tia2_format::f32 ? 4 * K : f == tia2_format::bf16 ? 2 * (K + K % 2) : align4(K) + 4; }

    problem(tia2_format f, size_t M_, size_t K_, size_t N_, bool y_bf16)
        : format(f), M(M_), K(K_), N(N_), x(M * K), w(N * K), rows(M * row_bytes(f, K), 4, 0xff), y(M * (y_bf16 ? 2 : 4) * (N + 3), 4, 0x5a),
          bias(N, 1, NAN), residual(M * (N + 3), 3, NAN), packed(tia2_dense_packed(f, K, N) + 64) {
        for (size_t i = 0; i < N; i++) bias.p()[i] = check_rand_float();
        for (size_t i = 0; i < residual.n; i++) residual.p()[i] = check_rand_float();
        make_rows();
        make_weights();
        call.x          = rows.p();
        call.x_stride   = row_bytes(f, K);
        call.M          = M;
        call.K          = K;
        call.N          = N;
        call.scale      = scale.data();
        call.start      = start.data();
        call.panel_end  = tia2_dense_panels(N);
        call.y          = y.p();
        call.y_stride   = (y_bf16 ? 2 : 4) * (N + 3);
        call.y_bf16     = y_bf16;
    }

    // Its rows are as many values apart as those of y.
    void add_residual() {
        call.residual        = residual.p();
        call.residual_stride = (N + 3) * sizeof(float);
    }

    void make_rows() {
        for (size_t m = 0; m < M; m++) {
            uint8_t    *row = rows.p() + m * row_bytes(format, K);
            const float s = 0.01f + 0.02f * (float)check_rand_double();
            memset(row, 0, row_bytes(format, K)); // a bf16 row of odd K has one value more, which meets a zero weight
            if (format == tia2_format::q8) memset(row, 128, align4(K)), memcpy(row + align4(K), &s, 4);
            for (size_t k = 0; k < K; k++) {
                float v = 2 * check_rand_float();
                if (format == tia2_format::bf16) v = round_bf16(v);
                if (format == tia2_format::f32) memcpy(row + 4 * k, &v, 4);
                if (format == tia2_format::bf16) memcpy(row + 2 * k, (char *)&v + 2, 2);
                if (format == tia2_format::q8) row[k] = (uint8_t)check_rand_int(1, 255);
                x[m * K + k] = format == tia2_format::q8 ? (double)s * (row[k] - 128) : v;
            }
        }
    }

    void make_weights() {
        std::vector<float> f(N * K);
        for (float &v : f) v = check_rand_float() / sqrtf((float)K);
        char *dst = (char *)(((uintptr_t)packed.data() + 63) & ~(uintptr_t)63);
        call.weights = dst;
        scale.resize(tia2_dense_panels(N) * kDensePanel);
        start.resize(scale.size());
        for (size_t n = 0; n < N; n += kDensePanel)
            tia2_dense_pack_panel(format, &f[n * K], N - n < kDensePanel ? N - n : kDensePanel, K, dst + n / kDensePanel * tia2_dense_packed(format, K, 1),
                                  &scale[n], &start[n]);
        for (size_t n = 0; n < N; n++) {
            float most = 0;
            for (size_t k = 0; k < K; k++) most = fmaxf(most, fabsf(f[n * K + k]));
            for (size_t k = 0; k < K; k++) {
                const float v = f[n * K + k];
                w[n * K + k] = format == tia2_format::f32    ? v
                               : format == tia2_format::bf16 ? round_bf16(v)
                                                             : (double)(most / 127) * nearbyintf(v * (127 / most));
            }
        }
    }

    double result(size_t m, size_t n) const {
        if (!call.y_bf16) {
            float v;
            memcpy(&v, y.p() + m * call.y_stride + 4 * n, 4);
            return v;
        }
        uint32_t bits = 0;
        memcpy((char *)&bits + 2, y.p() + m * call.y_stride + 2 * n, 2);
        float v;
        memcpy(&v, &bits, 4);
        return v;
    }

    void check(const char *isa) const {
        for (size_t m = 0; m < M; m++)
            for (size_t n = 0; n < N; n++) {
                double sum = 0, size = 0;
                for (size_t k = 0; k < K; k++) {
                    const double xw = x[m * K + k] * w[n * K + k];
                    sum += xw;
                    size += fabs(xw);
                }
                if (call.bias) sum += call.bias[n];
                double want = act64(sum, call.act);
                if (call.residual) want += residual.p()[m * (N + 3) + n];
                // bf16: VDPBF16PS rounds each of its two products and flushes denormals.
                const double tol = 1e-6 * fmin(1, fabs(sum)) + (sqrt((double)K) + 8) * FLT_EPSILON * (size + fabs(sum) + fabs(want)) + 1e-30 +
                                   (call.y_bf16 ? fabs(want) / 256 : 0);
                const double got = result(m, n);
                if (!(fabs(got - want) <= tol)) return FAIL("%s: row %zu, column %zu: got %.9g want %.9g", isa, m, n, got, want);
            }
        if (!rows.intact() || !y.intact() || !bias.intact() || !residual.intact()) FAIL("%s: wrote out of bounds", isa);
        for (size_t m = 0; m < M; m++)
            for (size_t i = N * (call.y_bf16 ? 2 : 4); i < call.y_stride; i++)
                if (y.p()[m * call.y_stride + i] != 0x5a) return FAIL("%s: wrote between rows", isa);
    }
};

