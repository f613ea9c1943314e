"""The client: score, textnorm, embeddings, models."""

from __future__ import annotations

import base64
import os
import re
import ssl
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, NamedTuple, Sequence, TypeVar, Union

import numpy as np
import numpy.typing as npt

from ._errors import BadRequest, ItemError, ItemsFailed, ItemWarning, TIA2Error, describe
from ._images import BadImage, Pictures, encode, split
from ._transport import Transport

Floats = npt.NDArray[np.float32]
Pairs = Union[str, Sequence[Sequence[int]], npt.NDArray[Any]]
T = TypeVar("T")
R = TypeVar("R")


class Scores(NamedTuple):
    """Rewards of pairs."""

    rewards: dict[str, Floats]  # by name: [P], NaN where the picture failed
    pairs: npt.NDArray[np.int64]  # [P, 2]: index of the image, index of the text
    errors: list[ItemError]  # pictures that failed


class TextNorm(NamedTuple):
    """Calibrated rewards of pictures for a prompt, set against contrastive prompts."""

    scores: dict[str, Floats]  # by reward: [N, P], column 0 is the prompt, the rest the contrastive prompts
    confidence: dict[str, Floats]  # by reward: [N], 0..1
    errors: list[ItemError]


class Embeddings(NamedTuple):
    """Embeddings of pictures or texts."""

    vectors: Floats  # [N, D], L2-normalised; a row of NaN where the picture failed
    errors: list[ItemError]


