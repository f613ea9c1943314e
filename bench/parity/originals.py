"""References of the layouts that BLIP, LAVIS and ImageReward write themselves, computed by their own code.

The code is the user's checkout, which runs as it is. It was written for transformers 4.15 to 4.25 and imports more than
it computes with; Code makes those imports succeed.
"""

import importlib
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from PIL import Image
from torch import nn
from torch.nn.functional import normalize
from torchvision import transforms
from transformers import BertConfig, modeling_utils, pytorch_utils

import vocabularies
from blip_family import ENC
from inputs import Inputs
from running import Expected, match_probability, pairs, remember
from weights import randomise

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
MOVED = ("apply_chunking_to_forward", "find_pruneable_heads_and_indices", "prune_linear_layer")


class Code:
    """The modules of a checkout."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        for name in MOVED:
            setattr(modeling_utils, name, getattr(pytorch_utils, name))
        for name in ("fairscale", "fairscale.nn", "fairscale.nn.checkpoint"):
            self.stand_in(name)
        self.stand_in("fairscale.nn.checkpoint.checkpoint_activations", checkpoint_wrapper=None)  # of training only
        vocabularies.bert_by_name(Path.cwd())

    @staticmethod
    def stand_in(name: str, **members: Any) -> ModuleType:
        """Puts a module with these members in the place of one that is not installed or imports too much."""
        module = sys.modules[name] = ModuleType(name)
        vars(module).update(members)
        return module

    def packages(self, *names: str) -> None:
        """Makes packages of folders of the checkout importable without their __init__, which imports all that there is."""
        for name in names:
            self.stand_in(name).__path__ = [str(self.checkout.joinpath(*name.split(".")))]

    def module(self, name: str) -> ModuleType:
        """Imports a module of the checkout."""
        if str(self.checkout) not in sys.path:
            sys.path.insert(0, str(self.checkout))
        return importlib.import_module(name)


def write_med_config(folder: Path) -> Path:
    """Writes the med_config.json that lies beside the published checkpoints, and returns its path."""
    config = BertConfig(vocab_size=30524, add_cross_attention=True, encoder_width=1024)
    config.to_json_file(folder / "med_config.json", use_diff=False)
    return folder / "med_config.json"


class BLIP:
    """salesforce/BLIP's BLIP_ITM with ViT-L/16, which squashes pictures and cuts texts to 35 tokens."""

    SIDE = 384

    def __init__(self, checkout: Path) -> None:
        code = Code(checkout)
        self.blip_itm = code.module("models.blip_itm")

    def build(self, folder: Path) -> nn.Module:
        """Returns the model without weights."""
        return self.blip_itm.BLIP_ITM(med_config=str(write_med_config(folder)), image_size=self.SIDE, vit="large")

    def make(self, files: list[Path]) -> None:
        """Writes the checkpoint and med_config.json."""
        torch.save({"model": randomise(self.build(files[0].parent)).state_dict()}, files[0])

    def expect(self, files: list[Path], inputs: Inputs) -> Expected:
        """Runs the model on every pair, with [CLS] first as in its demo, and with [ENC] as in its evaluation."""
        model, missing = self.blip_itm.load_checkpoint(self.build(files[0].parent), str(files[0]))
        assert not missing.missing_keys, missing
        model.eval()
        remember(model.visual_encoder)
        steps = [transforms.Resize((self.SIDE, self.SIDE), transforms.InterpolationMode.BICUBIC), transforms.ToTensor()]
        transform = transforms.Compose([*steps, transforms.Normalize(MEAN, STD)])
        pictures = [transform(Image.open(path).convert("RGB"))[None] for path in inputs.pictures]
        match = pairs(pictures, inputs.texts, lambda p, text: model(p, [text], match_head="itm")[0])
        match_enc = pairs(pictures, inputs.texts, partial(self.match_enc, model))
        return {
            "image_embeds": normalize(
                torch.cat([model.vision_proj(model.visual_encoder(p)[:, 0]) for p in pictures]), dim=-1
            ),
            "blip_itc": pairs(pictures, inputs.texts, lambda p, text: model(p, [text], match_head="itc")[0, 0]),
            "blip_itm": match_probability(match),
            "--itm-output logit blip_itm": match[..., 1],
            "--itm-output logit --itm-token enc blip_itm": match_enc[..., 1],
        }

    @staticmethod
    def match_enc(model: nn.Module, pixels: torch.Tensor, text: str) -> torch.Tensor:
        """Returns the logits of a pair with [ENC]. Source: evaluation() of train_retrieval.py."""
        image = model.visual_encoder(pixels)
        tokens = model.tokenizer([text], padding="max_length", truncation=True, max_length=35, return_tensors="pt")
        tokens.input_ids[:, 0] = ENC
        output = model.text_encoder(
            tokens.input_ids,
            attention_mask=tokens.attention_mask,
            encoder_hidden_states=image,
            encoder_attention_mask=torch.ones(image.shape[:-1], dtype=torch.long),
            return_dict=True,
        )
        return model.itm_head(output.last_hidden_state[:, 0])[0]


