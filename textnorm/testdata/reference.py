#!/usr/bin/env python3
"""Writes reference.json: TextNorm on made-up rewards, computed with numpy and scipy as the authors' code does it.

A transcription of kykim0/ddpo-overopt examples/scripts/reward_fns.py (scale_norm, softmax_score, mean_ensemble_score,
uw_ensemble, and the prompt set of pickscore_base2), for one image at a time and for the whole prompt set. Where all
rewards are equal the original divides 0 by 0; the expected value is then 1/P (see Calibrate).

    python3 reference.py > reference.json      (numpy 2.4, scipy 1.17)
"""
import json

import numpy as np
from scipy.special import softmax


def scale_norm(l, c):
    span = np.max(l) - np.min(l)
    return (l - np.min(l)) / span * c if span > 0 else np.zeros_like(l)


def first_column(l, c):
    return softmax(scale_norm(l, c), axis=-1)[:, 0]


def per_image(l, c):
    return np.concatenate([first_column(l[[b]], c) for b in range(len(l))])


rng = np.random.default_rng(2404)
calibrate = []
rewards = {
    "pickscore": 20 + 2 * rng.standard_normal((6, 33)),
    "imagereward": rng.standard_normal((4, 5)),
    "half precision ties": (24 + rng.standard_normal((8, 7))).astype(np.float16).astype(np.float64),
    "integers with many ties": rng.integers(0, 3, (9, 6)).astype(np.float64),
    "two texts": rng.standard_normal((5, 2)),
    "one image": rng.standard_normal((1, 12)),
    "one row of equal rewards": np.vstack([np.full((1, 4), 0.25), rng.standard_normal((3, 4))]),
    "all equal": np.full((3, 8), -1.5),
    "prompt is the lowest": np.array([[0.0, 1.0, 1.0], [0.0, 0.5, 2.0]]),
    "tiny differences": 1e6 + 1e-6 * rng.standard_normal((3, 4)),
    "huge": 1e300 * rng.standard_normal((3, 4)),
}
for name, r in rewards.items():
    for c in (0.1, 1.0, 3.0, 5.0, 10.0, 50.0):
        calibrate.append({"name": name, "scale": c, "rewards": r.tolist(), "image": per_image(r, c).tolist(),
                          "set": first_column(r, c).tolist()})

ensembles = []
for k in (1, 2, 3, 5):
    probs = rng.random((k, 7))
    mean = np.mean(probs, axis=0)
    for penalty in (0.0, 0.05, 0.1, 1.0, 10.0):
        uw = mean - penalty * np.mean((probs - mean) ** 2, axis=0)
        ensembles.append({"members": probs.tolist(), "penalty": penalty, "mean": mean.tolist(), "penalised": uw.tolist()})

sets = []
for prompt, contrastive in (
    ("a cat", ["two cats", "a dog", "two cats", "a cat", "A cat", "three cats"]),
    ("a cat", []),
    ("un café", ["un café ", "un cafe", "zwei Cafés", "éclair", "二", "a"]),
):
    rest = set(contrastive) - {prompt}
    sets.append({"prompt": prompt, "contrastive": contrastive, "texts": [prompt] + sorted(rest)})

print(json.dumps({"calibrate": calibrate, "ensembles": ensembles, "prompt_sets": sets}, ensure_ascii=False))
