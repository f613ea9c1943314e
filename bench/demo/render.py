"""Draws scenes: places the objects, colours them, and says on which side of the split the result is.

`place` turns a meaning into a scene (objects with positions in a unit square); `draw` turns a scene into pixels.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from scenes import digest, settle

RGB = {
    "red": (214, 38, 38),
    "orange": (246, 138, 22),
    "yellow": (246, 222, 40),
    "green": (44, 158, 58),
    "blue": (38, 84, 214),
    "purple": (142, 50, 172),
    "white": (246, 246, 246),
    "black": (18, 18, 18),
}
SUPERSAMPLE = 3  # drawn this many times larger, then averaged: anti-aliasing
SET_SHARE = 16  # one signature in so many belongs to the set, the others to training


@dataclass(frozen=True)
class Thing:
    colour: str
    shape: str
    x: float  # centre, 0..1, to the right
    y: float  # centre, 0..1, downwards
    r: float  # half the size, in the same unit
    turn: float  # radians, clockwise


@dataclass(frozen=True)
class Scene:
    meaning: tuple
    things: tuple

    def signature(self):
        """64-bit hash of what is where, on a grid of 1/32: scenes that look the same share it, whatever is behind."""
        return digest(sorted((t.colour, t.shape, int(t.x * 32), int(t.y * 32), int(t.r * 32)) for t in self.things))

    def for_set(self):
        return self.signature() % SET_SHARE == 0


def place(rng, meaning):
    """A scene that shows `meaning`: objects apart from each other and from the border, relations unmistakable."""
    meaning = settle(rng, meaning)
    while True:
        things = place_pair(rng, meaning) if meaning[0] == "rel" else place_groups(rng, meaning)
        if things is not None:
            return Scene(meaning, tuple(things))


def place_for(rng, meaning, for_set):
    """A scene on the wanted side of the split."""
    while True:
        scene = place(rng, meaning)
        if scene.for_set() == for_set:
            return scene


def thing(rng, kind, x, y, r):
    return Thing(*kind, float(x), float(y), float(r), float(rng.uniform(-0.3, 0.3)))


def place_pair(rng, meaning):
    _, rel, a, b = meaning
    ra, rb = rng.uniform(0.11, 0.19, 2)
    along = rng.uniform(ra + rb + 0.06, 0.95 - ra - rb)
    across = rng.uniform(-0.35, 0.35) * along
    low, high = 0.03 + ra, 0.97 - rb - along
    if high < low:
        return None
    start = rng.uniform(low, high)
    side = rng.uniform(0.03 + max(ra, rb - across), 0.97 - max(ra, rb + across))
    if not 0.03 + ra <= side <= 0.97 - ra or not 0.03 + rb <= side + across <= 0.97 - rb:
        return None
    if rel == "left":
        return [thing(rng, a, start, side, ra), thing(rng, b, start + along, side + across, rb)]
    return [thing(rng, a, side, start, ra), thing(rng, b, side + across, start + along, rb)]


def place_groups(rng, meaning):
    wanted = [part[1:] for part in meaning[1] for _ in range(part[0])]
    large = (0.32, 0.22, 0.18, 0.16, 0.145)[len(wanted) - 1]
    size = rng.uniform(0.105, large)
    things = []
    for kind in wanted:
        for _ in range(40):
            r = size * rng.uniform(0.85, 1.0)
            x, y = rng.uniform(0.03 + r, 0.97 - r, 2)
            if all(math.hypot(x - t.x, y - t.y) > (r + t.r) * 1.12 + 0.02 for t in things):
                things.append(thing(rng, kind, x, y, r))
                break
        else:
            return None
    return things


# --- outlines, for a shape of half size 1 around the origin -----------------------------------------------------------


def polar(radii, start=-math.pi / 2):
    step = 2 * math.pi / len(radii)
    return [(r * math.cos(start + i * step), r * math.sin(start + i * step)) for i, r in enumerate(radii)]


def heart():
    points = []
    for i in range(40):
        t = 2 * math.pi * i / 40
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((x / 16.5, -(y + 2.5) / 15))
    return points


ARM = 0.31
OUTLINES = {
    "circle": polar([0.95] * 48),
    "square": [(-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)],
    "triangle": [(0, -1.0), (0.95, 0.75), (-0.95, 0.75)],
    "star": polar([1.08, 0.45] * 5),
    "cross": [
        (-ARM, -1), (ARM, -1), (ARM, -ARM), (1, -ARM), (1, ARM), (ARM, ARM),
        (ARM, 1), (-ARM, 1), (-ARM, ARM), (-1, ARM), (-1, -ARM), (-ARM, -ARM),
    ],
    "heart": heart(),
    "ring": polar([1.0] * 48),
}  # fmt: skip
HOLE = polar([0.52] * 48)


def draw(rng, scene, width, height):
    """The scene as uint8 [height, width, 3]; its unit square is the middle square of the picture."""
    side, k = min(width, height), SUPERSAMPLE
    left, top = (width - side) / 2, (height - side) / 2
    layer = Image.new("RGBA", (width * k, height * k), (0, 0, 0, 0))
    pen = ImageDraw.Draw(layer)
    for t in scene.things:
        scale = t.r * side * k
        cos, sin = math.cos(t.turn) * scale, math.sin(t.turn) * scale
        cx, cy = (left + t.x * side) * k, (top + t.y * side) * k
        at = lambda points: [(cx + x * cos - y * sin, cy + x * sin + y * cos) for x, y in points]
        shade = np.clip(np.array(RGB[t.colour]) + rng.normal(0, 7, 3), 0, 255).astype(int)
        pen.polygon(at(OUTLINES[t.shape]), fill=(*shade.tolist(), 255))
        if t.shape == "ring":
            pen.polygon(at(HOLE), fill=(0, 0, 0, 0))
    # Averaging with transparent black is what premultiplied alpha asks for.
    pixels = np.asarray(layer.reduce(k), np.float32)
    ground = background(rng, scene, width, height)
    out = ground * (1 - pixels[..., 3:] / 255) + pixels[..., :3]
    out += rng.normal(0, rng.uniform(0, 4), (height, width, 1))
    return np.clip(out + 0.5, 0, 255).astype(np.uint8)


def background(rng, scene, width, height):
    """A dull ground, f32 [height, width, 3], flat, sloping, cloudy or striped, unlike the objects in brightness."""
    used = {t.colour for t in scene.things}
    ranges = [(95, 165)]
    if not used & {"white", "yellow"}:
        ranges.append((180, 225))
    if not used & {"black", "blue", "purple"}:
        ranges.append((30, 70))
    low, high = ranges[rng.integers(len(ranges))]
    tint = lambda: rng.uniform(low, high) + rng.uniform(-12, 12, 3)
    one, two = tint(), tint()
    x = np.linspace(0, 1, width, dtype=np.float32)[None, :]
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    style = rng.integers(4)
    angle = rng.uniform(0, 2 * math.pi)
    slope = math.cos(angle) * (x - 0.5) + math.sin(angle) * (y - 0.5)
    if style == 0:
        mix = np.zeros((height, width), np.float32)
    elif style == 1:
        mix = slope + 0.5
    elif style == 2:
        rough = Image.fromarray(rng.integers(0, 256, (4, 4), dtype=np.uint8))
        mix = np.asarray(rough.resize((width, height), Image.Resampling.BICUBIC), np.float32) / 255
    else:
        mix = 0.5 + 0.5 * np.sin(slope * rng.uniform(8, 30) + angle)
    return one + np.clip(mix, 0, 1)[..., None] * (two - one)