class Client:
    """Asks one reward server. Its methods may be called from any thread, also after a fork.

    url            http://HOST:PORT or https://HOST:PORT, with a path where the server stands behind a proxy
    api_key        sent as a bearer token
    timeout        seconds for one attempt of one request
    retries        most repetitions of a request: after 429 and 503, when Retry-After says, and failed connections.
                   A request that the server finds bad (400, 413, ...) is not repeated, nor one not answered in time
    retry_seconds  no repetition begins later than this after the first attempt
    on_error       "nan": a picture that cannot be scored has NaN, with an ItemWarning; "raise": ItemsFailed
    jpeg_quality   1..100: send pictures as JPEG, smaller but with other rewards; None: PNG, lossless
    batch          most pictures of a request; more become several requests
    connections    requests at a time
    ssl_context    for https with a certificate authority of its own
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 120.0,
        retries: int = 8,
        retry_seconds: float = 120.0,
        on_error: str = "nan",
        jpeg_quality: int | None = None,
        batch: int = 32,
        connections: int = 4,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        if on_error not in ("nan", "raise"):
            raise ValueError(f'on_error {on_error!r}: expected "nan" or "raise"')
        if jpeg_quality is not None and not 1 <= jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality {jpeg_quality}: expected 1 to 100")
        if batch < 1 or connections < 1:
            raise ValueError("batch and connections: expected numbers >= 1")
        self._transport = Transport(url, api_key, timeout, retries, retry_seconds, ssl_context)
        self.on_error, self.jpeg_quality, self.batch, self.connections = on_error, jpeg_quality, batch, connections
        self._reset()

    def _reset(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._lock, self._pid = threading.Lock(), os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_threads": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the threads and closes the connections. The client may be used again."""
        with self._lock:
            threads, self._threads = self._threads, None
        if threads is not None and self._pid == os.getpid():
            threads.shutdown()
        self._transport.close()

    def score(
        self,
        images: Pictures,
        texts: str | Sequence[str],
        rewards: str | Sequence[str] | None = None,
        pairs: Pairs = "zip",
    ) -> Scores:
        """Returns the rewards of pairs of pictures and texts.

        rewards  names, None for all that the server has
        pairs    "zip": picture i with text i, or the one with all where one side has one item; "all": every picture
                 with every text, picture by picture; or [P, 2] indexes of picture and text
        """
        files = Files(images, self.jpeg_quality)
        texts = list_of(texts)
        chosen = pair_up(pairs, len(files), len(texts))
        names = None if rewards is None else list_of(rewards)

        def ask(part: npt.NDArray[np.int64]) -> tuple[dict[str, Floats], list[ItemError]]:
            sent, errors = files.encode(np.unique(part[:, 0]))
            return self._score_part(part, sent, texts, names), errors + sent.errors

        answers = self._map(ask, cut(chosen, self.batch))
        found = list(answers[0][0]) if answers else names or []
        out = {name: join([a[0].get(name) for a in answers], name) for name in found}
        return Scores(out, chosen, self._failed([e for a in answers for e in a[1]]))

    def _score_part(
        self, part: npt.NDArray[np.int64], sent: Sent, texts: list[str], names: list[str] | None
    ) -> dict[str, Floats]:
        """Asks for the pairs whose pictures could be sent, and puts NaN for the others."""
        used, local = np.unique(part[:, 1], return_inverse=True)
        able = np.isin(part[:, 0], sent.indexes)
        if not able.any():
            return {name: np.full(len(part), np.nan, np.float32) for name in names or self.rewards()}
        where = np.searchsorted(sent.indexes, part[able, 0])
        request: dict[str, Any] = {
            "images": sent.files,
            "texts": [texts[i] for i in used],
            "pairs": np.stack([where, local.reshape(-1)[able]], axis=1).tolist(),
        }
        if names is not None:
            request["rewards"] = names
        answer = self._transport.json("POST", "/v1/score", request)
        sent.note(answer)
        out = {}
        for name, values in member(answer, "rewards", dict).items():
            out[name] = np.full(len(part), np.nan, np.float32)
            out[name][able] = floats(values, (len(where),), f"rewards.{name}")
        return out

    def textnorm(
        self,
        images: Pictures,
        prompt: str,
        contrastive: Sequence[str],
        rewards: str | Sequence[str] | None = None,
        scale: float | None = None,
        minmax: str | None = None,
    ) -> TextNorm:
        """Returns the TextNorm confidence that each picture shows the prompt and not one of the contrastive prompts.

        scale   of the softmax, None for the server's (10)
        minmax  over what rewards are rescaled: "image", or "set": all pictures of the call, which then is one request
        """
        files = Files(images, self.jpeg_quality)
        request: dict[str, Any] = {"prompt": prompt, "contrastive": list(contrastive)}
        if rewards is not None:
            request["rewards"] = list_of(rewards)
        if scale is not None:
            request["scale"] = scale
        if minmax is not None:
            request["minmax"] = minmax
        parts = ranges(len(files), len(files) if minmax == "set" else self.batch)

        def ask(part: npt.NDArray[np.int64]) -> tuple[dict[str, TextNormPart], list[ItemError]]:
            sent, errors = files.encode(part)
            if not sent.files:
                return {}, errors
            answer = self._transport.json("POST", "/v1/textnorm", {**request, "images": sent.files})
            sent.note(answer)
            rows = np.asarray(sent.indexes) - part[0]
            values = member(answer, "rewards", dict)
            return {n: textnorm_part(n, v, len(part), rows) for n, v in values.items()}, errors + sent.errors

        answers = self._map(ask, parts)
        found = next((a[0] for a in answers if a[0]), None)
        if found is None:  # no picture could be sent
            names = request.get("rewards") or self.rewards()
            found = {name: failed_part(0, 1 + len(contrastive)) for name in names}
        scores, confidence = {}, {}
        for name, like in found.items():
            blocks = [a[0].get(name) or failed_part(len(p), like[0].shape[1]) for a, p in zip(answers, parts)]
            scores[name] = np.concatenate([like[0][:0], *(b[0] for b in blocks)])
            confidence[name] = np.concatenate([like[1][:0], *(b[1] for b in blocks)])
        return TextNorm(scores, confidence, self._failed([e for a in answers for e in a[1]]))

    def embed_images(self, images: Pictures, model: str) -> Embeddings:
        """Returns the embeddings of pictures by the model of this name (see models)."""
        files = Files(images, self.jpeg_quality)

        def ask(part: npt.NDArray[np.int64]) -> tuple[list[Floats | None], list[ItemError]]:
            sent, errors = files.encode(part)
            rows: list[Floats | None] = [None] * len(part)
            for i, vector in self._embed_sent(sent, model):
                rows[int(sent.indexes[i] - part[0])] = vector
            return rows, errors + sent.errors

        answers = self._map(ask, ranges(len(files), self.batch))
        errors = self._failed([e for a in answers for e in a[1]])
        return Embeddings(stack([row for a in answers for row in a[0]]), errors)

    def _embed_sent(self, sent: Sent, model: str) -> list[tuple[int, Floats]]:
        """Returns index and vector of pictures. The server refuses a request for one picture that it cannot read, since
        OpenAI's answer has no place for errors: the others are asked for again without it."""
        while sent.files:
            try:
                return vectors(self._embed([{"image": file} for file in sent.files], model), len(sent.files))
            except BadRequest as e:
                named = re.match(r"input\[(\d+)\]: (.*)", e.message, re.DOTALL)
                if named is None or int(named[1]) >= len(sent.files):
                    raise
                sent.drop(int(named[1]), named[2])
        return []

    def embed_texts(self, texts: str | Sequence[str], model: str) -> Embeddings:
        """Returns the embeddings of texts by the model of this name (see models)."""
        texts = list_of(texts)
        step = 8 * self.batch  # a text is small beside a picture

        def ask(part: list[str]) -> list[Floats | None]:
            rows: list[Floats | None] = [None] * len(part)
            for i, vector in vectors(self._embed(part, model), len(part)):
                rows[i] = vector
            return rows

        answers = self._map(ask, [texts[i : i + step] for i in range(0, len(texts), step)])
        return Embeddings(stack([row for rows in answers for row in rows]), [])

    def _embed(self, items: Sequence[Any], model: str) -> Any:
        request = {"model": model, "input": items, "encoding_format": "base64"}
        return self._transport.json("POST", "/v1/embeddings", request)

    def models(self) -> list[dict[str, Any]]:
        """Returns what the server has loaded: name (id), reward names, checkpoint, preprocessing, scale."""
        return list(member(self._transport.json("GET", "/v1/models"), "data", list))

    def rewards(self) -> list[str]:
        """Returns the names of all rewards that the server has, in its order."""
        names: dict[str, None] = {}
        for model in self.models():
            names.update(dict.fromkeys(model.get("rewards") or ()))
        return list(names)

    def ready(self) -> bool:
        """Says whether the server answers its own probe lately. A server that cannot be reached is not ready."""
        try:
            self._transport.attempt("GET", "/readyz")
        except TIA2Error:
            return False
        return True

    def wait_ready(self, seconds: float = 60.0, interval: float = 0.25) -> None:
        """Returns when the server is ready, raises TimeoutError when it is not after so many seconds."""
        until = time.monotonic() + seconds
        while not self.ready():
            if time.monotonic() + interval > until:
                raise TimeoutError(f"{self._transport.url}: not ready within {seconds:g} s")
            time.sleep(interval)

    def _map(self, ask: Callable[[T], R], parts: Sequence[T]) -> list[R]:
        """Calls ask for each part, several at a time. After the first failure no further part begins."""
        if len(parts) < 2 or self.connections == 1:
            return [ask(part) for part in parts]
        futures = [self._executor().submit(ask, part) for part in parts]
        try:
            return [f.result() for f in futures]
        finally:
            for f in futures:
                f.cancel()

    def _executor(self) -> ThreadPoolExecutor:
        if self._pid != os.getpid():  # threads do not survive a fork
            self._reset()
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self.connections, thread_name_prefix="tia2-engine")
            return self._threads

    def _failed(self, errors: list[ItemError]) -> list[ItemError]:
        """Sorts out repeated errors, and raises or warns as on_error says."""
        errors = sorted({e.image: e for e in reversed(errors)}.values())
        if errors and self.on_error == "raise":
            raise ItemsFailed(errors)
        if errors:
            warnings.warn(describe(errors), ItemWarning, stacklevel=3)
        return errors


