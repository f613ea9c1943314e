"""Models with random weights, and the forms of them that the peers run.

A program of its own, since PyTorch and nncf would stay in the memory of whoever measures:

    python models.py '{"work": FOLDER, "model": NAME, "form": FORM, "texts": FILE, "out": FILE.npy}'

It makes one form below the folder if it is not there yet; a folder under its final name is whole.

    MODEL/checkpoint             open_clip's own layout, which tia2-engine and PyTorch read
    MODEL/openvino-TOWER         model.xml, f32
    MODEL/openvino-int8-TOWER    quantised by nncf, calibrated on pictures or texts that are not those of the measurement
    MODEL/onnx-TOWER             model.onnx, f32
    MODEL/onnx-int8-TOWER        weights and activations in 8 bit, scales of the activations found at run time

The form "tokens" writes the ids of a file of texts to out. Only the int8 forms and tokens use texts, one a line.
"""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

import inputs
from cells import OPEN_CLIP

WEIGHTS = "open_clip_model.safetensors"
WEIGHTS_SEED = 2024
CALIBRATION_SEED = 7
CALIBRATION_PICTURES = 32


class ImageTower(nn.Module):
    """Pixels f32 [B, 3, S, S] to embeddings of length 1, [B, D]."""

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.visual = clip.visual

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embeds a batch."""
        return functional.normalize(self.visual(pixels), dim=-1)


class TextTower(nn.Module):
    """Token ids int64 [B, context] to embeddings of length 1, [B, D]."""

    def __init__(self, clip: Any) -> None:
        super().__init__()
        clip.visual = None
        self.clip = clip

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Embeds a batch."""
        return self.clip.encode_text(ids, normalize=True)


def load_tower(checkpoint: Path, model: str, tower: str) -> nn.Module:
    """Returns a tower of a checkpoint in f32, without the weights of the other."""
    clip = open_clip.create_model(OPEN_CLIP[model], device="cpu")
    clip.load_state_dict(load_file(checkpoint / WEIGHTS))
    return (ImageTower if tower == "image" else TextTower)(clip).eval()


def tokens(model: str, texts: Path) -> np.ndarray:
    """Returns the ids of a file's texts, padded to the context as open_clip does it, int64 [N, context]."""
    return open_clip.get_tokenizer(OPEN_CLIP[model])(inputs.read_lines(texts)).numpy()


@dataclass(frozen=True)
class Maker:
    """Makes the forms of one model."""

    work: Path
    model: str
    texts: Path  # for calibration and ids; pictures need none

    def form(self, name: str) -> Path:
        """Returns the folder of a form, made if it is not there."""
        folder = self.work / self.model / name
        if not folder.exists():
            kind, _, tower = name.rpartition("-")
            makers: dict[str, Callable[[Path, str], None]] = {
                "": self.checkpoint,
                "openvino": self.openvino,
                "openvino-int8": self.openvino_int8,
                "onnx": self.onnx,
                "onnx-int8": self.onnx_int8,
            }
            part = folder.with_name(name + ".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            makers[kind](part, tower)
            part.rename(folder)
        return folder

    def checkpoint(self, folder: Path, _: str) -> None:
        """Writes a model as open_clip initialises it."""
        torch.manual_seed(WEIGHTS_SEED)
        clip = open_clip.create_model(OPEN_CLIP[self.model], device="cpu")
        save_file({name: t.contiguous() for name, t in clip.state_dict().items()}, folder / WEIGHTS)
        config = {
            "model_cfg": open_clip.get_model_config(OPEN_CLIP[self.model]),
            "preprocess_cfg": {
                "mean": inputs.PIXEL_MEAN,
                "std": inputs.PIXEL_STD,
                "interpolation": "bicubic",
                "resize_mode": "shortest",
            },
        }
        (folder / "open_clip_config.json").write_text(json.dumps(config, indent=1))

    def tower(self, tower: str) -> nn.Module:
        """Returns a tower that can be traced: with the fast path, a trace would depend on whether gradients are on."""
        torch.backends.mha.set_fastpath_enabled(False)
        return load_tower(self.form("checkpoint"), self.model, tower).requires_grad_(False)

    def examples(self, tower: str) -> np.ndarray:
        """Returns inputs that no measurement uses: pictures, or all texts."""
        if tower == "image":
            size = open_clip.get_model_config(OPEN_CLIP[self.model])["vision_cfg"]["image_size"]
            return inputs.normalised(inputs.pictures(CALIBRATION_PICTURES, size, CALIBRATION_SEED))
        return tokens(self.model, self.texts)

    def traced_with(self, tower: str) -> torch.Tensor:
        """Returns a small batch for a trace, in which the size of the batch stays free."""
        return torch.from_numpy(np.repeat(self.examples(tower)[:1], 2, axis=0))

    def openvino(self, folder: Path, tower: str) -> None:
        """Converts a tower for OpenVINO, its weights in f32: their type is chosen when it is compiled."""
        import openvino

        ir = openvino.convert_model(self.tower(tower), example_input=self.traced_with(tower))
        openvino.save_model(ir, folder / "model.xml", compress_to_fp16=False)

    def openvino_int8(self, folder: Path, tower: str) -> None:
        """Quantises OpenVINO's form as its makers advise for transformers."""
        import nncf
        import openvino

        data = self.examples(tower)
        quantised = nncf.quantize(
            openvino.Core().read_model(self.form(f"openvino-{tower}") / "model.xml"),
            nncf.Dataset([data[i : i + 1] for i in range(len(data))]),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(data),
        )
        if tower == "text":
            shutil.copy(self.texts, folder)  # which tells whether later texts are others
        openvino.save_model(quantised, folder / "model.xml", compress_to_fp16=False)

    def onnx(self, folder: Path, tower: str) -> None:
        """Exports a tower as ONNX."""
        torch.onnx.export(
            self.tower(tower),
            (self.traced_with(tower),),
            str(folder / "model.onnx"),  # a Path has no room for weights beside the file, which must be below 2 GB
            input_names=["input"],
            output_names=["embeds"],
            dynamic_axes={"input": {0: "B"}, "embeds": {0: "B"}},
            opset_version=17,
            dynamo=False,  # the exporter that replaces it needs one more package
        )

    def onnx_int8(self, folder: Path, tower: str) -> None:
        """Quantises the ONNX form, with the scales of activations found at run time."""
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(
            self.form(f"onnx-{tower}") / "model.onnx",
            folder / "model.onnx",
            weight_type=QuantType.QInt8,
            per_channel=True,
            use_external_data_format=True,
        )


def main(request: dict[str, str]) -> None:
    """Does what the request asks for."""
    maker = Maker(Path(request["work"]), request["model"], Path(request["texts"]))
    if request["form"] == "tokens":
        out = Path(request["out"])
        out.parent.mkdir(parents=True, exist_ok=True)  # no form of the model is there yet
        part = out.with_name(out.name + ".part")
        with part.open("wb") as file:
            np.save(file, tokens(maker.model, maker.texts))
        part.rename(out)
    else:
        maker.form(request["form"])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
