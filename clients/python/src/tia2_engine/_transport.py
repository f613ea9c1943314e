"""HTTP with kept connections and bounded retries, on http.client."""

from __future__ import annotations

import http.client
import io
import itertools
import json
import os
import queue
import random
import socket
import ssl
import time
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Callable, cast
from urllib.parse import urlsplit

from ._errors import BadRequest, ConnectionFailed, Overloaded, ServerError, TIA2Error, TimedOut

RETRIED = (429, 502, 503)  # too much to do; a proxy without a server behind it; ending or starting
CONNECT_SECONDS = 10.0  # most that a connection may take
BACKOFF_SECONDS = (0.25, 10.0)  # first wait where the server names none, and the longest


class Transport:
    """Sends requests to one server. Safe from any thread, and after a fork.

    timeout        seconds that one attempt may take, from connecting to the last byte of the answer
    retries        most attempts after the first
    retry_seconds  no attempt begins later than this after the first
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        timeout: float = 120.0,
        retries: int = 8,
        retry_seconds: float = 120.0,
        ssl_context: ssl.SSLContext | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url {url!r}: expected http://HOST:PORT or https://HOST:PORT")
        if timeout <= 0 or retries < 0 or retry_seconds < 0:
            raise ValueError("expected timeout > 0, retries >= 0 and retry_seconds >= 0")
        self.url = url
        self.api_key, self.timeout, self.retries, self.retry_seconds = api_key, timeout, retries, retry_seconds
        self.ssl_context, self.sleep = ssl_context, sleep
        self._tls = parts.scheme == "https"
        self._host, self._port, self._prefix = parts.hostname, parts.port, parts.path.rstrip("/")
        self._reset()

    def _reset(self) -> None:
        self._idle: queue.LifoQueue[http.client.HTTPConnection] = queue.LifoQueue()
        self._pid = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        if self.ssl_context is not None:
            raise TypeError("a client with an ssl_context cannot be pickled: make it where it is used")
        return {**self.__dict__, "_idle": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def close(self) -> None:
        """Closes the connections that are idle."""
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return

    def __del__(self) -> None:
        if getattr(self, "_pid", None) == os.getpid():
            self.close()

    def json(self, method: str, path: str, value: Any = None) -> Any:
        """Sends a value as JSON and returns the value that comes back, None for an empty answer."""
        body = None if value is None else json.dumps(value, separators=(",", ":")).encode("ascii")
        answer = self.request(method, path, body)
        try:
            return json.loads(answer) if answer else None
        except ValueError as e:
            raise TIA2Error(f"{path}: the answer is not JSON: {answer[:80]!r}") from e

    def request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Returns the body of the answer 200. Tries again what may work later: 429, 502, 503 and failed connections."""
        until = time.monotonic() + self.retry_seconds
        for attempt in itertools.count():
            try:
                return self.attempt(method, path, body)
            except (ConnectionFailed, Overloaded) as e:
                wait = backoff(attempt, getattr(e, "retry_after", None))
                stranger = isinstance(e.__cause__, ssl.SSLCertVerificationError)
                if stranger or attempt >= self.retries or time.monotonic() + wait > until:
                    raise
            self.sleep(wait)
        raise AssertionError("unreachable")

    def attempt(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Sends a request once; once more where a kept connection turns out to be closed."""
        until = time.monotonic() + self.timeout
        try:
            for connection in (self._take(), None):
                try:
                    return self._exchange(connection or self._connect(until), method, path, body, until)
                except (ConnectionError, http.client.HTTPException):
                    if connection is None:
                        raise
        except (TimeoutError, socket.timeout) as e:
            raise TimedOut(f"{self.url}{path}: no answer within {self.timeout:g} s") from e
        except (OSError, http.client.HTTPException) as e:
            raise ConnectionFailed(f"{self.url}{path}: {e or type(e).__name__}") from e
        raise AssertionError("unreachable")

    def _take(self) -> http.client.HTTPConnection | None:
        if self._pid != os.getpid():  # the connections belong to the parent
            self._reset()
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return None

    def _connect(self, until: float) -> http.client.HTTPConnection:
        seconds = remaining(until, CONNECT_SECONDS)
        connection: http.client.HTTPConnection
        if self._tls:
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=seconds, context=self.ssl_context)
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=seconds)
        try:
            connection.connect()
        except (TimeoutError, socket.timeout) as e:
            raise ConnectionError(f"no connection within {seconds:.3g} s") from e
        return connection

    def _exchange(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None, until: float
    ) -> bytes:
        headers = {"Accept": "application/json", "User-Agent": "tia2-engine-python"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        keep = False
        try:
            connection.sock.settimeout(remaining(until))
            try:
                connection.request(method, self._prefix + path, body, headers)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the server may have refused the body before it was sent: its answer says why
            connection.response_class = cast(Any, partial(TimedResponse, until=until))
            response = connection.getresponse()
            answer = response.read()
            keep = not response.will_close
        finally:
            if keep:
                self._idle.put(connection)
            else:
                connection.close()
        if response.status != 200:
            raise failure(response, answer)
        return answer


def remaining(until: float, most: float = float("inf")) -> float:
    """Returns the seconds that are left, raises TimeoutError where none are."""
    seconds = until - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return min(seconds, most)


class TimedReader(io.RawIOBase):
    """Reads a socket until a moment, however few bytes come at a time."""

    def __init__(self, sock: Any, until: float) -> None:
        self._sock, self._until = sock, until
        self._io = sock.makefile("rb", buffering=0)  # keeps the socket open while the answer is read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(remaining(self._until))
        count: int | None = self._io.readinto(buffer)
        return count

    def close(self) -> None:
        self._io.close()
        super().close()


class TimedResponse(http.client.HTTPResponse):
    """An answer that is read with TimedReader."""

    def __init__(self, sock: Any, *args: Any, until: float, **options: Any) -> None:
        class Source:
            @staticmethod
            def makefile(mode: str) -> io.BufferedReader:
                return io.BufferedReader(TimedReader(sock, until))

        super().__init__(cast(socket.socket, Source), *args, **options)


def backoff(attempt: int, asked: float | None) -> float:
    """Returns the seconds to wait after so many attempts: what the server asked for, else twice as long each time; with
    some chance in it, so that clients refused together do not come back together."""
    if asked is not None:
        return asked * random.uniform(1.0, 1.1)
    first, most = BACKOFF_SECONDS
    return min(first * 2.0 ** min(attempt, 30), most) * random.uniform(0.5, 1.0)


def failure(response: http.client.HTTPResponse, body: bytes) -> ServerError:
    """Returns the error that an answer other than 200 means."""
    kind = ServerError
    if response.status in RETRIED:
        kind = Overloaded
    elif 400 <= response.status < 500:
        kind = BadRequest
    return kind(response.status, message_of(body) or response.reason, retry_after(response.headers.get("Retry-After")))


def message_of(body: bytes) -> str:
    """Returns the message of {"error":{"message":...}}, else the body's beginning."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace").strip()


def retry_after(value: str | None) -> float | None:
    """Reads a Retry-After header: seconds or a date. None where there is none or it cannot be read."""
    if value is None:
        return None
    try:
        if value.strip().isdigit():
            return float(value)
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