class LAVIS:
    """salesforce/LAVIS's Blip2ITM, whose image encoder is in a file of its own. Texts are cleaned by blip_caption, as
    LAVIS's evaluation does it, and cut to 32 tokens."""

    EVA = "eva_vit_g.pth"

    def __init__(self, checkout: Path) -> None:
        code = Code(checkout)
        code.stand_in("omegaconf", OmegaConf=object)
        code.packages(
            "lavis",
            "lavis.common",
            "lavis.models",
            "lavis.models.blip_models",
            "lavis.models.blip2_models",
            "lavis.processors",
        )
        code.stand_in("lavis.common.utils", is_url=lambda _: False, get_abs_path=lambda path: path)
        code.stand_in("lavis.processors.randaugment", RandomAugment=None)
        # The registry looks for the base classes in the packages.
        sys.modules["lavis.models"].BaseModel = code.module("lavis.models.base_model").BaseModel
        sys.modules["lavis.processors"].BaseProcessor = code.module("lavis.processors.base_processor").BaseProcessor
        self.eva = code.module("lavis.models.eva_vit")
        self.itm = code.module("lavis.models.blip2_models.blip2_image_text_matching")
        self.processors = code.module("lavis.processors.blip_processors")
        qformer = code.module("lavis.models.blip2_models.Qformer")
        qformer.BertLMHeadModel.from_pretrained = classmethod(
            lambda cls, _name, config: cls(config)
        )  # the checkpoint has all

    def build(self, folder: Path) -> nn.Module:
        """Returns the model with the image encoder of the folder."""
        self.eva.download_cached_file = lambda *_args, **_kwargs: str(folder / self.EVA)
        return self.itm.Blip2ITM(vit_precision="fp32").eval()

    def make(self, files: list[Path]) -> None:
        """Writes both files: the image encoder in f16 and with the 40th block that LAVIS leaves out, then all else."""
        sizes = {"patch_size": 14, "embed_dim": 1408, "depth": 40, "num_heads": 16, "mlp_ratio": 4.3637, "qkv_bias": True}
        encoder = randomise(self.eva.VisionTransformer(img_size=224, **sizes))
        torch.save(encoder.half().state_dict(), files[0].parent / self.EVA)
        del encoder
        state = randomise(self.build(files[0].parent)).state_dict()
        torch.save({"model": {k: v for k, v in state.items() if not k.startswith("visual_encoder.")}}, files[0])

    def expect(self, files: list[Path], inputs: Inputs) -> Expected:
        """Runs the model on every pair."""
        model = self.build(files[0].parent)
        missing = [
            key for key in model.load_from_pretrained(str(files[0])).missing_keys if not key.startswith("visual_encoder.")
        ]
        assert not missing, missing
        remember(model.visual_encoder)
        transform, clean = self.processors.BlipImageEvalProcessor(224), self.processors.BlipCaptionProcessor()
        pictures = [transform(Image.open(path).convert("RGB"))[None] for path in inputs.pictures]
        texts = [clean(text) for text in inputs.texts]

        def score(head: str) -> torch.Tensor:
            return pairs(pictures, texts, lambda p, text: model({"image": p, "text_input": [text]}, match_head=head)[0])

        match = score("itm")
        features = [model.extract_features({"image": p}, mode="image").image_embeds_proj for p in pictures]
        return {
            "image_embeds": torch.cat(features),
            "blip2_itc": score("itc")[..., 0],
            "blip2_itm": match_probability(match),
            "--itm-output logit blip2_itm": match[..., 1],
        }


class ImageReward:
    """THUDM/ImageReward, which crops pictures and cuts texts to 35 tokens."""

    def __init__(self, checkout: Path) -> None:
        code = Code(checkout)
        code.packages("ImageReward", "ImageReward.models", "ImageReward.models.BLIP")
        self.code = code.module("ImageReward.ImageReward")

    def build(self, folder: Path) -> nn.Module:
        """Returns the model without weights."""
        return self.code.ImageReward(med_config=str(write_med_config(folder)), device="cpu")

    def make(self, files: list[Path]) -> None:
        """Writes the checkpoint and med_config.json."""
        torch.save(randomise(self.build(files[0].parent)).state_dict(), files[0])

    def expect(self, files: list[Path], inputs: Inputs) -> Expected:
        """Scores every pair."""
        model = self.build(files[0].parent).eval()
        model.load_state_dict(torch.load(files[0]))
        remember(model.blip.visual_encoder)
        return {"imagereward": pairs(inputs.pictures, inputs.texts, lambda p, text: torch.tensor(model.score(text, str(p))))}


MODELS = {"blip": BLIP, "blip2-lavis": LAVIS, "imagereward": ImageReward}
