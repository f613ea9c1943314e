#!/usr/bin/env python3
"""Writes reference.json: metrics of made-up scores and labels, computed with scikit-learn and scipy.

    python3 reference.py > reference.json      (scikit-learn 1.9, scipy 1.17, numpy 2.4)
"""
import itertools
import json
import math
import warnings

import numpy as np
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

warnings.simplefilter("ignore")  # constant input, no positive class: the values are what we want


def number(x):
    return None if math.isnan(x) else float(x) + 0.0


def ap_at(k, s, y):
    top = np.argsort(-s, kind="stable")[:k]
    return average_precision_score(y[top], s[top])


def best_of_n(s, y, n):
    """Mean over all subsets of n, ties sharing the pick: brute force."""
    values = []
    for subset in itertools.combinations(range(len(s)), n):
        subset = np.array(subset)
        values.append(np.mean(y[subset][s[subset] == np.max(s[subset])]))
    return float(np.mean(values))


rng = np.random.default_rng(1863)
ranking, curves, paired = [], [], []


def add(name, s, graded):
    s, graded = np.asarray(s, np.float64), np.asarray(graded, np.float64)
    y = graded > 0.5
    both = 0 < y.sum() < len(y)
    ranking.append({
        "name": name, "scores": s.tolist(), "graded": graded.tolist(),
        "auroc": number(roc_auc_score(y, s)) if both else None,
        "auprc": number(average_precision_score(y, s)),
        "ap5": number(ap_at(5, s, y)), "ap10": number(ap_at(10, s, y)), "ap25": number(ap_at(25, s, y)),
        "spearman": number(stats.spearmanr(s, graded).statistic), "kendall": number(stats.kendalltau(s, graded).statistic)})


for n in (2, 3, 7, 24, 50, 50, 50, 120):
    graded = rng.integers(0, 4, n) / 3
    graded[:2] = (0, 1)
    add(f"continuous, {n} items", rng.standard_normal(n) + graded, graded)
    add(f"ties, {n} items", rng.integers(0, max(2, n // 6), n), graded)
    add(f"half precision, {n} items", (25 + rng.standard_normal(n)).astype(np.float16), graded)
add("few positives", rng.standard_normal(50), np.eye(50)[7] + 0)
add("few negatives", rng.standard_normal(50), 1 - np.eye(50)[7])
add("all negative", rng.standard_normal(12), rng.integers(0, 2, 12) / 3)
add("all positive", rng.standard_normal(12), np.full(12, 1.0))
add("constant score", np.full(10, 0.3), np.arange(10) % 2)
add("perfect", np.arange(20), np.arange(20) // 10)
add("inverted", -np.arange(20), np.arange(20) // 10)
add("no positive in the top", -np.arange(30), np.arange(30) // 26)
add("halves", rng.standard_normal(50), rng.choice([0, 1 / 6, 1 / 3, 0.5, 2 / 3, 5 / 6, 1], 50))

for n, levels in ((1, 9), (4, 9), (9, 100), (10, 3), (11, 4), (8, 1)):
    s, y = rng.integers(0, levels, n).astype(float), rng.integers(0, 2, n).astype(float)
    curves.append({"scores": s.tolist(), "labels": y.tolist(), "curve": [best_of_n(s, y, k) for k in range(1, n + 1)]})

for n, shift in ((2, 0.1), (3, 0.1), (6, 0.05), (10, 0.0), (13, 0.06), (60, 0.02), (84, 0.03), (295, 0.0)):
    a, b = rng.random(n) * 0.2 + 0.7 + shift, rng.random(n) * 0.2 + 0.7
    test = stats.permutation_test((a, b), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples",
                                  n_resamples=200_000 if n > 13 else np.inf, vectorized=True, rng=rng, batch=1000)
    # scipy doubles the smaller tail; by the symmetry of sign flips that is the two-sided value, at most 1.
    case = {"a": a.tolist(), "b": b.tolist(), "mean": float(np.mean(a - b)), "p": float(test.pvalue), "low": None, "high": None}
    if n > 5:
        ci = stats.bootstrap((a - b,), np.mean, n_resamples=100_000, method="BCa", rng=rng, batch=1000).confidence_interval
        case["low"], case["high"] = float(ci.low), float(ci.high)
    paired.append(case)

print(json.dumps({"ranking": ranking, "curves": curves, "paired": paired}))
