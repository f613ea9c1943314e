"""References of transformers' BLIP and BLIP-2, as Salesforce publishes both on the hub."""

from pathlib import Path

import torch
from PIL import Image
from torch.nn.functional import normalize
from transformers import (
    BatchEncoding,
    BertTokenizerFast,
    Blip2Config,
    Blip2ForImageTextRetrieval,
    BlipConfig,
    BlipForImageTextRetrieval,
    BlipImageProcessor,
    PreTrainedModel,
)

import vocabularies
from inputs import Inputs
from running import Expected, match_probability, pairs, remember
from weights import randomise

ENC = 30523  # [ENC], the second token that BLIP adds to BERT's vocabulary


class HFModel:
    """What both share: a folder, and pictures and texts as their processors make them, which cuts no text."""

    model_class: type[PreTrainedModel]
    dtype: torch.dtype
    side: int

    def config(self) -> BlipConfig | Blip2Config:
        """Returns the configuration."""
        raise NotImplementedError

    def make(self, files: list[Path]) -> None:
        """Writes the model's folder."""
        randomise(self.model_class(self.config())).to(self.dtype).save_pretrained(files[0])
        BlipImageProcessor(size={"height": self.side, "width": self.side}).save_pretrained(files[0])
        vocabularies.bert(files[0]).save_pretrained(files[0])

    def load(self, folder: Path, inputs: Inputs) -> tuple[PreTrainedModel, list[torch.Tensor], list[BatchEncoding]]:
        """Returns the model, the pictures as [1, 3, S, S], and the texts as ids [1, T] and their mask."""
        model = self.model_class.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        remember(model.vision_model)
        processor, tokenizer = BlipImageProcessor.from_pretrained(folder), BertTokenizerFast.from_pretrained(folder)
        pictures = [processor(Image.open(path), return_tensors="pt").pixel_values for path in inputs.pictures]
        texts = [tokenizer(text, return_tensors="pt", return_token_type_ids=False) for text in inputs.texts]
        return model, pictures, texts


class HFBLIP(HFModel):
    """BlipForImageTextRetrieval with the sizes of blip-itm-base-coco."""

    model_class = BlipForImageTextRetrieval
    dtype = torch.float32
    side = 384

    def config(self) -> BlipConfig:
        """Returns the configuration."""
        return BlipConfig(
            vision_config={"image_size": self.side, "layer_norm_eps": 1e-6},
            text_config={"num_attention_heads": 12, "encoder_hidden_size": 768},
            image_text_hidden_size=256,
        )

    def expect(self, files: list[Path], inputs: Inputs) -> Expected:
        """Runs the model on every pair, with [CLS] first and, as LAVIS has it, with [ENC]."""
        model, pictures, texts = self.load(files[0], inputs)

        def itc(pixels: torch.Tensor, text: BatchEncoding) -> torch.Tensor:
            return model(pixel_values=pixels, **text, use_itm_head=False).itm_score[0, 0]

        def itm(pixels: torch.Tensor, text: BatchEncoding) -> torch.Tensor:
            return model(pixel_values=pixels, **text).itm_score[0]

        def itm_enc(pixels: torch.Tensor, text: BatchEncoding) -> torch.Tensor:
            ids = text.input_ids.clone()
            ids[:, 0] = ENC
            return model(pixel_values=pixels, input_ids=ids, attention_mask=text.attention_mask).itm_score[0]

        states = [model.vision_model(pixel_values=p).last_hidden_state[:, 0] for p in pictures]
        words = [model.text_encoder(**text).last_hidden_state[:, 0] for text in texts]
        match, match_enc = pairs(pictures, texts, itm), pairs(pictures, texts, itm_enc)
        return {
            "image_embeds": normalize(model.vision_proj(torch.cat(states)), dim=-1),
            "text_embeds": normalize(model.text_proj(torch.cat(words)), dim=-1),
            "blip_itc": pairs(pictures, texts, itc),
            "blip_itm": match_probability(match),
            "--itm-output logit blip_itm": match[..., 1],
            "--itm-output logit --itm-token enc blip_itm": match_enc[..., 1],
        }


class HFBLIP2(HFModel):
    """Blip2ForImageTextRetrieval with the sizes of blip2-itm-vit-g."""

    model_class = Blip2ForImageTextRetrieval
    dtype = torch.float16
    side = 224

    def config(self) -> Blip2Config:
        """Returns the configuration."""
        return Blip2Config(
            vision_config={"image_size": self.side},
            qformer_config={"vocab_size": 30523, "use_qformer_text_input": True},
            image_text_hidden_size=256,
        )

    def expect(self, files: list[Path], inputs: Inputs) -> Expected:
        """Runs the model on every pair."""
        model, pictures, texts = self.load(files[0], inputs)

        def contrast(pixels: torch.Tensor, text: BatchEncoding) -> torch.Tensor:
            return model(pixel_values=pixels, **text).logits_per_image[0, 0]

        def itm(pixels: torch.Tensor, text: BatchEncoding) -> torch.Tensor:
            return model(pixel_values=pixels, **text, use_image_text_matching_head=True).logits_per_image[0]

        match = pairs(pictures, texts, itm)
        return {
            "image_embeds": torch.cat([model(pixel_values=p, **texts[0]).image_embeds for p in pictures]),
            "text_embeds": torch.cat([model(pixel_values=pictures[0], **text).text_embeds for text in texts]),
            "blip2_itc": pairs(pictures, texts, contrast),
            "blip2_itm": match_probability(match),
            "--itm-output logit blip2_itm": match[..., 1],
        }


MODELS = {"blip-hf": HFBLIP(), "blip2-hf": HFBLIP2()}
