"""Renders the demo's set in the layout of the TIA2 release, and a manifest of what each picture shows.

Each prompt has pictures that show it and pictures that show a near miss. Three judges label each picture by rule: two
are strict (1 exactly when the picture shows the prompt), the third also accepts a picture that has the prompt's kinds
of objects and no others, in whatever number or relation. So the majority is the truth, and the graded label says more.
"""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from render import SET_SHARE, draw, place_for
from scenes import COLOURS, COUNT_MAX, HELD_KINDS, PICTURE_OF, SHAPES, caption, change_kind, group, held_out, kinds
from scenes import meanings, near_misses, other, random_meaning, without_relation

SEED = 20240501
PER_BIN = 4  # prompts of each structure ("count", "relation", "groups") from each side ("", "combination", "kind")
IMAGES = 30  # pictures of a prompt
RIGHT = (9, 18)  # how many of them may show it
SIDE = (88, 128)  # pixels
QUALITY = 88


def structure(meaning):
    if meaning[0] == "rel":
        return "relation"
    return "count" if len(meaning[1]) == 1 else "groups"


def choose_prompts(rng):
    """PER_BIN meanings for each structure and each side of the hold-out; single objects only where kinds are held."""
    bins = {(s, h): [] for s in ("count", "relation", "groups") for h in ("", "combination", "kind")}
    while any(len(found) < PER_BIN for found in bins.values()):
        meaning = random_meaning(rng)
        found = bins[structure(meaning), held_out(meaning)]
        total = sum(part[0] for part in without_relation(meaning)[1])
        if structure(meaning) == "groups" and total == 2 or structure(meaning) == "count" and total == 1:
            continue
        if len(found) < PER_BIN and meaning not in found:
            found.append(meaning)
    return [meaning for found in bins.values() for meaning in found]


# --- contrastive prompts ----------------------------------------------------------------------------------------------


def contrasts(rng, meaning):
    """Meanings unlike the prompt in count, colour, shape, binding or relation: none twice, none that it implies."""
    out = relation_contrasts(rng, meaning) if meaning[0] == "rel" else group_contrasts(rng, meaning)
    fine = lambda m: len(set(kinds(m))) == len(kinds(m)) and m not in meanings(meaning)
    return [m for m in dict.fromkeys(out) if fine(m)]


def relation_contrasts(rng, meaning):
    _, rel, a, b = meaning
    turned = "above" if rel == "left" else "left"
    out = [("rel", rel, b, a), ("rel", turned, a, b), ("rel", turned, b, a)]
    out.append(("rel", rel, (b[0], a[1]), (a[0], b[1])))
    for what in ("colour", "shape"):
        for _ in range(3):
            out += [("rel", rel, change_kind(rng, a, what), b), ("rel", rel, a, change_kind(rng, b, what))]
    return [*out, group((1, *a)), group((1, *b))]


def group_contrasts(rng, meaning):
    parts, out = list(meaning[1]), []
    for i, (n, *kind) in enumerate(parts):
        rest = parts[:i] + parts[i + 1 :]
        most = COUNT_MAX if not rest else 3
        out += [group((c, *kind), *rest) for c in range(1, most + 1) if c != n]
        for what in ("colour", "shape"):
            out += [group((n, *change_kind(rng, kind, what)), *rest) for _ in range(2 if rest else 4)]
        out += [group(part) for part in rest]
    if len(parts) == 2:
        (n, c, s), (m, d, t) = parts
        out += [group((m, c, s), (n, d, t)), group((n, d, s), (m, c, t))]
    else:
        n, c, s = parts[0]
        out += [group((other(rng, range(1, COUNT_MAX + 1), n), other(rng, COLOURS, c), other(rng, SHAPES, s)))]
    return out


# --- pictures ---------------------------------------------------------------------------------------------------------


def judge(prompt, shown):
    """The three labels of a picture that shows `shown`."""
    strict = int(prompt in meanings(shown))
    lenient = int(bool(strict) or set(kinds(prompt)) == set(kinds(shown)))
    return [strict, strict, lenient]


def shown_meanings(rng, prompt):
    """What the pictures of a prompt show, in random order: (what was changed or "", meaning)."""
    right = int(rng.integers(RIGHT[0], RIGHT[1] + 1))
    out = [("", prompt)] * right
    while len(out) < IMAGES:
        near = list(near_misses(rng, prompt).items())
        rng.shuffle(near)
        out += near[: IMAGES - len(out)]
    return [out[i] for i in rng.permutation(len(out))]


