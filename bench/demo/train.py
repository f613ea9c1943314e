"""Trains the demo's CLIP on rendered scenes and saves it as a Hugging Face CLIPModel folder.

Contrastive training (InfoNCE both ways) where half of a batch differs from the other half in one thing only, and where
a caption that is also true of another scene of the batch is left out for it. Two linear heads that are thrown away
afterwards teach the patches what lies on them, which makes the little time go further.
"""

import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPConfig, CLIPModel

import bpe
from render import draw, place_for
from scenes import COLOURS, SHAPES, caption, held_out, meanings, near_misses, random_meaning, without_relation

SEED = 20240401
STEPS = 2000
IMAGE_SIZE, PATCH, CONTEXT = 64, 8, 32
WIDTH, HEADS, IMAGE_LAYERS, TEXT_LAYERS, EMBED = 128, 4, 5, 3, 128
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CLUSTERS, CLUSTER = 32, 4  # a batch: so many scenes, each with its near misses
LR, WARMUP, DECAY = 1.5e-3, 80, 0.05
PATCH_LAYER = 3  # the hidden state that the throw-away heads look at
MERGES_MAX = 400


def training_meaning(rng):
    while True:
        meaning = random_meaning(rng)
        if not held_out(meaning):
            return meaning


def merges():
    rng = np.random.default_rng([SEED, 1])
    return bpe.learn([caption(random_meaning(rng), rng) for _ in range(20000)], MERGES_MAX)


def config(vocab, end):
    tower = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": HEADS, "hidden_act": "gelu"}
    special = {"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}
    text = tower | special | {"vocab_size": vocab, "max_position_embeddings": CONTEXT}
    return CLIPConfig(
        text_config=text | {"num_hidden_layers": TEXT_LAYERS},
        vision_config=tower | {"image_size": IMAGE_SIZE, "patch_size": PATCH, "num_hidden_layers": IMAGE_LAYERS},
        projection_dim=EMBED,
    )


# --- batches ----------------------------------------------------------------------------------------------------------


def cluster(rng):
    """CLUSTER meanings: one and its near misses; where it has too few, more of others."""
    out = []
    while len(out) < CLUSTER:
        meaning = training_meaning(rng)
        near = [m for m in near_misses(rng, meaning).values() if not held_out(m)]
        rng.shuffle(near)
        out += [meaning, *near]
    return out[:CLUSTER]


def patch_labels(scene):
    """For each patch the colour and the shape on it (0: none) and whether an object's middle is there."""
    side = IMAGE_SIZE // PATCH
    at = (np.arange(side) + 0.5) / side
    x, y = np.tile(at, side), np.repeat(at, side)
    colour, shape = np.zeros(side * side, np.int64), np.zeros(side * side, np.int64)
    middle = np.zeros(side * side, np.float32)
    for t in scene.things:
        on = np.hypot(x - t.x, y - t.y) < t.r * 0.95
        colour[on], shape[on] = COLOURS.index(t.colour) + 1, SHAPES.index(t.shape) + 1
        middle[min(int(t.y * side), side - 1) * side + min(int(t.x * side), side - 1)] = 1
    return colour, shape, middle


class Batches:
    """Makes batches and remembers the signatures of all scenes that it made."""

    def __init__(self, tokenizer, seed):
        self.tokenizer, self.rng = tokenizer, np.random.default_rng(seed)
        self.signatures, self.numbers = set(), {}

    def number(self, meaning):
        return self.numbers.setdefault(meaning, len(self.numbers))

    def tokens(self, texts):
        ids = [self.tokenizer.encode(t) for t in texts]
        out = np.full((len(ids), max(map(len, ids))), self.tokenizer.end)
        for row, i in zip(out, ids):
            row[: len(i)] = i
        return torch.from_numpy(out)

    def next(self):
        """(pixels, tokens, true): texts are the scenes' captions, then one false caption for each scene;
        true[i, t] says whether text t is true of scene i."""
        rng = self.rng
        scenes = [place_for(rng, m, for_set=False) for _ in range(CLUSTERS) for m in cluster(rng)]
        self.signatures.update(s.signature() for s in scenes)
        told = [s.meaning for s in scenes]
        said = [without_relation(m) if rng.random() < 0.3 else m for m in told]
        false = []
        for m in said:
            near = [n for n in near_misses(rng, m).values() if not held_out(n)]
            false.append(near[rng.integers(len(near))] if near else training_meaning(rng))
        tokens = self.tokens([caption(m, rng) for m in said + false])
        text = np.array([self.number(m) for m in said + false])
        true = np.zeros((len(told), len(text)), bool)
        for i, m in enumerate(told):
            for also in meanings(m):
                true[i] |= text == self.number(also)
        pixels = np.stack([draw(rng, s, IMAGE_SIZE, IMAGE_SIZE) for s in scenes])
        patches = [torch.from_numpy(np.stack(p)) for p in zip(*map(patch_labels, scenes))]
        return normalise(pixels), tokens, torch.from_numpy(true), patches


def normalise(pixels):
    x = torch.from_numpy(pixels).float().permute(0, 3, 1, 2) / 255
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


# --- training ---------------------------------------------------------------------------------------------------------


class PatchHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.colour, self.shape = nn.Linear(WIDTH, len(COLOURS) + 1), nn.Linear(WIDTH, len(SHAPES) + 1)
        self.middle = nn.Linear(WIDTH, 1)

    def forward(self, hidden, labels):
        h = self.norm(hidden[:, 1:]).flatten(0, 1)
        colour, shape, middle = (label.flatten() for label in labels)
        return (
            F.cross_entropy(self.colour(h), colour)
            + F.cross_entropy(self.shape(h), shape)
            + 2 * F.binary_cross_entropy_with_logits(self.middle(h).flatten(), middle)
        )


def contrast(logits, true):
    """Both ways: each scene must find its caption among all texts, each caption its scene among all scenes."""
    n = len(logits)
    own = torch.eye(n, logits.shape[1], dtype=torch.bool)
    masked = logits.masked_fill(true & ~own, -torch.inf)
    target = torch.arange(n)
    right = (masked.argmax(1) == target).float().mean()
    return (F.cross_entropy(masked, target) + F.cross_entropy(masked[:, :n].T, target)) / 2, right


def step_loss(model, heads, batch):
    pixels, tokens, true, patches = batch
    with torch.autocast("cpu", torch.bfloat16):
        seen = model.vision_model(pixel_values=pixels, output_hidden_states=True)
        read = model.text_model(input_ids=tokens)
        image = model.visual_projection(seen.pooler_output)
        text = model.text_projection(read.pooler_output)
    image, text = F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)
    loss, right = contrast(model.logit_scale.exp() * image @ text.T, true)
    patch = heads(seen.hidden_states[PATCH_LAYER].float(), patches)
    return loss, patch, right


