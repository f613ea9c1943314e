// dense_onednn.h against the same numbers as dense.h, where this CPU has bf16.
#include <stdexcept>

#include "../cpu/dense_onednn.h"
#include "dense_problem.h"

TIA2_CHECK(onednn) {
    check_part("dense_onednn", [] {
        for (const auto &s : {std::pair<size_t, size_t>{64, 48}, {192, 130}, {33, 70}})
            for (size_t M : {1, 7, 50})
                for (activation act : {activation::none, activation::gelu, activation::quick_gelu})
                    for (int flags = 0; flags < 8; flags++) {
                        problem p(tia2_format::bf16, M, s.first, s.second, flags & 4);
                        check_case("onednn K=%zu N=%zu M=%zu act=%d flags=%d", s.first, s.second, M, (int)act, flags);
                        std::vector<float> w(p.w.begin(), p.w.end());
                        p.call.act = act;
                        if (flags & 1) p.call.bias = p.bias.p();
                        if (flags & 2) p.add_residual();
                        try {
                            const tia2::dense_onednn d(w.data(), s.first, s.second);
                            if (!d.run(p.call)) return FAIL("out of memory");
                        } catch (const std::runtime_error &e) { // a CPU without bf16
                            if (tia2_cpu().dense_bf16 != tia2_dense_bf16_scalar) FAIL("%s", e.what());
                            return;
                        }
                        p.check("onednn");
                    }
    });
}