def encode(rng, scene):
    """A JPEG file of the scene; half of them wider or higher than the middle square that holds the objects."""
    side = int(rng.integers(SIDE[0], SIDE[1] + 1))
    long = int(side * rng.uniform(1.05, 1.4)) if rng.random() < 0.5 else side
    width, height = (long, side) if rng.random() < 0.5 else (side, long)
    file = io.BytesIO()
    Image.fromarray(draw(rng, scene, width, height)).save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()


def write_json(path, value, indent=4):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=indent) + "\n", encoding="utf-8")


def make_set(folder, train_signatures, manifest_path):
    """Writes the set into `folder` and the manifest; fails if a scene was seen in training."""
    folder, seen = Path(folder), set(train_signatures.tolist())
    (folder / "images" / "demo").mkdir(parents=True, exist_ok=True)
    prompts, labels, record, entries = {}, {}, {}, {}
    for p, meaning in enumerate(choose_prompts(np.random.default_rng([SEED, 0]))):
        rng, frame = np.random.default_rng([SEED, 1, p]), PICTURE_OF[p % len(PICTURE_OF)]
        say = lambda m: caption(m, np.random.default_rng([SEED, 2, p]), frame)  # one wording for a prompt's whole set
        prompt = say(meaning)
        prompts[prompt] = [say(m) for m in contrasts(rng, meaning)]
        entries[prompt] = {"structure": structure(meaning), "held_out": held_out(meaning)}
        for i, (change, shown) in enumerate(shown_meanings(rng, meaning)):
            scene = place_for(rng, shown, for_set=True)
            name = f"image_{p}_{i // 10}_{i % 10}.jpg"
            data = encode(rng, scene)
            (folder / "images" / "demo" / name).write_bytes(data)
            labels[name] = {"image": name, "caption": prompt, "human_labels": judge(meaning, scene.meaning)}
            record[name] = {
                "shows": caption(scene.meaning),
                "change": change,
                "signature": f"{scene.signature():016x}",
                "sha256": hashlib.sha256(data).hexdigest(),
            }
    write_json(folder / "prompts" / "prompt_set_demo.json", prompts)
    write_json(folder / "human_annotations" / "human_labels_demo.json", labels)
    overlap = sum(int(r["signature"], 16) in seen for r in record.values())
    if overlap:
        raise SystemExit(f"{overlap} scenes of the set were seen in training")
    write_json(manifest_path, manifest(train_signatures, entries, record), indent=1)


def manifest(train_signatures, prompts, images):
    return {
        "split": f"a scene belongs to the set when its signature is a multiple of {SET_SHARE}, else to training",
        "set_share": SET_SHARE,
        "training": {
            "signatures": len(train_signatures),
            "signatures_sha256": hashlib.sha256(train_signatures.astype(">u8").tobytes()).hexdigest(),
            "in_set_share": int((train_signatures % SET_SHARE == 0).sum()),
        },
        "overlap": 0,
        "kinds_held_out": sorted(" ".join(kind) for kind in HELD_KINDS),
        "prompts": prompts,
        "images": images,
    }


def contact_sheet(folder, path, prompts_shown=12):
    """The pictures of some prompts in rows, the right ones framed green: for a person to check the labels by eye."""
    labels = json.loads((Path(folder) / "human_annotations" / "human_labels_demo.json").read_text())
    by_prompt = {}
    for entry in labels.values():
        by_prompt.setdefault(entry["caption"], []).append(entry)
    chosen = list(by_prompt.items())[:: max(1, len(by_prompt) // prompts_shown)]
    sheet = Image.new("RGB", (12 * 106, len(chosen) * 124), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (prompt, entries) in enumerate(chosen):
        pen.text((4, row * 124 + 2), prompt, fill="black")
        for column, entry in enumerate(entries[:12]):
            picture = Image.open(Path(folder) / "images" / "demo" / entry["image"])
            picture.thumbnail((98, 98))
            x, y = column * 106, row * 124 + 16
            frame = {3: "green", 1: "orange", 0: "red"}[sum(entry["human_labels"])]
            pen.rectangle((x, y, x + picture.width + 5, y + picture.height + 5), fill=frame)
            sheet.paste(picture, (x + 3, y + 3))
    sheet.save(path)