class Sent:
    """The pictures of one request: their indexes among all, ascending, and their files in base64,
    of which the server finds the format by content."""

    def __init__(self) -> None:
        self.indexes: list[int] = []
        self.files: list[str] = []
        self.errors: list[ItemError] = []

    def note(self, answer: Any) -> None:
        """Keeps the errors of an answer, with indexes among all pictures."""
        for e in (answer or {}).get("errors") or ():
            self.errors.append(ItemError(self.indexes[e["image"]], str(e.get("message", "failed"))))

    def drop(self, i: int, why: str) -> None:
        """Leaves out the picture that was sent as the i-th."""
        self.errors.append(ItemError(self.indexes.pop(i), why))
        del self.files[i]


class Files:
    """The pictures of a call, each made into a file when its request is built, by that request's thread."""

    def __init__(self, images: Pictures, jpeg_quality: int | None) -> None:
        self.images = split(images)
        self.jpeg_quality = jpeg_quality

    def __len__(self) -> int:
        return len(self.images)

    def encode(self, indexes: npt.NDArray[np.int64]) -> tuple[Sent, list[ItemError]]:
        """Returns the pictures at the indexes, and an error for each that cannot be sent."""
        sent, errors = Sent(), []
        for i in indexes.tolist():
            try:
                file = base64.b64encode(encode(self.images[i], self.jpeg_quality)).decode("ascii")
            except BadImage as e:
                errors.append(ItemError(i, str(e)))
                continue
            sent.indexes.append(i)
            sent.files.append(file)
        return sent, errors


def list_of(values: str | Sequence[str]) -> list[str]:
    """Returns strings as a list. An array of strings, as of NumPy, becomes Python's strings."""
    return [values] if isinstance(values, str) else [str(v) for v in values]


def pair_up(pairs: Pairs, images: int, texts: int) -> npt.NDArray[np.int64]:
    """Returns the pairs, [P, 2], that ``pairs`` means for so many images and texts."""
    if isinstance(pairs, str):
        if pairs == "all":
            return np.stack([np.repeat(np.arange(images), texts), np.tile(np.arange(texts), images)], axis=1)
        if pairs != "zip":
            raise ValueError(f'pairs {pairs!r}: expected "zip", "all" or indexes [P, 2]')
        if images != texts and 1 not in (images, texts):
            raise ValueError(f"{images} images and {texts} texts: expected as many of each, or one of either")
        count = 0 if 0 in (images, texts) else max(images, texts)
        index = np.arange(count)
        return np.stack([index if images > 1 else index * 0, index if texts > 1 else index * 0], axis=1)
    chosen = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    if chosen.size and (chosen.min() < 0 or chosen[:, 0].max() >= images or chosen[:, 1].max() >= texts):
        raise ValueError(f"pairs: an index is outside of {images} images and {texts} texts")
    return chosen


