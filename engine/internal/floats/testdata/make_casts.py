"""Writes casts.bin: float32 values, then what PyTorch casts them to (float16, then bfloat16), little-endian.

    python make_casts.py

Values: every rounding boundary of float16's subnormals and largest numbers, infinities, NaNs, random bit patterns.
"""

import struct
from pathlib import Path

import numpy as np
import torch

rng = np.random.default_rng(1)
bits = rng.integers(0, 2**32, 3000, dtype=np.uint64).astype(np.uint32)
halves = np.arange(0, 1024, 7, dtype=np.uint16).view(np.float16).astype(np.float32)  # subnormal halves
edges = np.concatenate([halves, halves + np.float32(2**-25), np.nextafter(halves + np.float32(2**-25), np.float32(1)), np.nextafter(halves + np.float32(2**-25), np.float32(-1))])
special = np.array([0, -0.0, np.inf, -np.inf, 65504, 65519.996, 65520, -65520, 65536, 2**-14, 2**-24, 2**-25, 2**-26, 1e-45, 3.4e38, 3.3961775e38, 2049, 2051, 1.00390625, 1.01171875], np.float32)
nans = np.array([0x7f800001, 0x7fc00000, 0xffc12345, 0x7f80ffff, 0xff800001, 0x7fbfffff], np.uint32).view(np.float32)
values = np.concatenate([bits.view(np.float32), edges, special, nans]).astype(np.float32)
t = torch.from_numpy(values)
with open(Path(__file__).parent / "casts.bin", "wb") as f:
    f.write(struct.pack("<I", len(values)))
    f.write(values.tobytes())
    f.write(t.half().view(torch.int16).numpy().tobytes())
    f.write(t.bfloat16().view(torch.int16).numpy().tobytes())
