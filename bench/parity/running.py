"""What the references share in running a model."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

# What a reference answers, by the name of the array in tia2-engine's .npz, before which stand the flags that it takes:
# "image_embeds" [N, D] or [N, Q, D], "text_embeds" [M, D], "blip_itc" [N, M], "--itm-output logit blip_itm" [N, M].
Expected = dict[str, torch.Tensor]


def remember(encoder: nn.Module) -> None:
    """Has an image encoder compute a picture once, as it is asked for with every text."""
    compute, known = encoder.forward, {}

    def forward(*args: Any, **kwargs: Any) -> Any:
        pixels = next(v for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor))
        key = pixels.numpy().tobytes()
        if key not in known:
            known[key] = compute(*args, **kwargs)
        return known[key]

    encoder.forward = forward  # type: ignore[method-assign]


def pairs(pictures: list[Any], texts: list[Any], score: Callable[[Any, Any], torch.Tensor]) -> torch.Tensor:
    """Returns the scores of every picture with every text, [N, M, ...]; score gets one of each."""
    return torch.stack([torch.stack([score(picture, text) for text in texts]) for picture in pictures])


def match_probability(logits: torch.Tensor) -> torch.Tensor:
    """Returns how likely a match is, from logits (no match, match) in the last dimension."""
    return logits.softmax(-1)[..., 1]
