"""The matrix: models, towers, types, batches, and who takes part in which cell."""

from dataclasses import dataclass

# Our names of models, as in random:NAME, and open_clip's. All have the exact GELU.
OPEN_CLIP = {"vit-b-32": "ViT-B-32", "vit-l-14": "ViT-L-14", "vit-h-14": "ViT-H-14"}
TOWERS = ("image", "text")
DTYPES = ("f32", "bf16", "int8")

OURS = "tia2-engine"
OPENVINO = ("openvino-latency", "openvino-throughput")
PYTORCH = ("pytorch-eager", "pytorch-compiled")
ONNX_RUNTIME = "onnxruntime"

# The types that each peer has on a CPU.
PEERS = {
    OPENVINO[0]: ("f32", "bf16", "int8"),
    OPENVINO[1]: ("f32", "bf16", "int8"),
    ONNX_RUNTIME: ("f32", "int8"),
    PYTORCH[0]: ("f32", "bf16"),
    PYTORCH[1]: ("f32", "bf16"),
}

# Images a call; for the text tower the peers' texts a call, while ours gets all texts at once and plans them itself.
BATCHES = {
    ("vit-b-32", "image"): (1, 32),
    ("vit-l-14", "image"): (1, 8),
    ("vit-h-14", "image"): (1, 4),
    ("vit-b-32", "text"): (32,),
    ("vit-l-14", "text"): (16,),
    ("vit-h-14", "text"): (8,),
}


@dataclass(frozen=True)
class Cell:
    """One comparison: a tower of a model with one type of weights and one batch."""

    model: str
    tower: str
    dtype: str
    batch: int
    threads: int

    def __str__(self) -> str:
        return f"{self.model} {self.tower} {self.dtype}, batch {self.batch}, {self.threads} threads"


def form_of(peer: str, tower: str, dtype: str) -> str:
    """Returns which form of a model (models.py) a peer runs."""
    if peer in PYTORCH:
        return "checkpoint"
    name = "openvino" if peer in OPENVINO else "onnx"
    return f"{name}-int8-{tower}" if dtype == "int8" else f"{name}-{tower}"
