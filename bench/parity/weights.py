"""Random weights."""

from math import log

import torch
from torch import nn

SEED = 2024
PRODUCTS = (nn.Linear, nn.Conv2d, nn.MultiheadAttention)

# By part of a name, what makes the weights of a product larger or smaller than those of others: attention that chooses, and
# rewards that depend on the text as much as on the picture, of which a cross encoder takes in many tokens in each layer.
FACTORS = {".query.": 1.4, ".key.": 1.4, "crossattention.output.": 0.25, "itm_head.": 4.0}


def randomise(model: nn.Module, seed: int = SEED) -> nn.Module:
    """Fills a model so that rows have about the same length after every layer, and that each weight matters: gains about
    1, biases about 0.1, tables 0.05, products 1/sqrt(fan-in), the logarithm of the logit scale as trained CLIPs have it."""
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for where, module in model.named_modules():
            for name, p in module.named_parameters(recurse=False):
                p.normal_(generator=noise)
                if p.ndim == 0:
                    p.fill_(log(100))
                elif name.endswith("bias"):
                    p.mul_(0.1)
                elif "norm" in type(module).__name__.lower():
                    p.mul_(0.1).add_(1)
                elif isinstance(module, PRODUCTS):
                    p.mul_(factor(f"{where}.{name}") * p[0].numel() ** -0.5)
                elif name.endswith(("proj", "projection")):  # open_clip's, [in, out]
                    p.mul_(len(p) ** -0.5)
                else:
                    p.mul_(0.05)
    return model.eval()


def factor(name: str) -> float:
    """Returns the factor of a product's weights."""
    return next((value for part, value in FACTORS.items() if part in name), 1.0)
