"""References of the CLIP family: transformers' CLIPModel, HPSv2 in open_clip, the aesthetic head."""

from itertools import pairwise
from pathlib import Path

import open_clip
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import normalize, pad
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import normalize as standardise
from torchvision.transforms.functional import resize, to_tensor
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

import vocabularies
from inputs import Inputs
from running import Expected
from weights import randomise

# Width, layers, heads and patch of the image tower; width, layers and heads of the text tower; width of the embedding.
VIT_B_32 = ((768, 12, 12, 32), (512, 12, 8), 512)
VIT_L_14 = ((1024, 24, 16, 14), (768, 12, 12), 768)
VIT_H_14 = ((1280, 32, 16, 14), (1024, 24, 16), 1024)


class HFCLIP:
    """transformers' CLIPModel as it is saved by itself, which is how PickScore is published."""

    def __init__(self, shape: tuple, activation: str, dtype: torch.dtype, reward: str) -> None:
        self.shape = shape
        self.activation = activation
        self.dtype = dtype
        self.reward = reward

    def config(self) -> CLIPConfig:
        """Returns the configuration."""
        vision, text, dim = self.shape

        def tower(width: int, layers: int, heads: int) -> dict:
            sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers}
            return {**sizes, "num_attention_heads": heads, "projection_dim": dim, "hidden_act": self.activation}

        ends = {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
        return CLIPConfig(
            vision_config={**tower(*vision[:3]), "patch_size": vision[3]},
            text_config={**tower(*text), **ends},
            projection_dim=dim,
        )

    def make(self, files: list[Path]) -> None:
        """Writes the model's folder."""
        randomise(CLIPModel(self.config())).to(self.dtype).save_pretrained(files[0])
        CLIPImageProcessor().save_pretrained(files[0])
        vocabularies.clip(files[0]).save_pretrained(files[0])

    def expect(self, files: list[Path], inputs: Inputs) -> Expected:
        """Runs the model: every picture and text for itself."""
        model = CLIPModel.from_pretrained(files[0], dtype=torch.float32, attn_implementation="eager").eval()
        processor = CLIPImageProcessor.from_pretrained(files[0])
        tokenizer = CLIPTokenizerFast.from_pretrained(files[0])
        pixels = [processor(Image.open(path), return_tensors="pt").pixel_values for path in inputs.pictures]
        ids = [tokenizer(text, truncation=True, return_tensors="pt").input_ids for text in inputs.texts]
        images = normalize(torch.cat([model.get_image_features(pixel_values=p) for p in pixels]), dim=-1)
        texts = normalize(torch.cat([model.get_text_features(input_ids=i) for i in ids]), dim=-1)
        logits = model.logit_scale.exp() * images @ texts.T
        return {"image_embeds": images, "text_embeds": texts, self.reward: logits}


class Aesthetic(HFCLIP):
    """LAION's aesthetic predictor V2: Linear layers without activation over OpenAI's ViT-L/14."""

    def head(self) -> nn.Module:
        """Returns the head, its tensors named as in sac+logos+ava1-l14-linearMSE.pth. Source: simple_inference.py of
        christophschuhmann/improved-aesthetic-predictor; dropout counts as a layer."""
        head = nn.Module()
        sizes = (self.shape[2], 1024, 128, 64, 16, 1)
        linear = [nn.Linear(m, n) for m, n in pairwise(sizes)]
        drop = [nn.Dropout(p) for p in (0.2, 0.2, 0.1)]
        head.layers = nn.Sequential(linear[0], drop[0], linear[1], drop[1], linear[2], drop[2], linear[3], linear[4])
        return head.eval()

    def make(self, files: list[Path]) -> None:
        """Writes the folder of the CLIP and the head's file."""
        super().make(files)
        head = randomise(self.head())
        with torch.no_grad():
            head.layers[0].weight.mul_(self.shape[2] ** 0.5)  # as rows of length 1 come in
        torch.save(head.state_dict(), files[1])

    def expect(self, files: list[Path], inputs: Inputs) -> Expected:
        """Adds the head's rewards, which are those of a picture with any text."""
        found = super().expect(files, inputs)
        head = self.head()
        head.load_state_dict(torch.load(files[1]))
        rewards = head.layers(found["image_embeds"]).expand(-1, len(inputs.texts))
        return {**found, "aesthetic": rewards}


class HPSv2:
    """HPSv2 in open_clip's code: a state dict in a training checkpoint, its own preprocessing, the cosine as score."""

    ARCH = "ViT-H-14"

    def make(self, files: list[Path]) -> None:
        """Writes the checkpoint."""
        model = randomise(open_clip.create_model(self.ARCH))
        torch.save({"epoch": 1, "state_dict": model.half().state_dict()}, files[0])

    def expect(self, files: list[Path], inputs: Inputs) -> Expected:
        """Runs open_clip's model."""
        model = open_clip.create_model(self.ARCH, pretrained=str(files[0]), precision="fp32").eval()
        pixels = [self.letterbox(Image.open(path).convert("RGB"), 224) for path in inputs.pictures]
        images = torch.cat([model.encode_image(p[None], normalize=True) for p in pixels])
        texts = model.encode_text(open_clip.get_tokenizer(self.ARCH)(inputs.texts), normalize=True)
        return {"image_embeds": images, "text_embeds": texts, "hpsv2": images @ texts.T}

    @staticmethod
    def letterbox(picture: Image.Image, size: int) -> torch.Tensor:
        """Returns a picture scaled to fit and centred on black, [3, size, size].

        Source: tgxs002/HPSv2, hpsv2/src/open_clip/transform.py, ResizeMaxSize and image_transform, with a torchvision that
        resizes tensors with antialiasing by default (0.17 and later).
        """
        pixels = to_tensor(picture)
        height, width = pixels.shape[1:]
        scale = size / max(height, width)
        if scale != 1:
            inside = [round(height * scale), round(width * scale)]
            pixels = resize(pixels, inside, InterpolationMode.BICUBIC, antialias=True)
            down, right = (size - side for side in inside)
            pixels = pad(pixels, [right // 2, right - right // 2, down // 2, down - down // 2])
        return standardise(pixels, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)


MODELS = {
    "clip": HFCLIP(VIT_B_32, "quick_gelu", torch.float32, "clip"),
    "aesthetic": Aesthetic(VIT_L_14, "quick_gelu", torch.float16, "clip"),
    "pickscore": HFCLIP(VIT_H_14, "gelu", torch.float16, "pickscore"),
    "hpsv2": HPSv2(),
}
