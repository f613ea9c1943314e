"""The models that are compared: full size, random weights, each in the layout of a published checkpoint."""

from dataclasses import dataclass

DTYPES = ("f32", "f16", "bf16", "int8")

# Whose own code computes a reference: the flag and the variable that name the checkout, and where it is from.
CHECKOUTS = {
    "BLIP": "github.com/salesforce/BLIP",
    "LAVIS": "github.com/salesforce/LAVIS",
    "IMAGEREWARD": "github.com/THUDM/ImageReward",
}


@dataclass(frozen=True)
class Entry:
    """One model. Its files have the names of the published ones, by which tia2-engine tells some rewards."""

    name: str
    what: str
    files: tuple[str, ...]  # what --model gets, once for each
    checkout: str = ""  # a key of CHECKOUTS; "": transformers or open_clip


ENTRIES = (
    Entry("clip", "transformers CLIPModel, ViT-B/32, f32", ("clip-vit-base-patch32",)),
    Entry(
        "aesthetic",
        "the V2 head over CLIPModel, ViT-L/14, f16",
        ("clip-vit-large-patch14", "sac+logos+ava1-l14-linearMSE.pth"),
    ),
    Entry("pickscore", "transformers CLIPModel, ViT-H/14, f16", ("PickScore_v1",)),
    Entry("hpsv2", "open_clip ViT-H/14, state dict, f16", ("HPS_v2.1_compressed.pt",)),
    Entry("blip-hf", "transformers BlipForImageTextRetrieval, ViT-B/16 at 384, f32", ("blip-itm-base-coco",)),
    Entry("blip2-hf", "transformers Blip2ForImageTextRetrieval, ViT-g/14, f16", ("blip2-itm-vit-g",)),
    Entry("blip", "BLIP's BLIP_ITM, ViT-L/16 at 384, f32", ("model_large_retrieval_coco.pth",), "BLIP"),
    Entry("blip2-lavis", "LAVIS's Blip2ITM, ViT-g/14, f32 and f16", ("blip2_pretrained.pth",), "LAVIS"),
    Entry("imagereward", "ImageReward, ViT-L/16 at 224, f32", ("ImageReward.pt",), "IMAGEREWARD"),
)


def find(name: str) -> Entry:
    """Returns the model of a name."""
    return next(entry for entry in ENTRIES if entry.name == name)
