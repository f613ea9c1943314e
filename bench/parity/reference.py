"""Makes one model and runs its reference: a program of its own, which gives PyTorch's memory back when it ends.

    python reference.py '{"model": NAME, "inputs": DIR, "out": DIR, "checkout": DIR, "threads": N}'

DIR/out gets the checkpoint's files and expected.npz, all f32; its keys are explained in running.py.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

import catalogue
import inputs


def reference(name: str, checkout: str) -> Any:
    """Returns what makes and runs a model. Only the family's packages are imported."""
    if catalogue.find(name).checkout:
        import originals

        return originals.MODELS[name](Path(checkout))
    if name.startswith("blip"):
        import blip_family

        return blip_family.MODELS[name]
    import clip_family

    return clip_family.MODELS[name]


def main(request: dict[str, Any]) -> None:
    """Does what the request asks for."""
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(request["threads"])
    out = Path(request["out"])
    os.chdir(out)  # where from_pretrained finds bert-base-uncased
    model = reference(request["model"], request["checkout"])
    files = [out / file for file in catalogue.find(request["model"]).files]
    model.make(files)
    with torch.no_grad():
        expected = model.expect(files, inputs.read(Path(request["inputs"])))
    np.savez(out / "expected.npz", **{name: values.float().numpy() for name, values in expected.items()})


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
