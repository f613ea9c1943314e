"""Client of the reward server of tia2-engine (``tia2-engine serve``).

For trainers, one line:

    reward = tia2_engine.reward_fn("http://127.0.0.1:8080", "pickscore")
    scores, info = reward(images, prompts, metadata)       # ddpo-pytorch, TRL

    reward = tia2_engine.multi_score(url, {"pickscore": 0.5, "clipscore": 0.5})   # flow_grpo

    reward = tia2_engine.textnorm_fn(url, "pickscore", contrastive)               # calibrated: TextNorm

For everything else :class:`Client` and :class:`AsyncClient`. Pictures are torch tensors or arrays (float NCHW 0..1, or
uint8 NHWC), PIL pictures, files or their bytes; they travel as PNG, so that no reward changes on the way.
"""

from ._aio import AsyncClient
from ._client import Client, Embeddings, Scores, TextNorm, textnorm
from ._errors import (
    BadRequest,
    ConnectionFailed,
    ItemError,
    ItemsFailed,
    ItemWarning,
    Overloaded,
    ServerError,
    TIA2Error,
    TimedOut,
)
from ._rewards import FLOW_GRPO_NAMES, FLOW_GRPO_SCALES, multi_score, reward_fn, textnorm_fn

__version__ = "0.1.0"

__all__ = [
    "FLOW_GRPO_NAMES",
    "FLOW_GRPO_SCALES",
    "AsyncClient",
    "BadRequest",
    "Client",
    "ConnectionFailed",
    "Embeddings",
    "ItemError",
    "ItemWarning",
    "ItemsFailed",
    "Overloaded",
    "Scores",
    "ServerError",
    "TIA2Error",
    "TextNorm",
    "TimedOut",
    "multi_score",
    "reward_fn",
    "textnorm",
    "textnorm_fn",
]
