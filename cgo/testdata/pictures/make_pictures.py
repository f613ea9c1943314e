"""Tiny pictures of every format and mode, and what Pillow 13 makes of them.

    pip install pillow==13.0.0 numpy torch torchvision
    python make_pictures.py

Writes, beside this file, the pictures, some that Pillow refuses, and expect.json: sha256 of the decoded RGB and of the
pixels of each pipeline at two sizes, and the values of the hpsv2 pipeline for a few. Only development needs it.
"""

import hashlib
import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
SIZES = (8, 24)
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
rng = np.random.default_rng(20240101)


def scene(w, h, channels=3):
    y, x = np.mgrid[0:h, 0:w]
    planes = [128 + 90 * np.sin(x / (3 + c) + y / (5 - c / 2) + c) + rng.normal(0, 6, (h, w)) for c in range(channels)]
    return np.clip(np.dstack(planes), 0, 255).astype(np.uint8)


def saved(img, fmt, **options):
    out = io.BytesIO()
    img.save(out, fmt, **options)
    return out.getvalue()


def chunk(kind, data, bad=0):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ bad)


def files():
    rgb = Image.fromarray(scene(31, 22))
    rgba = Image.fromarray(scene(29, 27, 4))
    palette = rgb.quantize(20)
    deep = Image.fromarray(scene(26, 23)[..., 0].astype(np.uint16) * 2)
    yield "jpeg_420.jpg", saved(rgb, "JPEG", quality=90, subsampling=2)
    yield "jpeg_444_progressive.jpg", saved(rgb, "JPEG", quality=85, subsampling=0, progressive=True)
    yield "jpeg_grey.jpg", saved(rgb.convert("L"), "JPEG")
    yield "jpeg_cmyk.jpg", saved(Image.fromarray(scene(25, 21, 4), "CMYK"), "JPEG", quality=95)
    yield "jpeg_tall.jpg", saved(Image.fromarray(scene(19, 77)), "JPEG", quality=92)
    yield "png_rgb.png", saved(rgb, "PNG")
    yield "png_rgba.png", saved(rgba, "PNG")
    yield "png_grey_alpha.png", saved(rgba.convert("LA"), "PNG")
    yield "png_palette.png", saved(palette, "PNG", transparency=3)
    yield "png_1bit.png", saved(rgb.convert("1"), "PNG")
    yield "png_16bit.png", saved(deep, "PNG")
    yield "png_tall.png", saved(Image.fromarray(scene(12, 90)), "PNG")
    yield "png_wide.png", saved(Image.fromarray(scene(90, 12)), "PNG")
    yield "png_odd_crop.png", saved(Image.fromarray(scene(24, 27)), "PNG")  # (27 - 24) mod 4 == 3: half-even is not floor
    yield "webp_lossy.webp", saved(rgb, "WEBP", quality=80)
    yield "webp_alpha.webp", saved(rgba, "WEBP", lossless=True, exact=True)
    yield "webp_animated.webp", saved(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(90)], quality=80)
    yield "gif_interlaced.gif", saved(palette, "GIF", interlace=1)
    yield "gif_transparent.gif", saved(palette, "GIF", interlace=0, transparency=2)
    yield "bmp_24.bmp", saved(rgb, "BMP")
    yield "bmp_8.bmp", saved(palette, "BMP")
    yield "bmp_1.bmp", saved(rgb.convert("1"), "BMP")
    run = b"".join(bytes([31, y % 5]) + b"\0\0" for y in range(22)) + b"\0\1"
    colours = bytes(range(7, 7 + 20))
    head = struct.pack("<IiiHHIIiiII", 40, 31, 22, 1, 8, 1, len(run), 0, 0, 5, 0)
    yield "bmp_rle8.bmp", b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + 20) + head + colours + run

    for name, data in (("cut.jpg", saved(rgb, "JPEG")), ("cut.png", saved(rgb, "PNG")), ("cut.webp", saved(rgb, "WEBP")),
                       ("cut.gif", saved(palette, "GIF")), ("cut.bmp", saved(rgb, "BMP"))):
        yield name, data[: len(data) * 2 // 3]
    yield "no_end.jpg", saved(rgb, "JPEG")[:-2]
    head = struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(20))) + chunk(b"IEND", b"")
    yield "bad_checksum.png", b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"tEXt", b"a\0b", bad=1) + body
    yield "text_bomb.png", b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 21))) + body
    yield "huge.png", b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)) + body
    yield "text.txt", b"no picture\n"


def shortest(img, size):
    w, h = img.size
    return img.resize((size, int(size * h / w)) if w <= h else (int(size * w / h), size), Image.Resampling.BICUBIC)


def crop(img, size, half):
    left, top = (half(d - size) for d in img.size)
    return img.crop((left, top, left + size, top + size))


PIPELINES = {
    "openai": lambda img, s: crop(shortest(img, s), s, lambda d: round(d / 2)).convert("RGB"),
    "hf_clip": lambda img, s: crop(shortest(img.convert("RGB"), s), s, lambda d: d // 2),
    "blip_squash": lambda img, s: img.convert("RGB").resize((s, s), Image.Resampling.BICUBIC),
}


def hpsv2(img, size):
    import torchvision.transforms.functional as F
    x = F.to_tensor(img.convert("RGB"))
    scale = size / max(img.size)
    h, w = (round(d * scale) for d in x.shape[1:])
    x = F.resize(x, [h, w], F.InterpolationMode.BICUBIC, antialias=True)
    left, top = (size - w) // 2, (size - h) // 2
    x = F.pad(x, [left, top, size - w - left, size - h - top])
    return [round(float(v), 6) for v in F.normalize(x, MEAN, STD).flatten()]


def sha(img):
    return hashlib.sha256(np.asarray(img).tobytes()).hexdigest()


def main():
    expect = {"sizes": SIZES, "mean": MEAN, "std": STD, "files": {}, "refused": []}
    for name, data in files():
        (HERE / name).write_bytes(data)
        try:
            img = Image.open(HERE / name)
            img.load()
        except Exception:  # noqa: BLE001  whatever is raised, the picture is refused
            expect["refused"].append(name)
            continue
        entry = {"format": img.format, "mode": img.mode, "width": img.width, "height": img.height, "rgb": sha(img.convert("RGB"))}
        for pipe, run in PIPELINES.items():
            entry[pipe] = {size: sha(run(img, size)) for size in SIZES}
        if name in ("jpeg_420.jpg", "png_odd_crop.png", "png_wide.png"):
            entry["hpsv2"] = {SIZES[0]: hpsv2(img, SIZES[0])}
        expect["files"][name] = entry
    (HERE / "expect.json").write_text(json.dumps(expect, indent=1) + "\n")


if __name__ == "__main__":
    main()
