"""The client for asyncio: the same calls on threads of their own."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Callable, Sequence, TypeVar

from ._client import Client, Embeddings, Pairs, Scores, TextNorm
from ._images import Pictures

R = TypeVar("R")


class AsyncClient:
    """Client for asyncio. Arguments as for Client, and

    calls  calls at a time; further ones wait for a thread

    A call that is cancelled ends for its caller; what it has sent is answered all the same.
    """

    def __init__(self, url: str, *, calls: int = 16, **options: Any) -> None:
        self.client = Client(url, **options)
        self._threads = ThreadPoolExecutor(calls, thread_name_prefix="tia2-engine-call")

    async def _run(self, call: Callable[..., R], *args: Any) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args))

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Waits for running calls and closes the connections."""
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)
        self.client.close()

    async def score(
        self,
        images: Pictures,
        texts: str | Sequence[str],
        rewards: str | Sequence[str] | None = None,
        pairs: Pairs = "zip",
    ) -> Scores:
        """As Client.score."""
        return await self._run(self.client.score, images, texts, rewards, pairs)

    async def textnorm(
        self,
        images: Pictures,
        prompt: str,
        contrastive: Sequence[str],
        rewards: str | Sequence[str] | None = None,
        scale: float | None = None,
        minmax: str | None = None,
    ) -> TextNorm:
        """As Client.textnorm."""
        return await self._run(self.client.textnorm, images, prompt, contrastive, rewards, scale, minmax)

    async def embed_images(self, images: Pictures, model: str) -> Embeddings:
        """As Client.embed_images."""
        return await self._run(self.client.embed_images, images, model)

    async def embed_texts(self, texts: str | Sequence[str], model: str) -> Embeddings:
        """As Client.embed_texts."""
        return await self._run(self.client.embed_texts, texts, model)

    async def models(self) -> list[dict[str, Any]]:
        """As Client.models."""
        return await self._run(self.client.models)

    async def rewards(self) -> list[str]:
        """As Client.rewards."""
        return await self._run(self.client.rewards)

    async def ready(self) -> bool:
        """As Client.ready."""
        return await self._run(self.client.ready)