def ranges(count: int, most: int) -> list[npt.NDArray[np.int64]]:
    """Returns 0 .. count-1 in parts of at most so many."""
    return [np.arange(i, min(i + most, count)) for i in range(0, count, max(most, 1))]


def cut(pairs: npt.NDArray[np.int64], most: int) -> list[npt.NDArray[np.int64]]:
    """Cuts pairs, in their order, into parts of at most so many different images."""
    parts, start = [], 0
    seen: set[int] = set()
    for i, image in enumerate(pairs[:, 0].tolist()):
        if image not in seen and len(seen) == most:
            parts.append(pairs[start:i])
            start, seen = i, set()
        seen.add(image)
    if start < len(pairs):
        parts.append(pairs[start:])
    return parts


def member(answer: Any, name: str, kind: type) -> Any:
    """Returns a member of an answer, which is of this type or the answer is an error."""
    value = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(value, kind):
        raise TIA2Error(f"the answer has no {name} of type {kind.__name__}")
    return value


def floats(values: Any, shape: tuple[int, ...], what: str) -> Floats:
    """Returns numbers of an answer as an array of this shape, null as NaN."""
    try:
        array = np.array(values, dtype=np.float32)  # None becomes NaN
    except (TypeError, ValueError) as e:
        raise TIA2Error(f"the answer's {what}: {e}") from e
    if array.shape != shape:
        raise TIA2Error(f"the answer's {what} has shape {array.shape}: expected {shape}")
    return array


def join(parts: Sequence[Floats | None], name: str) -> Floats:
    """Joins the rewards of several requests."""
    if any(p is None for p in parts):
        raise TIA2Error(f"reward {name} is missing in some answers: the server's models have changed")
    return np.concatenate([p for p in parts if p is not None]) if parts else np.empty(0, np.float32)


TextNormPart = tuple[Floats, Floats]  # scores [n, P] and confidence [n] of some pictures


def failed_part(rows: int, width: int) -> TextNormPart:
    """Returns the TextNorm of pictures that all failed."""
    return np.full((rows, width), np.nan, np.float32), np.full(rows, np.nan, np.float32)


def textnorm_part(name: str, value: Any, count: int, rows: npt.NDArray[np.int64]) -> TextNormPart:
    """Returns the TextNorm of so many pictures, of which those at rows were sent, from an answer about one reward."""
    sent = member(value, "scores", list)
    width = max((len(row) for row in sent if row), default=0)
    scores, confidence = failed_part(count, width)
    filled = [row or [None] * width for row in sent]
    scores[rows] = floats(filled, (len(rows), width), f"rewards.{name}.scores")
    confidence[rows] = floats(member(value, "confidence", list), (len(rows),), f"rewards.{name}.confidence")
    return scores, confidence


def vectors(answer: Any, count: int) -> list[tuple[int, Floats]]:
    """Returns index and vector of the embeddings in an answer. Those that failed have none."""
    out = []
    for row in member(answer, "data", list):
        index, vector = row.get("index"), row.get("embedding")
        if not isinstance(index, int) or not 0 <= index < count:
            raise TIA2Error(f"the answer's data has index {index}: expected 0 to {count - 1}")
        if isinstance(vector, str):
            out.append((index, np.frombuffer(base64.b64decode(vector), dtype="<f4").astype(np.float32)))
        elif vector is not None:
            out.append((index, np.asarray(vector, dtype=np.float32)))
    return out


def stack(rows: list[Floats | None]) -> Floats:
    """Returns rows as one array, NaN for those that are missing."""
    width = next((row.size for row in rows if row is not None), 0)
    out = np.full((len(rows), width), np.nan, np.float32)
    for i, row in enumerate(rows):
        if row is not None:
            if row.size != width:
                raise TIA2Error(f"an embedding of {row.size} numbers beside one of {width}")
            out[i] = row
    return out


def textnorm(url: str, images: Pictures, prompt: str, contrastive: Sequence[str], **options: Any) -> TextNorm:
    """Returns Client.textnorm of one call, without a client to keep. Options are those of both: rewards, scale, minmax,
    and api_key, timeout, ..."""
    call = {name: options.pop(name) for name in ("rewards", "scale", "minmax") if name in options}
    with Client(url, **options) as client:
        return client.textnorm(images, prompt, contrastive, **call)