def optimiser(model, heads):
    named = [*model.named_parameters(), *heads.named_parameters()]
    matrix = [p for n, p in named if p.ndim >= 2 and "embedding" not in n]
    rest = [p for n, p in named if p.ndim < 2 or "embedding" in n]
    groups = [{"params": matrix, "weight_decay": DECAY}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.98), eps=1e-6)


def rate(step, steps):
    """Linear warm-up, then half a cosine down to a hundredth."""
    if step < WARMUP:
        return (step + 1) / WARMUP
    done = (step - WARMUP) / max(1, steps - WARMUP)
    return 0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * done))


def train(steps, folder):
    """Trains for `steps` batches; writes the model folder, the training signatures and the log; returns the log."""
    torch.manual_seed(SEED)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = bpe.Tokenizer(merges())
    model = CLIPModel(config(len(tokenizer.ids), tokenizer.end))
    model.set_attn_implementation("eager")  # at this size a third faster to train than PyTorch's fused attention
    model.logit_scale.data.fill_(np.log(1 / 0.07))
    heads, batches = PatchHeads(), Batches(tokenizer, [SEED, 2])
    opt = optimiser(model, heads)
    model.train()
    began, log, sums = time.monotonic(), [], np.zeros(3)
    for step in range(steps):
        for g in opt.param_groups:
            g["lr"] = LR * rate(step, steps)
        loss, patch, right = step_loss(model, heads, batches.next())
        opt.zero_grad(set_to_none=True)
        (loss + 0.5 * patch).backward()
        nn.utils.clip_grad_norm_([*model.parameters(), *heads.parameters()], 1.0)
        opt.step()
        model.logit_scale.data.clamp_(max=np.log(100))
        sums += [loss.item(), patch.item(), right.item()]
        if (step + 1) % 50 == 0:
            mean = (sums / 50).round(4).tolist()
            sums[:] = 0
            log.append({"step": step + 1, "loss": mean[0], "patch_loss": mean[1], "right": mean[2],
                        "scale": round(model.logit_scale.exp().item(), 2), "seconds": round(time.monotonic() - began)})
            print(json.dumps(log[-1]), flush=True)
            if (step + 1) % 500 == 0:
                save(model, tokenizer, folder)
    through_f16(model)
    save(model, tokenizer, folder)
    np.save(folder.parent / "train_signatures.npy", np.array(sorted(batches.signatures), np.uint64))
    (folder.parent / "train_log.json").write_text(json.dumps(log, indent=1) + "\n")
    return log


def through_f16(model):
    """Rounds the matrices that GGUF may hold as f16, so that the f16 file has exactly the reference's weights."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim >= 2 and "position_embedding" not in name:
                p.copy_(p.half().float())


def save(model, tokenizer, folder):
    model.save_pretrained(folder)
    tokenizer.save(folder, CONTEXT)
    pre = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": IMAGE_SIZE},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": MEAN,
        "image_std": STD,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(pre, indent=2) + "\n")
