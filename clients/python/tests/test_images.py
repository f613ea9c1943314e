"""Pictures of all kinds become the files that the trainers' own conversion would make."""

import io

import numpy as np
import pytest
from PIL import Image

from tia2_engine._images import BadImage, channels_last, encode, split

RNG = np.random.default_rng(1)
BYTES = RNG.integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)


class Tensor:
    """What is used of a torch tensor, on an array."""

    def __init__(self, array, log=None):
        self.array, self.log = array, [] if log is None else log

    def _same(self, array):
        return Tensor(array, self.log)

    @property
    def ndim(self):
        return self.array.ndim

    @property
    def shape(self):
        return self.array.shape

    def detach(self):
        return self._same(self.array)

    def is_floating_point(self):
        return self.array.dtype.kind == "f"

    def isfinite(self):
        return self._same(np.isfinite(self.array))

    def all(self):
        return self._same(self.array.all())

    def __bool__(self):
        return bool(self.array)

    def __mul__(self, x):
        return self._same((self.array * self.array.dtype.type(x)).astype(self.array.dtype))

    def round(self):
        return self._same(self.array.round())

    def clamp(self, lo, hi):
        return self._same(self.array.clip(lo, hi))

    def byte(self):
        return self._same(self.array.astype(np.uint8))

    def float(self):
        return self._same(self.array.astype(np.float32))

    def cpu(self):
        self.log.append(self.array.dtype)
        return self

    def numpy(self):
        return self.array


def pixels(file):
    return np.asarray(Image.open(io.BytesIO(file)))


def reference(x):
    """ddpo_pytorch.rewards, jpeg_incompressibility: the same lines."""
    images = (x * 255).round().clip(0, 255).astype(np.uint8)
    return images.transpose(0, 2, 3, 1)


# Values whose products with 255 end in .5 (to even), lie outside of 0..1, and random ones.
EDGES = np.concatenate([np.arange(64) / 510, [-0.5, 1.5, 0, 1], RNG.random(2 * 3 * 40 - 68)])
FLOATS = EDGES.astype(np.float32).reshape(2, 3, 5, 8)


@pytest.mark.parametrize(
    "images, want",
    [
        ("uint8 NHWC", BYTES),
        ("uint8 NCHW", BYTES),
        ("float32 NCHW", reference(FLOATS)),
        ("float64 NCHW", reference(FLOATS.astype(np.float64))),
        ("float16 NCHW", reference(FLOATS.astype(np.float16))),
        ("float32 NHWC", reference(FLOATS)),
        ("tensor f32", reference(FLOATS)),
        ("tensor f16", reference(FLOATS.astype(np.float16))),
        ("tensor u8", BYTES),
        ("list of arrays", BYTES),
        ("list of tensors", reference(FLOATS)),
        ("list of PIL", BYTES),
        ("object array", BYTES),
    ],
)
def test_kinds(images, want):
    objects = np.empty(2, dtype=object)
    objects[:] = [Image.fromarray(b) for b in BYTES]
    batch = {
        "uint8 NHWC": BYTES,
        "uint8 NCHW": np.ascontiguousarray(BYTES.transpose(0, 3, 1, 2)),
        "float32 NCHW": FLOATS,
        "float64 NCHW": FLOATS.astype(np.float64),
        "float16 NCHW": FLOATS.astype(np.float16),
        "float32 NHWC": FLOATS.transpose(0, 2, 3, 1),
        "tensor f32": Tensor(FLOATS),
        "tensor f16": Tensor(FLOATS.astype(np.float16)),
        "tensor u8": Tensor(BYTES),
        "list of arrays": list(BYTES),
        "list of tensors": [Tensor(x) for x in FLOATS],
        "list of PIL": [Image.fromarray(b) for b in BYTES],
        "object array": list(objects),
    }[images]
    got = [pixels(encode(image)) for image in split(batch)]
    assert len(got) == 2
    for g, w in zip(got, want):
        np.testing.assert_array_equal(g, w)


def test_float64_is_rounded_as_it_is():
    x = np.full((1, 3, 2, 2), 0.5 / 255 + 1e-12)  # above one half: 1; as float32 it would be one half, which is 0
    assert pixels(encode(split(x)[0])).max() == 1


def test_tensor_is_copied_as_bytes():
    t = Tensor(FLOATS)
    split(t)
    assert t.log == [np.uint8]


@pytest.mark.parametrize(
    "array, want",
    [
        (np.zeros((4, 6), np.uint8), "L"),
        (np.zeros((1, 4, 6), np.float32), "L"),
        (np.zeros((4, 6, 4), np.uint8), "RGBA"),
        (np.ones((4, 6), bool), "L"),
    ],
)
def test_channels(array, want):
    image = Image.open(io.BytesIO(encode(array)))
    assert (image.mode, image.size) == (want, (6, 4))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "F", "I", "HSV"])
@pytest.mark.parametrize("quality", [None, 90])
def test_modes_of_PIL(mode, quality):
    picture = Image.fromarray(BYTES[0]).convert("RGB")
    picture = picture.convert("L").convert(mode) if mode in ("F", "I") else picture.convert(mode)
    assert Image.open(io.BytesIO(encode(picture, quality))).size == (7, 5)


def test_jpeg():
    smooth = np.linspace(0, 255, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)
    file = encode(smooth, jpeg_quality=95)
    image = Image.open(io.BytesIO(file))
    assert image.format == "JPEG" and all(layer[1:3] == (1, 1) for layer in image.layer)  # no subsampling
    assert np.abs(np.asarray(image).astype(int) - smooth).max() <= 8


def test_files_are_sent_as_they_are(tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(b"anything")
    for image in (b"anything", bytearray(b"anything"), memoryview(b"anything"), str(path), path):
        assert [encode(i) for i in split(image)] == [b"anything"]


@pytest.mark.parametrize(
    "image, message",
    [
        (np.zeros((4, 6, 3), np.int64), "int64"),
        (np.zeros((5, 6, 5), np.uint8), "1, 3 or 4 channels"),
        (np.zeros((0, 6, 3), np.uint8), "expected"),
        (np.zeros((2, 2, 2, 3), np.uint8), "expected"),
        (np.full((3, 4, 4), np.nan, np.float32), "not finite"),
        ("/no/such/file.png", "No such file"),
        (object(), "expected"),
    ],
)
def test_bad_images(image, message):
    with pytest.raises(BadImage, match=message):
        encode(image)


@pytest.mark.parametrize("kind", [np.asarray, Tensor])
def test_one_row_that_is_not_finite_costs_itself(kind):
    x = FLOATS.copy()
    x[1, 0, 0, 0] = np.nan
    good, bad = split(kind(x))
    np.testing.assert_array_equal(pixels(encode(good)), reference(FLOATS[:1])[0])
    with pytest.raises(BadImage, match="not finite"):
        encode(bad)


def test_shapes_that_are_no_batch():
    assert len(split(BYTES[0])) == 1
    with pytest.raises(ValueError, match="expected"):
        split(np.zeros((2, 2, 3, 4, 5)))


def test_channels_last_where_both_fit():
    x = np.arange(3 * 2 * 3).reshape(3, 2, 3)
    np.testing.assert_array_equal(channels_last(x, first=True), x.transpose(1, 2, 0))
    np.testing.assert_array_equal(channels_last(x, first=False), x)
