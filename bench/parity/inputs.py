"""What every model is asked: pictures of several shapes, and texts of several lengths."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

# By name, in the order that tia2-engine reads a folder in: width and height. One is smaller than any model's input.
PICTURES = {"1_landscape.jpg": (640, 427), "2_portrait.png": (301, 500), "3_small.png": (97, 96)}

# Two that say the opposite with the same words, punctuation and accents, a single word, and one that is longer than any
# model's context but BERT's.
TEXTS = (
    "a red cube on a blue sphere",
    "a blue cube on a red sphere",
    "Two corgis -- aren't they sisters? -- share 3 croissants (à 7:30) at the café!",
    "zebra",
    "an oil painting of a crowded harbour at dawn, with fishing boats, gulls, ropes and barrels, a lighthouse on the cliff "
    "behind it, long shadows of two sailors who carry a chest up the stairs, thin clouds over the hills in the distance, "
    "visible brush strokes, muted greens and greys under a warm sky, in the manner of the old Dutch masters, with a carved "
    "wooden frame around it that somebody has painted gold, and a small brass plate that nobody can read any more",
)


@dataclass(frozen=True)
class Inputs:
    """Pictures as files and texts."""

    pictures: list[Path]
    texts: list[str]


def write(folder: Path) -> Inputs:
    """Writes the pictures to folder/pictures and the texts, one a line, to folder/texts.txt."""
    (folder / "pictures").mkdir(parents=True)
    for seed, (name, size) in enumerate(PICTURES.items()):
        draw(seed, size).save(folder / "pictures" / name, quality=92)
    (folder / "texts.txt").write_text("".join(f"{text}\n" for text in TEXTS), "utf-8")
    return read(folder)


def read(folder: Path) -> Inputs:
    """Returns what write wrote."""
    return Inputs(sorted((folder / "pictures").iterdir()), (folder / "texts.txt").read_text("utf-8").splitlines())


def draw(seed: int, size: tuple[int, int]) -> Image.Image:
    """Returns a picture of smooth colours, a few hard edges and noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8))
    pixels = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.int16).copy()
    for _ in range(6):
        x, y = rng.integers(0, size[0]), rng.integers(0, size[1])
        pixels[y : y + size[1] // 4, x : x + size[0] // 4] = rng.integers(0, 256, 3)
    return Image.fromarray(np.clip(pixels + rng.integers(-15, 16, pixels.shape), 0, 255).astype(np.uint8))
