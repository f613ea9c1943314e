"""Embeds the demo's set with the references (transformers, PIL, float32) and measures alignment with scikit-learn.

TextNorm is as its authors coded it (min-max over the prompts of one picture, softmax, first column), at the scale that
the engine uses by default. Nothing here is chosen on the set.
"""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.stats import kendalltau, spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

import bpe

SCALE = 10.0


def load_set(folder):
    folder = Path(folder)
    read = lambda path: json.loads((folder / path).read_text(encoding="utf-8"))
    return read("prompts/prompt_set_demo.json"), read("human_annotations/human_labels_demo.json")


def check_tokens(tokenizer, folder, texts):
    """The training's tokenizer and the library's must agree."""
    lines = (Path(folder) / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
    ours = bpe.Tokenizer([tuple(line.split(" ")) for line in lines])
    for text in texts:
        if tokenizer(text)["input_ids"] != ours.encode(text):
            raise SystemExit(f"token ids differ for {text!r}")


@torch.inference_mode()
def embed(model_folder, set_folder):
    """The arrays of ref.npz: names and texts, pixels of the first pictures, ids and L2-normalised embeddings."""
    prompts, labels = load_set(set_folder)
    model = CLIPModel.from_pretrained(model_folder).float().eval()
    processor = CLIPImageProcessor.from_pretrained(model_folder)
    tokenizer = CLIPTokenizer.from_pretrained(model_folder)
    texts = list(dict.fromkeys(t for prompt, others in prompts.items() for t in (prompt, *others)))
    check_tokens(tokenizer, model_folder, texts)
    names, images, first = list(labels), [], None
    for i in range(0, len(names), 64):
        pictures = [Image.open(Path(set_folder) / "images" / "demo" / n).convert("RGB") for n in names[i : i + 64]]
        pixels = processor(pictures, return_tensors="pt")["pixel_values"]
        first = pixels[:8] if first is None else first
        images.append(model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output))
    ids = [tokenizer(t, return_tensors="pt")["input_ids"] for t in texts]
    text = torch.cat([model.text_projection(model.text_model(input_ids=i).pooler_output) for i in ids])
    unit = lambda x: torch.nn.functional.normalize(x, dim=-1).numpy()
    width = max(i.shape[1] for i in ids)
    padded = np.array([i[0].tolist() + [-1] * (width - i.shape[1]) for i in ids], np.int32)
    return {
        "image_names": np.array(names),
        "texts": np.array(texts),
        "input_ids": padded,
        "pixel_values": first.numpy(),
        "image_embeds": unit(torch.cat(images)),
        "text_embeds": unit(text),
        "logit_scale": model.logit_scale.detach().numpy(),
    }


def excerpt(ref, items=12):
    """A small part of the reference for the repository's tests: some texts with their ids, some pictures."""
    numbers = lambda row: [float(f"{x:.7g}") for x in row]
    every = lambda names: range(0, len(names), len(names) // items)
    return {
        "texts": [
            {
                "text": ref["texts"][i].item(),
                "ids": [int(t) for t in ref["input_ids"][i] if t >= 0],
                "embedding": numbers(ref["text_embeds"][i]),
            }
            for i in every(ref["texts"])
        ],
        "images": [
            {"image": ref["image_names"][i].item(), "embedding": numbers(ref["image_embeds"][i])}
            for i in every(ref["image_names"])
        ],
    }


def textnorm(logits, scale=SCALE):
    """[B, P] rewards, column 0 the prompt: the confidence of each picture, [B]."""
    low, high = logits.min(1, keepdims=True), logits.max(1, keepdims=True)
    x = (logits - low) / (high - low) * scale
    e = np.exp(x - x.max(1, keepdims=True))
    return e[:, 0] / e.sum(1)


def metrics(scores, labels):
    graded = labels.mean(1)
    positive = (graded > 0.5).astype(int)
    order = np.argsort(-scores, kind="stable")
    top = {f"ap{k}": average_precision_score(positive[order[:k]], scores[order[:k]]) for k in (5, 10, 25)}
    return {
        "auroc": roc_auc_score(positive, scores),
        "auprc": average_precision_score(positive, scores),
        **top,
        "spearman": spearmanr(scores, graded).statistic,
        "kendall": kendalltau(scores, graded).statistic,
    }


def alignment(ref, set_folder):
    """{prompt: {"clip": metrics, "clip_textnorm": metrics}}."""
    prompts, labels = load_set(set_folder)
    row = {n: i for i, n in enumerate(ref["image_names"].tolist())}
    column = {t: i for i, t in enumerate(ref["texts"].tolist())}
    scale, image, text = (ref[k].astype(np.float64) for k in ("logit_scale", "image_embeds", "text_embeds"))
    logits = np.exp(scale) * image @ text.T
    out = {}
    for prompt, contrasts in prompts.items():
        names = [n for n, entry in labels.items() if entry["caption"] == prompt]
        base = [prompt, *sorted(set(contrasts) - {prompt})]
        part = logits[np.ix_([row[n] for n in names], [column[t] for t in base])]
        truth = np.array([labels[n]["human_labels"] for n in names], float)
        out[prompt] = {"clip": metrics(part[:, 0], truth), "clip_textnorm": metrics(textnorm(part), truth)}
    return out


def summary(per_prompt, entries):
    """Means over all prompts and over each structure and side of the hold-out."""
    groups = {"all": list(per_prompt)}
    for prompt, entry in entries.items():
        groups.setdefault(f"structure: {entry['structure']}", []).append(prompt)
        groups.setdefault(f"held out: {entry['held_out'] or 'nothing'}", []).append(prompt)
    out = {}
    for name, names in groups.items():
        out[name] = {"prompts": len(names)}
        for reward in ("clip", "clip_textnorm"):
            rows = [per_prompt[p][reward] for p in names]
            out[name][reward] = {key: round(float(np.mean([row[key] for row in rows])), 4) for key in rows[0]}
    return out
