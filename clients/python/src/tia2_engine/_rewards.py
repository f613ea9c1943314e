"""Reward functions with the signatures that trainers call."""

from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence

import numpy as np

from ._client import Client, Floats, list_of
from ._images import Pictures, split

FLOW_GRPO_NAMES: Mapping[str, str] = {"clipscore": "clip"}
"""What flow_grpo calls a reward, where the server has another name for it."""

FLOW_GRPO_SCALES: Mapping[str, float] = {"pickscore": 1 / 26, "clipscore": 1 / 30}
"""What flow_grpo multiplies a reward with before it weights it."""


class RewardFunction:
    """reward(images, prompts, metadata) -> (scores, info), as ddpo-pytorch and TRL call it. See reward_fn."""

    def __init__(self, client: Client, weights: Mapping[str, float]) -> None:
        self.client, self.weights = client, dict(weights)

    def __call__(self, images: Pictures, prompts: Sequence[str], metadata: Any = None) -> tuple[Floats, dict[str, Any]]:
        """Returns the weighted sum, f32 [N], and the single rewards by name."""
        rewards = self._rewards(images, list_of(prompts))
        return weighted(rewards, self.weights), dict(rewards)

    def _rewards(self, images: Pictures, prompts: list[str]) -> dict[str, Floats]:
        return self.client.score(images, prompts, list(self.weights)).rewards


class TextNormFunction(RewardFunction):
    """A RewardFunction whose rewards are TextNorm confidences. See textnorm_fn."""

    def __init__(
        self,
        client: Client,
        weights: Mapping[str, float],
        contrastive: Callable[[str], Sequence[str]],
        scale: float | None,
    ) -> None:
        super().__init__(client, weights)
        self.contrastive, self.scale = contrastive, scale

    def _rewards(self, images: Pictures, prompts: list[str]) -> dict[str, Floats]:
        pictures = split(images)
        if len(pictures) != len(prompts):
            raise ValueError(f"{len(pictures)} images and {len(prompts)} prompts: expected as many of each")
        out = {name: np.full(len(prompts), np.nan, np.float32) for name in self.weights}
        for prompt in dict.fromkeys(prompts):  # all pictures of a prompt together, its texts are encoded once
            rows = [i for i, p in enumerate(prompts) if p == prompt]
            result = self.client.textnorm(
                [pictures[i] for i in rows], prompt, self.contrastive(prompt), list(self.weights), self.scale
            )
            for name, confidence in result.confidence.items():
                out[name][rows] = confidence
        return out


class MultiScore:
    """score(images, prompts, metadata) -> ({name: scores, "avg": sum}, {}), as flow_grpo calls it. See multi_score."""

    def __init__(
        self, client: Client, weights: Mapping[str, float], names: Mapping[str, str], scales: Mapping[str, float]
    ) -> None:
        self.client, self.weights, self.names, self.scales = client, dict(weights), dict(names), dict(scales)

    def __call__(
        self,
        images: Pictures,
        prompts: Sequence[str],
        metadata: Any = None,
        ref_images: Any = None,
        only_strict: bool = True,
    ) -> tuple[dict[str, Floats], dict[str, Any]]:
        """Returns each reward under flow_grpo's name, f32 [N], and their weighted sum under "avg"."""
        asked = {name: self.names.get(name, name) for name in self.weights}
        result = self.client.score(images, list_of(prompts), list(dict.fromkeys(asked.values())))
        out = {name: result.rewards[server] * np.float32(self.scales.get(name, 1.0)) for name, server in asked.items()}
        out["avg"] = weighted(out, self.weights)
        return out, {}


def weighted(rewards: Mapping[str, Floats], weights: Mapping[str, float]) -> Floats:
    """Returns the weighted sum of rewards, f32 [N]."""
    total = sum(weight * rewards[name].astype(np.float64) for name, weight in weights.items())
    return np.asarray(total, dtype=np.float32)


def weights_of(models: str | Sequence[str] | Mapping[str, float], weights: Sequence[float] | None) -> dict[str, float]:
    """Returns the weight of each reward: equal ones that sum to 1 where none are given."""
    if isinstance(models, Mapping):
        if weights is not None:
            raise ValueError("weights: models has them already")
        return check_weights(dict(models))
    names = list_of(models)
    if len(set(names)) != len(names):
        raise ValueError(f"models {names}: a name is repeated")
    if weights is None:
        weights = [1 / len(names)] * len(names) if names else []
    if len(weights) != len(names):
        raise ValueError(f"{len(weights)} weights for {len(names)} models")
    return check_weights(dict(zip(names, weights)))


def check_weights(weights: dict[str, float]) -> dict[str, float]:
    if not weights:
        raise ValueError("models: expected the name of a reward")
    for name, weight in weights.items():
        if not np.isfinite(weight):
            raise ValueError(f"weight of {name}: expected a number, not {weight}")
    return {name: float(weight) for name, weight in weights.items()}


def reward_fn(
    url: str,
    models: str | Sequence[str] | Mapping[str, float],
    weights: Sequence[float] | None = None,
    **options: Any,
) -> RewardFunction:
    """Returns a reward function for ddpo-pytorch and TRL: fn(images, prompts, metadata) -> (scores, info).

    url      of the server
    models   names of rewards ("pickscore", "hpsv2", "imagereward", ...; Client.rewards lists them), or {name: weight}
    weights  of the names in models; None: their mean
    options  of Client: api_key, timeout, retries, on_error, jpeg_quality, batch, connections, ssl_context

    scores is f32 [N], the weighted sum; info holds each reward by name. The function may be called from any thread and
    be pickled. metadata is not used.
    """
    return RewardFunction(Client(url, **options), weights_of(models, weights))


def textnorm_fn(
    url: str,
    models: str | Sequence[str] | Mapping[str, float],
    contrastive: Mapping[str, Sequence[str]] | Callable[[str], Sequence[str]],
    weights: Sequence[float] | None = None,
    scale: float | None = None,
    **options: Any,
) -> RewardFunction:
    """Returns a reward function as reward_fn does, whose rewards are calibrated: the TextNorm confidence, 0..1, that a
    picture shows its prompt and none of the contrastive prompts.

    contrastive  prompts that differ from a prompt in a detail: {prompt: [...]}, or a function of the prompt
    scale        of the softmax, None for the server's
    """
    look_up = contrastive if callable(contrastive) else contrastive.__getitem__
    return TextNormFunction(Client(url, **options), weights_of(models, weights), look_up, scale)


def multi_score(
    url: str,
    score_dict: Mapping[str, float],
    *,
    names: Mapping[str, str] = FLOW_GRPO_NAMES,
    scales: Mapping[str, float] = FLOW_GRPO_SCALES,
    **options: Any,
) -> MultiScore:
    """Returns flow_grpo's multi_score: fn(images, prompts, metadata) -> ({name: scores, ..., "avg": sum}, {}).

    score_dict  {name: weight}, flow_grpo's config.reward_fn; "avg" is the weighted sum
    names       the server's name of a reward, where it is not the key
    scales      factor of a reward before its weight: flow_grpo divides pickscore by 26 and clipscore by 30. {}: none
    options     of Client
    """
    return MultiScore(Client(url, **options), check_weights(dict(score_dict)), names, scales)
