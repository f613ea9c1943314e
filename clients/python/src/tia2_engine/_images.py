"""Pictures of all kinds to files of pictures.

Floats become bytes as in ddpo-pytorch, TRL and flow_grpo: ``(x * 255).round().clamp(0, 255)``, in the type and on the
device that the tensor has. torch is not imported: what has ``detach`` is a tensor.
"""

from __future__ import annotations

import io
import os
from typing import Any, Union

import numpy as np
from PIL import Image

CHANNELS = (1, 3, 4)

# What PNG holds as it is. Everything else is converted to RGB.
PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


class BadImage(ValueError):
    """A picture that cannot be sent: it fails, the others are scored."""


def split(images: Any) -> list[Any]:
    """Returns the pictures of a batch one by one: the items of a sequence, or the rows of a tensor or array of four
    dimensions, uint8 [H, W, C], BadImage where one has values that are not finite. Items are not read here: encode
    does that, on several threads."""
    if isinstance(images, (bytes, bytearray, memoryview, str, os.PathLike, Image.Image)):
        return [images]
    if not hasattr(images, "detach") and not hasattr(images, "__array__"):
        return list(images)
    if images.ndim == 3:
        return [images]
    if images.ndim != 4:
        raise ValueError(
            f"images of shape {tuple(images.shape)}: expected [N, C, H, W], [N, H, W, C] or a list of pictures"
        )
    array, floats = to_numpy(images)
    return [to_uint8(row) for row in channels_last(array, first=floats)]


def to_numpy(images: Any) -> tuple[Any, bool]:
    """Returns a tensor or array as an array on the CPU, and whether it was of floats. Floats of a tensor that are all
    finite become uint8 where they are, so that a quarter is copied from the device."""
    if not hasattr(images, "detach"):
        array = np.asarray(images)
        return array, bool(np.issubdtype(array.dtype, np.floating))
    tensor = images.detach()
    floats = bool(tensor.is_floating_point())
    if floats and bool(tensor.isfinite().all()):
        tensor = (tensor * 255).round().clamp(0, 255).byte()
    elif floats:
        tensor = tensor.float()
    return tensor.cpu().numpy(), floats


def to_uint8(array: Any) -> Any:
    """Returns floats 0..1 as bytes, as the trainers do it; BadImage, returned, where some are not finite."""
    if not np.issubdtype(array.dtype, np.floating):
        return array
    if not np.isfinite(array).all():
        return BadImage("has values that are not finite")
    return (array * 255).round().clip(0, 255).astype(np.uint8)


def channels_last(array: Any, first: bool) -> Any:
    """Moves the channels of [..., C, H, W] last. Where a shape can be read both ways, ``first`` decides."""
    lead, trail = array.shape[-3] in CHANNELS, array.shape[-1] in CHANNELS
    if not lead and not trail:
        raise BadImage(f"a picture of shape {array.shape[-3:]}: expected 1, 3 or 4 channels, first or last")
    if lead and (first or not trail):
        return np.moveaxis(array, -3, -1)
    return array


def encode(image: Any, jpeg_quality: int | None = None) -> bytes:
    """Returns the file of one picture: PNG, or JPEG without chroma subsampling where a quality is given. The bytes of a
    file, and the file that a path names, are returned as they are. Raises BadImage."""
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    try:
        if isinstance(image, (str, os.PathLike)):
            with open(image, "rb") as f:
                return f.read()
        picture = image if isinstance(image, Image.Image) else from_array(image)
        return save(picture, jpeg_quality)
    except BadImage:
        raise
    except (OSError, TypeError, ValueError) as e:  # PIL reads the file of a picture here
        raise BadImage(str(e)) from e


def from_array(image: Any) -> Image.Image:
    """Returns one picture, [C, H, W], [H, W, C] or [H, W], float 0..1 or uint8, as PIL's."""
    if isinstance(image, BadImage):
        raise image
    array, floats = to_numpy(image)
    if not floats and array.dtype not in (np.uint8, np.bool_):
        raise BadImage(f"numbers of type {array.dtype}: expected floats 0..1 or uint8")
    if array.ndim not in (2, 3) or array.size == 0:
        raise BadImage(f"a picture of shape {array.shape}: expected [C, H, W], [H, W, C] or [H, W]")
    if array.ndim == 3:
        array = channels_last(array, first=floats)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    array = to_uint8(array)
    if isinstance(array, BadImage):
        raise array
    if array.shape[2:] == (1,):
        array = array[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(array))


def save(picture: Image.Image, jpeg_quality: int | None) -> bytes:
    """Returns the file of a PIL picture. PNG at the lowest level: lossless all the same, and faster."""
    out = io.BytesIO()
    if jpeg_quality is None:
        if picture.mode not in PNG_MODES:
            picture = picture.convert("RGB")
        picture.save(out, "PNG", compress_level=1)
    else:
        if picture.mode not in ("L", "RGB"):
            picture = picture.convert("RGB")
        picture.save(out, "JPEG", quality=jpeg_quality, subsampling=0)
    return out.getvalue()


Picture = Union[bytes, str, "os.PathLike[str]", Image.Image, Any]  # one picture
Pictures = Any  # a batch: a sequence of Picture, or a tensor or array of four dimensions
