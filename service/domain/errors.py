"""Every error Storyhook raises on purpose: one tree, each with its stable code and HTTP status.

``service/api/errors.py`` is the only place that turns these into HTTP answers; workers turn the
``FetchError`` branch into the final state of a request.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any


class StoryhookError(Exception):
    """Base of the tree.

    ``code`` is the machine word callers may rely on, ``status`` the HTTP status, ``message`` a
    sentence for a person. ``details`` maps field names to lists of sentences; ``retry_after`` is
    in whole seconds.
    """

    code = "internal_error"
    status = 500
    default_message = "Something went wrong on our side. The error was recorded."

    def __init__(
        self,
        message: str | None = None,
        *,
        details: dict[str, Any] | None = None,
        retry_after: int | None = None,
    ) -> None:
        self.message = message or self.default_message
        self.details = details
        self.retry_after = retry_after
        super().__init__(self.message)


# --- the caller's side ---------------------------------------------------------------------------


class CallerError(StoryhookError):
    """The request cannot be served as it was sent; nothing was queued or charged."""

    status = 400


class MalformedJson(CallerError):
    """The body is not JSON, or not a JSON object."""

    code = "malformed_json"
    default_message = "The body is not valid JSON. Send a JSON object."


class UnsupportedMediaType(CallerError):
    """The body has another content type than the route reads."""

    code = "unsupported_media_type"
    status = 415
    default_message = "Send the body as JSON with the header 'Content-Type: application/json'."


class PayloadTooLarge(CallerError):
    """The body is over the limit."""

    code = "payload_too_large"
    status = 413


class ValidationFailed(CallerError):
    """A field is missing, unknown or out of range; ``details`` names each one."""

    code = "validation_error"
    status = 422
    default_message = "The request has invalid fields; see 'details'."


class WebhookForbidden(CallerError):
    """The ``webhookUrl`` points where this service may not go."""

    code = "webhook_forbidden"
    status = 422
    default_message = "The webhookUrl points to an address this service may not reach."


class IdempotencyKeyReuse(CallerError):
    """The idempotency key stands for another request already."""

    code = "idempotency_key_reuse"
    status = 422
    default_message = "This Idempotency-Key was used with another body in the last 24 hours. Use a new key."


class Unauthorized(CallerError):
    """No credential, or one that does not hold."""

    code = "unauthorized"
    status = 401
    default_message = "Send a valid token or API key in the header 'Authorization: Bearer ...'."


class InsufficientCredits(CallerError):
    """The price does not fit the available balance."""

    code = "insufficient_credits"
    status = 402


class WatchUnpaid(InsufficientCredits):
    """One run too many of a watch was not paid for: the watch was paused."""

    code = "watch_unpaid"
    status = 402


class Forbidden(CallerError):
    """The caller is known but may not do this."""

    code = "forbidden"
    status = 403
    default_message = "You may not do this."


class NotFound(CallerError):
    """No such thing, or not the caller's."""

    code = "not_found"
    status = 404
    default_message = "There is nothing here."


class MethodNotAllowed(CallerError):
    """The route exists under another method."""

    code = "method_not_allowed"
    status = 405
    default_message = "This route does not support that method."


class Conflict(CallerError):
    """The thing is in a state that does not allow this."""

    code = "conflict"
    status = 409


class RateLimited(CallerError):
    """Too many calls; ``retry_after`` says when to come back."""

    code = "rate_limited"
    status = 429


# --- our side ------------------------------------------------------------------------------------


class ConfigurationError(StoryhookError):
    """A setting is missing or wrong; the process refuses to start."""

    code = "configuration_error"


class StoreUnavailable(StoryhookError):
    """The store does not answer, or refuses writes."""

    code = "service_unavailable"
    status = 503
    default_message = "The service's store is not available right now. Try again shortly."

    def __init__(self, message: str | None = None, *, retry_after: int = 2) -> None:
        super().__init__(message, retry_after=retry_after)


class TooBusy(StoryhookError):
    """As much is under way as this process bears; nothing was begun."""

    code = "too_busy"
    status = 503
    default_message = "Too many calls are under way at a time. Try again shortly."


class BodyTimeout(CallerError):
    """A body that came too slowly, or stopped coming."""

    code = "body_timeout"
    status = 408
    default_message = "The body came too slowly. Send it again, faster."


class BrokenRow(StoryhookError):
    """A row of the store is not as it was written: ``where`` names it by kind and id, ``what`` is wrong."""

    code = "broken_row"

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"The store's {where} cannot be read: {what}.")
        self.where = where
        self.what = what


class StreamBroken(StoryhookError):
    """The store went away in the middle of a body; its status was sent, so that its last line tells."""

    code = "store_unavailable"
    status = 503
    default_message = "The service's store does not answer any more."


class StreamTimeout(StoryhookError):
    """A body was read for longer than a thread is held for one; its status was sent long ago."""

    code = "stream_timeout"
    status = 408
    default_message = "This was read too slowly: the time for one answer is up."


