#!/usr/bin/env python3
"""Writes the reference values of the alignment tests, computed with numpy, scipy and scikit-learn.

    python3 reference.py [TIA2 release folder]        (numpy 2.4, scipy 1.17, scikit-learn 1.9)

small/          a made-up set in the layout of the release: labels of all kinds, a prompt of one class, duplicates among
                contrastive prompts, a prompt that contrasts with itself, one without contrastive prompts
small.json      every figure of every score on it, for each protocol and each min-max mode
release.json    the same for the three public sets: each prompt's figures of the two raw rewards, and all means

The scores are made up by a formula that the Go test computes too (made_up there): no file of scores is needed.
"""
import json
import pathlib
import sys
import warnings

import numpy as np
from scipy import stats
from scipy.special import softmax
from sklearn.metrics import average_precision_score, roc_auc_score

warnings.simplefilter("ignore")
HERE = pathlib.Path(__file__).parent
NAMES = ("auroc", "auprc", "ap5", "ap10", "ap25", "spearman", "kendall")
SCALES, PENALTIES = (0.1, 1.0, 3.0, 5.0, 10.0), (0.05, 0.1, 0.5, 1.0)


def hashed(x):
    """splitmix64 of a uint64 array, as numbers in [0, 1)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2.0**53


def made_up(reward, prompt, positive, texts):
    """Rewards [B, P] of the prompt with this index: noise, and more for the true prompt of a positive image."""
    image, text = np.meshgrid(np.arange(len(positive), dtype=np.uint64), np.arange(texts, dtype=np.uint64), indexing="ij")
    code = ((np.uint64(reward) * np.uint64(1000) + np.uint64(prompt)) * np.uint64(1000) + image) * np.uint64(1000) + text
    r = hashed(code)
    r[:, 0] += 0.25 * np.asarray(positive)
    return r if reward == 0 else np.floor(r * 8)  # the second reward has many ties


def auroc(s, y):
    """Rounded to the half pair that it is a multiple of, so that equal areas compare as equal."""
    pairs = 2 * y.sum() * (len(y) - y.sum())
    return float(round(roc_auc_score(y, s) * pairs) / pairs)


def figures(s, y, g):
    ap = lambda k: average_precision_score(*(v[np.argsort(-s, kind="stable")[:k]] for v in (y, s)))
    values = (auroc(s, y), average_precision_score(y, s), ap(5), ap(10), ap(25),
              stats.spearmanr(s, g).statistic, stats.kendalltau(s, g).statistic)
    return dict(zip(NAMES, (float(v) + 0.0 for v in values)))


def confidence(r, c, minmax):
    # Sorted, so that rounding does not part images whose rewards are the same numbers in another order: they are ties.
    r = np.concatenate([r[:, :1], np.sort(r[:, 1:], axis=1)], axis=1)

    def one(l):
        span = np.max(l) - np.min(l)
        return softmax((l - np.min(l)) / span * c if span > 0 else 0 * l, axis=-1)[:, 0]
    return one(r) if minmax == "set" else np.concatenate([one(r[[b]]) for b in range(len(r))])


def load(folder, name):
    labels = json.load(open(folder / f"human_annotations/human_labels_{name}.json"))
    contrastive = json.load(open(folder / f"prompts/prompt_set_{name}.json"))
    prompts = {}
    for entry in labels.values():
        prompts.setdefault(entry["caption"], []).append(entry["human_labels"])
    out = []
    for i, (caption, images) in enumerate(prompts.items()):
        y = np.array([l.count(1) >= 2 for l in images])
        g = np.array([np.mean([0.5 if v < 0 else v for v in l]) for l in images])
        texts = [caption] + sorted(set(contrastive.get(caption, [])) - {caption})
        out.append({"caption": caption, "y": y, "g": g, "r": [made_up(k, i, y, len(texts)) for k in (0, 1)]})
    return out


def choose(protocol, quality):
    """Index of the setting of each prompt; quality [prompts][settings], None where it says nothing."""
    if protocol == "fixed":
        return [0] * len(quality)
    chosen = []
    for i, own in enumerate(quality):
        rows = [own] if protocol == "oracle" else quality[:i] + quality[i + 1:]
        rows = [q for q in rows if q is not None]
        means = [sum(q[s] for q in rows) / len(rows) for s in range(len(rows[0]))] if rows else [0]
        chosen.append(int(np.argmax(means)))
    return chosen


def evaluate(prompts, protocol, minmax):
    """By score, then by caption: the figures, human, and the chosen scale and penalty."""
    result = {}
    mixed = lambda p: 0 < p["y"].sum() < len(p["y"])
    for k, name in enumerate("ab"):
        result[name] = {p["caption"]: figures(p["r"][k][:, 0], p["y"], p["g"]) for p in prompts if mixed(p)}
    for name, members, penalties in (("a_textnorm", (0,), (0.0,)), ("b_textnorm", (1,), (0.0,)),
                                     ("textnorm_mean", (0, 1), (0.0,)), ("textnorm_ur", (0, 1), PENALTIES)):
        grid = [(c, l) for c in SCALES for l in penalties]
        if protocol == "fixed":
            grid = [(10.0, 0.1 if name == "textnorm_ur" else 0.0)]
        usable = [p for p in prompts if p["r"][0].shape[1] > 1]
        scores, quality = [], []
        for p in usable:
            conf = {c: np.stack([confidence(p["r"][k], c, minmax) for k in members]) for c, _ in grid}
            rows = []
            for c, l in grid:
                mean = conf[c].mean(axis=0)
                rows.append(mean - l * np.mean((conf[c] - mean) ** 2, axis=0))
            scores.append(rows)
            quality.append([auroc(s, p["y"]) for s in rows] if mixed(p) else None)
        result[name] = {}
        for p, rows, at in zip(usable, scores, choose(protocol, quality)):
            if mixed(p):
                result[name][p["caption"]] = {**figures(rows[at], p["y"], p["g"]), "scale": grid[at][0], "penalty": grid[at][1]}
    return result


def means(result):
    return {name: {m: float(np.nanmean([p[m] for p in per.values()])) for m in NAMES} for name, per in result.items()}


def rounded(x):
    if isinstance(x, dict):
        return {k: rounded(v) for k, v in x.items()}
    return None if x != x else float(f"{x:.11g}")


def write_small():
    rng = np.random.default_rng(525)
    contrastive = {
        "a red cube": ["a blue cube", "a red ball", "a blue cube", "two red cubes"],
        "two cats": ["two cats", "one cat", "three cats", "two dogs", "two dogs"],
        "un café \"noir\" & <crème>": ["un thé", "deux cafés"],
        "a dog left of a cat": ["a cat left of a dog", "a dog right of a cat", "a dog", "a cat"],
        "always right": ["always wrong", "sometimes right"],
        "never contrasted": [],
        "three green birds": [f"{n} {c} birds" for n in ("two", "three", "four") for c in ("green", "blue", "red")],
    }
    labels = {}
    kinds = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0, -1], [1, 1, -1], [-1, 0, 0]]
    for i, caption in enumerate(contrastive):
        for j in range(12 + 5 * (i % 3)):
            kind = [1, 1, 1] if caption == "always right" else kinds[rng.integers(len(kinds))]
            name = f"image_{i}_{j}.jpg"
            labels[name] = {"image": name, "caption": caption, "human_labels": kind}
    for path, data in (("prompts/prompt_set_small.json", contrastive), ("human_annotations/human_labels_small.json", labels)):
        lines = ",\n".join(f"{json.dumps(k, ensure_ascii=False)}: {json.dumps(v, ensure_ascii=False)}" for k, v in data.items())
        (HERE / "small" / path).write_text("{\n" + lines + "\n}\n")
    prompts = load(HERE / "small", "small")
    out = {f"{protocol} {minmax}": rounded(evaluate(prompts, protocol, minmax))
           for protocol in ("fixed", "cv", "oracle") for minmax in ("image", "set")}
    (HERE / "small.json").write_text(json.dumps(out, ensure_ascii=False) + "\n")


def write_release(folder):
    out = {}
    for name in ("comprehensive", "composition", "counting"):
        prompts = load(folder, name)
        fixed = evaluate(prompts, "fixed", "image")
        out[name] = {"prompts": {r: {c: [v[m] for m in NAMES] for c, v in fixed[r].items()} for r in "ab"},
                     "fixed": means(fixed), "cv": means(evaluate(prompts, "cv", "image"))}
        for per in out[name]["prompts"].values():
            for caption, values in per.items():
                per[caption] = [float(f"{v:.11g}") for v in values]
    (HERE / "release.json").write_text(json.dumps(out) + "\n")


write_small()
if len(sys.argv) > 1:
    write_release(pathlib.Path(sys.argv[1]))
