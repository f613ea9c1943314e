"""Writes requests_numpyN.jsonl: bodies as the clients of pickled dicts build them, with what they must be read as.

    python make_requests.py        needs Pillow; once with NumPy 1 and once with NumPy 2

Each body is made the way the client makes it: pixels uint8 [N, H, W, 3] cut by array_split, encoded by Pillow at the client's
quality, the dict pickled with pickle.dumps and its default protocol. A line is {"name", "body": base64, "images": [CRC-32 of
each picture's bytes], "texts", "tags", "answers", "keys": of the response that the client reads}.

Source: kvablack/ddpo-pytorch rewards.py; yifan123/flow_grpo rewards.py; deepgenteam/deepgen_rl reward_evaluator.py;
verl-project/verl-omni http_scorer_client.py.
"""

import base64
import io
import json
import pickle
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

pixels = np.random.default_rng(1).integers(0, 256, (3, 6, 8, 3), dtype=np.uint8)
prompts = ("a red cube", "zwei Katzen, größer", "猫 and 🦊")
lines = []


def files(images, **options):
    out = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, **({"format": "JPEG"} | options))
        out.append(buffer.getvalue())
    return out


def add(name, request, texts, keys, tags=None, answers=None, protocol=None, images=None):
    if images is None:
        images = request["images"]
    lines.append(
        {
            "name": name,
            "body": base64.b64encode(pickle.dumps(request, protocol)).decode(),
            "images": [zlib.crc32(bytes(image)) for image in images],
            "texts": list(texts),
            "tags": tags,
            "answers": answers,
            "keys": keys,
        }
    )


# ddpo-pytorch: LLaVA's recall of an answer is the reward; batches of a split array, so the prompt is a NumPy text
(batch,) = np.array_split(pixels, 1)
(some,) = np.array_split(prompts, 1)
request = {
    "images": files(batch, quality=80),
    "queries": [["Answer concisely: what is going on in this image?"]] * len(batch),
    "answers": [[f"The image contains {prompt}"] for prompt in some],
}
add("ddpo-pytorch bertscore", request, [a[0] for a in request["answers"]], ["recall", "precision", "f1", "outputs"], answers=[1, 1, 1])

# flow_grpo
add("flow_grpo deqa", {"images": files(batch)}, [], ["outputs"])
metadata = [
    {"tag": "colors", "include": [{"class": "cube", "count": 1, "color": "red"}], "prompt": prompts[0]},
    {"tag": "counting", "include": [{"class": "cat", "count": 2}], "exclude": [{"class": "cat", "count": 3}], "prompt": prompts[1]},
    {"tag": "position", "include": [{"class": "cat", "count": 1, "position": ["left of", 0]}], "prompt": prompts[2]},
]
(split,) = np.array_split(metadata, 1)
add(
    "flow_grpo geneval",
    {"images": files(batch), "meta_datas": list(split), "only_strict": True},
    prompts,
    ["scores", "rewards", "strict_rewards", "group_rewards", "group_strict_rewards"],
    tags=["colors", "counting", "position"],
)
add("flow_grpo unifiedreward", {"images": files(batch), "prompts": some}, prompts, ["outputs"])
first, second = np.array_split(prompts, 2)
add("flow_grpo second batch", {"images": files(pixels[2:]), "prompts": second}, prompts[2:], ["outputs"])

# deepgen_rl: lists; PIL images of any mode become RGB JPEG
add("deepgen_rl", {"images": files(pixels), "prompts": list(prompts), "metadata": {}}, prompts, ["scores"])
add("deepgen_rl metadata", {"images": files(pixels), "prompts": list(prompts), "metadata": {"task": "t2i", "scale": 1.5, "ids": [1, 2]}}, prompts, ["scores"])
add("deepgen_rl one prompt", {"images": files(pixels), "prompts": [prompts[0]], "metadata": {}}, prompts[:1], ["scores"])

# verl-omni: one picture a request
add("verl-omni", {"images": files(pixels[:1]), "prompts": [prompts[0]], "metadata": {}}, prompts[:1], ["scores"])

# what else the protocol allows: other formats, every protocol, arrays
png = files(pixels, format="PNG")
for protocol in range(2, 6):
    add(f"PNG, protocol {protocol}", {"images": png, "prompts": np.array(prompts)}, prompts, ["scores"], protocol=protocol)
    add(f"objects, protocol {protocol}", {"images": np.array(png, dtype=object), "prompts": np.array(prompts, dtype=object)}, prompts, ["scores"], protocol=protocol)
    add(f"byte arrays, protocol {protocol}", {"images": tuple(map(bytearray, png)), "prompts": [np.str_(p) for p in prompts]}, prompts, ["scores"], protocol=protocol)
    buffers = [np.frombuffer(b, np.uint8) for b in png]
    add(f"files as arrays, protocol {protocol}", {"images": buffers, "prompts": prompts}, prompts, ["scores"], protocol=protocol, images=png)

major = np.__version__.split(".")[0]
with open(Path(__file__).parent / f"requests_numpy{major}.jsonl", "w") as f:
    for line in lines:
        f.write(json.dumps(line) + "\n")
