"""Makes the embedded demo: trains the model, renders the set, computes the reference and the record.

    python make_demo.py --out /tmp/demo            all of it
    python make_demo.py --out /tmp/demo --skip-training

Writes OUT/hf (the model, a Hugging Face CLIPModel folder), OUT/set, OUT/manifest.json, OUT/ref.npz, OUT/reference.json,
OUT/record.json and OUT/sheet.png. README.md says how the results come into the repository.
"""

import argparse
import json
import os
import platform
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread: sums in one order, so the same bytes on one machine

import numpy as np
import PIL
import sklearn
import torch
import transformers

import evaluate
import make_set
import train


def versions():
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "scikit-learn": sklearn.__version__,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=train.STEPS)
    parser.add_argument("--skip-training", action="store_true", help="use what an earlier run left in OUT")
    args = parser.parse_args()
    torch.set_num_threads(1)
    out = args.out
    if not args.skip_training:
        train.train(args.steps, out / "hf")
    make_set.make_set(out / "set", np.load(out / "train_signatures.npy"), out / "manifest.json")
    make_set.contact_sheet(out / "set", out / "sheet.png")
    ref = evaluate.embed(out / "hf", out / "set")
    np.savez(out / "ref.npz", **ref)
    make_set.write_json(out / "reference.json", evaluate.excerpt(ref), indent=None)
    per_prompt = evaluate.alignment(ref, out / "set")
    log = json.loads((out / "train_log.json").read_text())
    entries = json.loads((out / "manifest.json").read_text())["prompts"]
    record = {
        "versions": versions(),
        "seeds": {"training": train.SEED, "set": make_set.SEED},
        "training_minutes": round(log[-1]["seconds"] / 60, 1),
        "training": log,
        "textnorm_scale": evaluate.SCALE,
        "alignment": evaluate.summary(per_prompt, entries),
        "prompts": per_prompt,
    }
    make_set.write_json(out / "record.json", record, indent=1)
    print(json.dumps(record["alignment"], indent=1))


if __name__ == "__main__":
    main()
