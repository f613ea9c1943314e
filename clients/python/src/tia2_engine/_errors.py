"""What can go wrong."""

from __future__ import annotations

from typing import NamedTuple, Sequence


class TIA2Error(Exception):
    """Any failure of a request."""


class ConnectionFailed(TIA2Error, ConnectionError):
    """The server could not be reached, or closed the connection before it answered."""


class TimedOut(TIA2Error, TimeoutError):
    """No answer within the timeout. Not tried again: the server may still be working on it."""


class ServerError(TIA2Error):
    """An answer that is not 200.

    status       HTTP status
    message      what the server says
    retry_after  seconds after which it asks to be tried again, None if it does not say
    """

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"status {status}: {message}")
        self.status = status
        self.message = message
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[type[ServerError], tuple[int, str, float | None]]:
        return type(self), (self.status, self.message, self.retry_after)


class BadRequest(ServerError):
    """The request itself is at fault (status 4xx but 429): the same request would fail again."""


class Overloaded(ServerError):
    """The server had too much to do or was ending (429, 502, 503), still so after all retries."""


class ItemError(NamedTuple):
    """A picture that could not be scored."""

    image: int  # index of the picture
    message: str


class ItemsFailed(TIA2Error):
    """Some pictures could not be scored, and on_error is "raise". ``errors`` names each."""

    def __init__(self, errors: Sequence[ItemError]) -> None:
        super().__init__(describe(errors))
        self.errors = list(errors)

    def __reduce__(self) -> tuple[type[ItemsFailed], tuple[list[ItemError]]]:
        return type(self), (self.errors,)


class ItemWarning(UserWarning):
    """Some pictures could not be scored; their rewards are NaN."""


def describe(errors: Sequence[ItemError], most: int = 5) -> str:
    """Names the first failed pictures and counts the rest."""
    named = "; ".join(f"image {e.image}: {e.message}" for e in errors[:most])
    return named + (f"; and {len(errors) - most} more" if len(errors) > most else "")
