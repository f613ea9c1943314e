"""Writes vectors_numpyN.jsonl: pickles of plain data and of NumPy's arrays, of every protocol from 2 to 5, with their values.

    python make_vectors.py        once with NumPy 1 and once with NumPy 2: they name their modules differently

A line is {"name", "protocol", "pickle": base64, "value"}; a value is [type, content], so that JSON keeps what is what.
"""

import base64
import json
import pickle
from pathlib import Path

import numpy as np

CASES = {
    "scalars": [None, True, False, 0, -1, 255, 65536, -(2**31), 2**31, 2**63 - 1, -(2**63), 0.5, float("inf"), "", "a ü 猫 🦊"],
    "long": 2**70,
    "bytes": [b"", b"\x00\xff", b"x" * 300, bytearray(b"\x80ab"), bytearray()],
    "containers": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], {}, {"a": 1, "b": [None]}],
    "set": {"x"},
    "frozenset": frozenset(["x"]),
    "shared": [["a"]] * 3,
    "long list": list(range(1002)),
    "texts": np.array(["a cat", "ü", ""]),
    "texts of a list split": list(np.array_split(["one", "two", "three"], 2)),
    "big-endian texts": np.array(["猫", "bc"]).astype(">U2"),
    "byte strings": np.array([b"ab", b"c"]),
    "objects": np.array(["a", None, {"k": 1}], dtype=object),
    "text scalar": np.str_("a cat"),
    "bytes scalar": np.bytes_(b"ab"),
    "number scalars": [np.float32(0.1), np.float64(0.1), np.float16(0.5), np.int64(-3), np.uint8(200), np.uint64(2**63), np.bool_(True)],
    "float32": np.array([0.5, -1.25, np.inf], np.float32),
    "float64": np.array([0.1, 1e300]),
    "float16": np.array([0.5, -65504, 6e-8, np.inf], np.float16),
    "int16 big-endian": np.array([-2, 300], ">i2"),
    "uint64": np.array([1, 2**64 - 1], np.uint64),
    "bool": np.array([True, False]),
    "zero dimensions": np.array(1.5),
    "empty": np.array([], np.float32),
    "empty texts": np.array([], dtype="U3"),
    "pixels": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "pixels in Fortran order": np.asfortranarray(np.arange(24, dtype=np.uint8).reshape(2, 3, 4)),
    "pixels transposed": np.arange(24, dtype=np.uint8).reshape(2, 3, 4).transpose(2, 0, 1),
    "pixels, every other": np.arange(48, dtype=np.uint8).reshape(2, 6, 4)[:, ::2],
    "read-only": np.frombuffer(b"\x01\x02", np.uint8),
}


def value(v):
    """What a value reads back as: byte arrays as bytes, sets as lists, NumPy's scalars as plain values."""
    if isinstance(v, np.generic):
        v = v.item()
    if v is None or isinstance(v, (bool, str)):
        return [type(v).__name__, v]
    if isinstance(v, int):
        return ["int", str(v)]
    if isinstance(v, float):
        return ["float", v.hex()]
    if isinstance(v, (bytes, bytearray)):
        return ["bytes", base64.b64encode(v).decode()]
    if isinstance(v, dict):
        return ["dict", [[value(k), value(x)] for k, x in v.items()]]
    if isinstance(v, np.ndarray):
        return ["array", v.dtype.str.lstrip("<>|").replace("O8", "O"), list(v.shape), [value(x) for x in v.flatten()]]
    return ["tuple" if isinstance(v, tuple) else "list", [value(x) for x in v]]


major = np.__version__.split(".")[0]
with open(Path(__file__).parent / f"vectors_numpy{major}.jsonl", "w") as f:
    for name, case in CASES.items():
        for protocol in range(2, 6):
            line = {
                "name": name,
                "protocol": protocol,
                "pickle": base64.b64encode(pickle.dumps(case, protocol)).decode(),
                "value": value(case),
            }
            f.write(json.dumps(line) + "\n")