class ArchiveUnavailable(StoryhookError):
    """The archive's files cannot be read or written right now."""

    code = "archive_unavailable"
    status = 503
    default_message = "The archive is not available right now. Try again shortly."

    def __init__(self, message: str | None = None, *, retry_after: int = 5) -> None:
        super().__init__(message, retry_after=retry_after)


class LeaseLost(StoryhookError):
    """Another worker holds this piece of work now, or it has ended; what was done is dropped."""

    code = "lease_lost"
    status = 409


# --- the upstream's side -------------------------------------------------------------------------

# Said to callers when all sessions wait for a person.
NOBODY_LEFT_SECONDS = 300


class Retry(Enum):
    """What a worker may do after a failed fetch."""

    NEVER = "never"  # the answer is final
    AGAIN = "again"  # the same call may work in a moment
    ELSEWHERE = "elsewhere"  # this session is spent, another one may work


@dataclass(frozen=True)
class SessionVerdict:
    """What becomes of the Instagram session that met an error.

    ``rest_seconds`` > 0 rests it; ``quarantine`` takes it out until a person looks at it.
    """

    reason: str
    rest_seconds: int = 0
    quarantine: bool = False


class FetchError(StoryhookError):
    """A fetch ended without a reel. ``code`` doubles as the outcome that is priced."""

    retry = Retry.NEVER
    verdict: SessionVerdict | None = None

    def __init__(
        self,
        message: str | None = None,
        *,
        retry: Retry | None = None,
        verdict: SessionVerdict | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.retry = retry or type(self).retry
        self.verdict = verdict


class AccountPrivate(FetchError):
    """The Instagram account is private to us. We do not go around that."""

    code = "account_private"
    status = 403
    default_message = "This Instagram account is private."


class UserNotFound(FetchError):
    """No such Instagram account."""

    code = "user_not_found"
    status = 404
    default_message = "There is no Instagram account of this name."


class StoryNotFound(FetchError):
    """No such story, or no longer."""

    code = "story_not_found"
    status = 404
    default_message = "There is no such story (any more)."


class HighlightNotFound(FetchError):
    """No such highlight, or none that is shown to us."""

    code = "highlight_not_found"
    status = 404
    default_message = "There is no such highlight (any more)."


class MediaNotFound(FetchError):
    """A file on Instagram's CDN that is not there, or no longer."""

    code = "media_not_found"
    status = 404
    default_message = "There is no such media file (any more). If a story shows it, ask by the story's id."


class RangeNotSatisfiable(FetchError):
    """The asked range begins past the end of the file."""

    code = "range_not_satisfiable"
    status = 416
    default_message = "The range begins past the end of the file."


class OptedOut(FetchError):
    """The operator does not serve this Instagram account."""

    code = "opted_out"
    status = 451
    default_message = "The operator of this service does not serve this Instagram account."


class UpstreamBlocked(FetchError):
    """Instagram refused us: a rate limit, a challenge, or no usable session."""

    code = "upstream_blocked"
    status = 503
    retry = Retry.ELSEWHERE
    default_message = "Instagram does not serve us at the moment. Try again later."


class NoSessionFree(UpstreamBlocked):
    """No Instagram session may be used now: nothing was asked.

    ``retry_in`` is when it is worth asking again, seconds; None when no session comes back by itself.
    ``paced`` tells that budgets are all that keeps the next one.
    """

    retry = Retry.NEVER
    default_message = "There is no usable Instagram session at the moment. Try again later."

    def __init__(self, retry_in: float | None, *, paced: bool = False) -> None:
        seconds = NOBODY_LEFT_SECONDS if retry_in is None else math.ceil(retry_in)
        super().__init__(retry_after=max(seconds, 1))
        self.retry_in = retry_in
        self.paced = paced


class UpstreamTimeout(FetchError):
    """Instagram did not answer in time."""

    code = "upstream_timeout"
    status = 504
    retry = Retry.AGAIN
    default_message = "Instagram did not answer in time."


class UpstreamFailed(FetchError):
    """Instagram answered something that could not be used."""

    code = "upstream_error"
    status = 502
    retry = Retry.AGAIN
    default_message = "Instagram gave an answer that could not be used."


def fetch_error(code: str, message: str, retry_after: int | None) -> FetchError:
    """Return the error of that code, as it was when it was written down."""
    kinds: tuple[type[FetchError], ...] = (
        AccountPrivate,
        UserNotFound,
        StoryNotFound,
        HighlightNotFound,
        MediaNotFound,
        RangeNotSatisfiable,
        OptedOut,
        UpstreamBlocked,
        UpstreamTimeout,
        UpstreamFailed,
    )
    kind = next((kind for kind in kinds if kind.code == code), UpstreamFailed)
    return kind(message, retry_after=retry_after)
