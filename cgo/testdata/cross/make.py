#!/usr/bin/env python3
"""Makes blip.gguf and blip2.gguf: cross encoders of a few thousand weights, which are drawn from a seed when they are opened.

    pip install gguf==0.19.0 numpy && python make.py

The files hold keys, and names and shapes of tensors, as ARCHITECTURE.md lists them; no data.
"""

from pathlib import Path

import gguf
import numpy as np

IMAGE, PATCH, IMAGE_WIDTH, WIDTH, MLP, LAYERS, HEADS, VOCABULARY, CONTEXT, DIM = 24, 8, 32, 48, 96, 3, 2, 60, 40, 16
F32 = gguf.GGMLQuantizationType.F32


class Model:
    def __init__(self, path, family):
        self.out, self.family = gguf.GGUFWriter(path, family), family
        self.path = path

    def keys(self, values):
        for name, value in values.items():
            key = name if name.startswith(("tia2.", "preprocess.")) else f"{self.family}.{name}"
            kind = {int: "uint32", float: "float32", str: "string", list: "array"}[type(value)]
            getattr(self.out, f"add_{kind}")(key, value)

    def tensor(self, name, *shape):
        self.out.add_tensor_info(name, shape, np.dtype(np.float32), 4 * int(np.prod(shape)), raw_dtype=F32)

    def linear(self, name, outputs, inputs):
        self.tensor(f"{name}.weight", outputs, inputs)
        self.tensor(f"{name}.bias", outputs)

    def norm(self, name, width):
        self.tensor(f"{name}.weight", width)
        self.tensor(f"{name}.bias", width)

    def image_tower(self):
        width = IMAGE_WIDTH
        self.tensor("v.class_embd", width)
        self.tensor("v.position_embd", (IMAGE // PATCH) ** 2 + 1, width)
        self.linear("v.patch_embd", width, 3 * PATCH * PATCH)
        for i in range(LAYERS):
            block = f"v.blk.{i}."
            self.norm(f"{block}ln1", width)
            self.linear(f"{block}attn_qkv", 3 * width, width)
            self.linear(f"{block}attn_out", width, width)
            self.norm(f"{block}ln2", width)
            self.linear(f"{block}ffn_up", MLP, width)
            self.linear(f"{block}ffn_down", width, MLP)
        self.norm("v.post_ln", width)

    def bert(self, feed_forwards, every):
        self.tensor("t.token_embd.weight", VOCABULARY, WIDTH)
        self.tensor("t.position_embd", CONTEXT, WIDTH)
        self.norm("t.embd_ln", WIDTH)
        for i in range(LAYERS):
            block = f"t.blk.{i}."
            self.linear(f"{block}attn_qkv", 3 * WIDTH, WIDTH)
            self.linear(f"{block}attn_out", WIDTH, WIDTH)
            self.norm(f"{block}attn_ln", WIDTH)
            if i % every == 0:
                self.linear(f"{block}cross_q", WIDTH, WIDTH)
                self.linear(f"{block}cross_kv", 2 * WIDTH, IMAGE_WIDTH)
                self.linear(f"{block}cross_out", WIDTH, WIDTH)
                self.norm(f"{block}cross_ln", WIDTH)
            for ffn in feed_forwards:
                self.linear(f"{block}{ffn}_up", MLP, WIDTH)
                self.linear(f"{block}{ffn}_down", WIDTH, MLP)
                self.norm(f"{block}{ffn}_ln", WIDTH)

    def sizes(self, tower, width):
        names = {"width": width, "layers": LAYERS, "heads": HEADS, "mlp_width": MLP, "layer_norm_eps": 1e-6, "activation": "gelu"}
        return {f"{tower}.{name}": value for name, value in names.items()}

    def write(self, queries):
        self.keys({"tia2.format": 1, "embed_dim": DIM, "pair_outputs": 2, "vision.image_size": IMAGE, "vision.patch_size": PATCH})
        self.keys({**self.sizes("vision", IMAGE_WIDTH), **self.sizes("text", WIDTH), "vision.output_norm_eps": 1e-6})
        self.keys({"text.context": CONTEXT, "text.vocab_size": VOCABULARY})
        self.keys({"preprocess.mean": [0.5, 0.5, 0.5], "preprocess.std": [0.25, 0.25, 0.25]})
        self.out.add_uint64("tia2.random.seed", 1)
        self.image_tower()
        if queries:
            self.keys({"queries": queries, "cross_attention_every": 2})
            self.tensor("t.query_embd", queries, WIDTH)
            self.bert(["ffn", "query_ffn"], 2)
        else:
            self.bert(["ffn"], 1)
        self.linear("v.proj", DIM, WIDTH if queries else IMAGE_WIDTH)
        self.linear("t.proj", DIM, WIDTH)
        self.linear("pair_head", 2, WIDTH)
        self.out.write_header_to_file()
        self.out.write_kv_data_to_file()
        self.out.write_ti_data_to_file()
        self.out.close()
        with self.path.open("ab") as file:  # the data would begin at a multiple of 32
            file.write(bytes(-self.path.stat().st_size % 32))


if __name__ == "__main__":
    folder = Path(__file__).parent
    Model(folder / "blip.gguf", "blip").write(0)
    Model(folder / "blip2.gguf", "blip2").write(5)
