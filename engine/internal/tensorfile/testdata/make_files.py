"""Writes small checkpoints of every container, good ones (values in expect.json) and hostile ones (bad_*).

    python make_files.py

Good ones hold the same five tensors: float32 a, float16 b, a strided bfloat16 c, a float64 d that starts inside a longer
storage, and int64 ids; a scalar s. Names differ where a wrapper says so.
"""

import collections
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent
rng = torch.Generator().manual_seed(1)
a = torch.randn(3, 4, generator=rng)
b = torch.randn(5, generator=rng).half()
c = torch.randn(4, 3, generator=rng).bfloat16().T  # strided
d = torch.randn(7, generator=rng).double().float().double()[2:6].reshape(2, 2)  # an offset
ids = torch.arange(3)
s = torch.tensor(4.5)
state = {"a": a, "b": b, "c": c, "d": d, "ids": ids, "s": s}


class Inner(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.c, self.d = torch.nn.Parameter(c, requires_grad=False), torch.nn.Parameter(d, requires_grad=False)

    def forward(self, x):
        return x + self.d.sum()


class Outer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Parameter(a), torch.nn.Parameter(b)
        self.inner = Inner()
        self.register_buffer("ids", ids)
        self.register_buffer("s", s)

    def forward(self, x):
        return self.inner(x) + self.a.sum()


def rezip(source, target, method=zipfile.ZIP_DEFLATED):
    """The same archive with other compression."""
    with zipfile.ZipFile(HERE / source) as old, zipfile.ZipFile(HERE / target, "w", method) as new:
        for name in old.namelist():
            new.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), old.read(name), method)


class Call:
    """Pickles as a call of a function."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def bad_zip(name, value):
    with zipfile.ZipFile(HERE / name, "w") as z:
        z.writestr(zipfile.ZipInfo("archive/data.pkl", (1980, 1, 1, 0, 0, 0)), pickle.dumps(value, protocol=2))


def main():
    os.chdir(HERE)
    contiguous = {k: v.contiguous().clone() for k, v in state.items()}
    save_file(contiguous, "plain.safetensors", metadata={"format": "pt"})
    torch.save(state, "zip.pt")
    torch.save(collections.OrderedDict(state), "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 1, "loss": np.float64(0.5), "state_dict": {"module." + k: v for k, v in state.items()}, "optimizer": {"state": {0: {"step": s, "exp_avg": a}}}}, "wrapped.pt")
    torch.save({"model": {"state_dict": {"module._orig_mod." + k: torch.nn.Parameter(v, requires_grad=False) for k, v in state.items()}}}, "wrapped_twice.pt", _use_new_zipfile_serialization=False)
    rezip("zip.pt", "deflated.pt")
    jit = torch.jit.script(Outer())
    torch.jit.save(jit, "script.pt")
    with zipfile.ZipFile("script.pt") as old:
        entries = [(n, old.read(n)) for n in old.namelist() if not n.endswith(".debug_pkl")]
    with zipfile.ZipFile("script.pt", "w") as new:
        for n, data in entries:
            new.writestr(zipfile.ZipInfo(n, (1980, 1, 1, 0, 0, 0)), data)
    base = torch.arange(6.0)
    torch.save({"x": base[:4], "y": base[2:], "z": torch.zeros(2, 2).to_sparse()}, "shared.pt")
    Path("expect.json").write_text(json.dumps({k: {"shape": list(v.shape), "values": v.double().reshape(-1).tolist()} for k, v in state.items()}, indent=1) + "\n")

    bad_zip("bad_system.pt", {"a": Call(os.system, ("echo pwned > /tmp/pwned",))})
    bad_zip("bad_eval.pt", Call(eval, ("1 + 1",)))
    bad_zip("bad_getattr.pt", Call(getattr, ("", "join")))
    bad_zip("bad_load_from_bytes.pt", Call(torch.storage._load_from_bytes, (b"",)))
    bad_zip("bad_tensorless.pt", {"epoch": 3, "args": [1, 2]})
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + pickle.dumps(1001, protocol=2) + pickle.dumps({"little_endian": True}, protocol=2)
    Path("bad_legacy_system.pt").write_bytes(magic + pickle.dumps({"a": Call(os.system, ("echo pwned > /tmp/pwned",))}, protocol=2) + pickle.dumps([], protocol=2))
    Path("bad_pickle.pt").write_bytes(pickle.dumps({"a": 1}, protocol=2))
    torch.save(torch.nn.Linear(2, 2), "bad_module.pt")


if __name__ == "__main__":
    main()
