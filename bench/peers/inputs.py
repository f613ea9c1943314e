"""What all contenders compute on: pictures, and the texts of TIA2."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

# Mean and standard deviation of the pixels, which open_clip's models of this tool share.
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


def pictures(n: int, size: int, seed: int) -> np.ndarray:
    """Returns n pictures of smooth colours under noise, u8 [n, size, size, 3], the same ones for the same seed."""
    rng = np.random.default_rng(seed)
    out = np.empty((n, size, size, 3), np.uint8)
    for i in range(n):
        coarse = rng.integers(0, 256, (int(rng.integers(2, 9)), int(rng.integers(2, 9)), 3), np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC), np.int16)
        out[i] = np.clip(smooth + rng.integers(-12, 13, smooth.shape), 0, 255)
    return out


def save_pictures(pixels: np.ndarray, folder: Path) -> None:
    """Writes pictures as PNG, so that their order by name is that of the array."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"picture_{i:03d}.png")


def normalised(pixels: np.ndarray) -> np.ndarray:
    """Returns u8 pictures [n, size, size, 3] as a model's input, f32 [n, 3, size, size]."""
    scaled = (pixels.astype(np.float32) / 255 - np.array(PIXEL_MEAN, np.float32)) / np.array(PIXEL_STD, np.float32)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def read_texts(path: Path) -> list[str]:
    """Returns the distinct texts of a file with one text a line, or of all prompt sets of a folder laid out as the TIA2
    release, in the order in which they first stand there."""
    if path.is_dir():
        sets = sorted((path / "prompts").glob("prompt_set_*.json"))
        if not sets:
            raise SystemExit(f"peers: --texts {path}: no prompts/prompt_set_*.json there, and it is no file")
        prompts = [item for file in sets for item in json.loads(file.read_text("utf-8")).items()]
        lines = [text for prompt, others in prompts for text in (prompt, *others)]
    else:
        try:
            lines = read_lines(path)
        except OSError as err:
            raise SystemExit(f"peers: --texts {path}: {err.strerror}") from err
    texts = list(dict.fromkeys(line for line in lines if line))
    if not texts or any("\n" in text for text in texts):
        raise SystemExit(f"peers: --texts {path}: no texts, or some of more than one line")
    return texts


def read_lines(path: Path) -> list[str]:
    """Returns the lines of a file, which only line feeds end, as for tia2-engine."""
    return [line.removesuffix("\r") for line in path.read_text("utf-8").removesuffix("\n").split("\n")]


def write_texts(texts: list[str], path: Path) -> Path:
    """Writes one text a line and returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(text + "\n" for text in texts), "utf-8")
    return path


def spread_out(texts: list[str], n: int) -> list[str]:
    """Returns n of the texts, evenly spread over the list, all where there are fewer."""
    if len(texts) <= n:
        return list(texts)
    return [texts[i * len(texts) // n] for i in range(n)]
