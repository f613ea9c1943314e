"""Fits the polynomials of v_gelu and v_quick_gelu (simd_math.inc) and prints their coefficients and errors.

v_gelu: gelu(x) = x/2 + x * h(x), h(x) = erf(x / sqrt 2) / 2, which is odd: h(x) = c * P(c*c - MIDDLE) with c = x clamped to
+-END and MIDDLE = END^2/2. The centred variable keeps the terms of P below 0.2, so a Horner chain in f32 loses nothing.
P is the minimax polynomial of the error of gelu relative to max(1, |x|), under the condition END * P(END^2 - MIDDLE) = 1/2,
which makes gelu exactly 0 or x beyond END. Of the f32 neighbours of its three lowest coefficients those with the least
error of the whole computation in f32 are taken.

v_quick_gelu: 2^r on [-1/2, 1/2], minimax of the error relative to it, rounded to f32.

Run with numpy 1.21 or newer; the output is the same each time.
"""
import itertools
import math

import numpy as np

DEGREE = 13
END = 5.25  # Phi(-END) = 7.6e-8 is the error that the condition itself brings
MIDDLE = END * END / 2  # exact in f32


def f32(a):
    return np.asarray(a).astype(np.float32)


def remez(basis, target, rounds=60):
    """Coefficients c that minimise max |basis @ c - target|: the exchange algorithm, all extrema at once."""
    n = basis.shape[1]
    points = np.linspace(0, len(target) - 1, n + 1).round().astype(int)
    best = (math.inf, None)
    for _ in range(rounds):
        solved = np.linalg.solve(np.column_stack([basis[points], (-1.0) ** np.arange(n + 1)]), target[points])
        error = basis @ solved[:n] - target
        if abs(error).max() < best[0]:
            best = (abs(error).max(), solved[:n])
        # The greatest error of each run of one sign; of these the n + 1 neighbours whose least is the greatest.
        runs = np.split(np.arange(len(error)), np.flatnonzero(np.diff(np.sign(error))) + 1)
        peaks = np.array([r[abs(error[r]).argmax()] for r in runs])
        starts = range(len(peaks) - n)
        if not starts:
            break
        at = max(starts, key=lambda i: abs(error[peaks[i : i + n + 1]]).min())
        if (peaks[at : at + n + 1] == points).all():
            break
        points = peaks[at : at + n + 1]
    return best


def fit():
    """The error of the best polynomial and its coefficients in w = x^2 - MIDDLE, lowest first."""
    x = END * np.sin(np.linspace(0, math.pi / 2, 20001))[1:]
    s = (x * x - MIDDLE) / MIDDLE  # in [-1, 1]
    top = (END * END - MIDDLE) / MIDDLE
    weight = x / np.maximum(1, x)
    h = np.array([math.erf(v / math.sqrt(2)) / 2 for v in x])
    # P = 1/2 / END + (s - top) * Q(s) meets the condition.
    q = np.polynomial.chebyshev.chebvander(s, DEGREE - 1) * (s - top)[:, None]
    error, coefs = remez(q * (x * weight)[:, None], (h - x * 0.5 / END) * weight)
    p = np.polynomial.polynomial.polymul([-top, 1], np.polynomial.chebyshev.cheb2poly(coefs))
    p[0] += 0.5 / END
    return error, p / MIDDLE ** np.arange(DEGREE + 1)


def gelu(x, coefs):
    """What v_gelu computes, up to the rare double rounding of an fma made of f64."""
    c = f32(np.clip(x, -END, END))
    w = f32(c.astype(float) ** 2 - MIDDLE)
    p = np.full_like(w, coefs[-1])
    for k in coefs[-2::-1]:
        p = f32(p.astype(float) * w + float(k))
    return f32(f32(c * p).astype(float) * x + 0.5 * x.astype(float))


def error_of(coefs, x, exact):
    return abs(gelu(x, coefs) - exact) / np.maximum(1, abs(x))


def print_coefficients(coefs):
    print("coefficients, highest first:")
    for c in coefs[::-1]:
        print("    %.9gf," % c)


def print_exp2():
    r = np.cos(np.linspace(0, math.pi, 20001))[::-1] / 2
    error, coefs = remez(np.polynomial.chebyshev.chebvander(2 * r, 5) / 2 ** r[:, None], np.ones_like(r))
    print("2^r: error of the polynomial %.3g of its value" % error)
    print_coefficients(f32(np.polynomial.chebyshev.cheb2poly(coefs) * 2.0 ** np.arange(6)))


def print_gelu():
    fit_error, coefs = fit()
    coefs = f32(coefs)
    ends = f32([-1e30, 1e30, -END, END])
    exact_of = lambda x: np.array([v / 2 * math.erfc(-v / math.sqrt(2)) for v in x.astype(float)])
    x = f32(np.linspace(-6, 6, 24001))
    exact = exact_of(x)
    best = (math.inf, None)
    for steps in itertools.product(range(-1, 2), range(-2, 3), range(-3, 4)):
        near = coefs.copy()
        near[:3] += f32(steps) * np.spacing(near[:3])
        if (gelu(ends, near) == f32([0, 1e30, 0, END])).all():
            best = min(best, (error_of(near, x, exact).max(), near.tolist()))
    worst, coefs = best
    x = f32(np.linspace(-7, 7, 1400001))
    error = error_of(coefs, x, exact_of(x))
    print("gelu: error of the polynomial %.3g, in f32 %.3g of max(1, |x|) at x = %.4f, %.3g where |x| <= 1"
          % (fit_error, error.max(), x[error.argmax()], error[abs(x) <= 1].max()))
    print("END %.9g, MIDDLE %.9g" % (END, MIDDLE))
    print_coefficients(coefs)


if __name__ == "__main__":
    print_gelu()
    print_exp2()
