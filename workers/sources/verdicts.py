"""What each failure of Instagram or of instagrapi means: for the caller, the retry and the session.

The rows are data, tried from top to bottom; the first whose classes match speaks. Messages are for
callers: they name no session, no proxy and no address, and quote nothing of what Instagram said.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import requests
from instagrapi import exceptions as ig

from service.domain.errors import (
    AccountPrivate,
    FetchError,
    Retry,
    SessionVerdict,
    UpstreamBlocked,
    UpstreamFailed,
    UpstreamTimeout,
    UserNotFound,
)


@dataclass(frozen=True)
class RestTimes:
    """How long a session rests after what, in seconds."""

    throttled: int = 1_800
    please_wait: int = 4 * 3_600
    rate_limit: int = 3_600
    sentry_block: int = 24 * 3_600
    proxy_blocked: int = 24 * 3_600
    feedback: int = 24 * 3_600
    forbidden: int = 600
    html_repeated: int = 900
    bad_request_repeated: int = 600
    # What a blocked caller reads in Retry-After; another session may serve it much sooner than
    # the blocked one is back.
    caller_retry: int = 60


DEFAULT_RESTS = RestTimes()

Verdict = Callable[[RestTimes], SessionVerdict]


@dataclass(frozen=True)
class Row:
    """One line of the table; ``retry`` None leaves the class's own."""

    errors: tuple[type[BaseException], ...]
    outcome: type[FetchError]
    retry: Retry | None = None
    verdict: Verdict | None = None
    message: str | None = None


def _rest(reason: str, setting: str) -> Verdict:
    return lambda rests: SessionVerdict(reason, rest_seconds=getattr(rests, setting))


def _quarantine(reason: str) -> Verdict:
    return lambda _: SessionVerdict(reason, quarantine=True)


def _count(reason: str) -> Verdict:
    """Only count the failure; `escalate` decides when it has come too often in a row."""
    return lambda _: SessionVerdict(reason)


_OUTDATED = "Instagram asks for a newer client; the operator of this service has to update it."
_GONE = "Instagram has no such thing (any more)."
_DRIFTED = "Instagram's answer has another shape than expected."

# What the library reports without a class of its own, by the word in Instagram's answer.
WORDS: dict[str, Row] = {
    "challenge_required": Row((), UpstreamBlocked, verdict=_quarantine("challenge")),
    "checkpoint_required": Row((), UpstreamBlocked, verdict=_quarantine("checkpoint")),
    "consent_required": Row((), UpstreamBlocked, verdict=_quarantine("consent")),
    "geoblock_required": Row((), UpstreamBlocked, verdict=_quarantine("geoblock")),
    "login_required": Row((), UpstreamBlocked, verdict=_quarantine("login_required")),
}

TABLE: tuple[Row, ...] = (
    # Instagram slows us down.
    Row((ig.ClientThrottledError,), UpstreamBlocked, verdict=_rest("throttled", "throttled")),
    Row((ig.PleaseWaitFewMinutes,), UpstreamBlocked, verdict=_rest("please_wait", "please_wait")),
    Row((ig.RateLimitError,), UpstreamBlocked, verdict=_rest("rate_limit", "rate_limit")),
    Row((ig.SentryBlock,), UpstreamBlocked, verdict=_rest("sentry_block", "sentry_block")),
    Row((ig.ProxyAddressIsBlocked,), UpstreamBlocked, verdict=_rest("proxy_blocked", "proxy_blocked")),
    Row((ig.FeedbackRequired,), UpstreamBlocked, Retry.NEVER, _rest("feedback", "feedback")),
    # Instagram wants something of the session's owner.
    Row((ig.AccountSuspended,), UpstreamBlocked, verdict=_quarantine("suspended")),
    Row((ig.ChallengeError, ig.CaptchaChallengeRequired), UpstreamBlocked, verdict=_quarantine("challenge")),
    Row((ig.LoginRequired, ig.ClientLoginRequired), UpstreamBlocked, verdict=_quarantine("login_required")),
    Row((ig.ClientUnauthorizedError,), UpstreamBlocked, verdict=_quarantine("unauthorized")),
    Row((ig.BadPassword, ig.BadCredentials), UpstreamBlocked, Retry.NEVER, _quarantine("bad_password")),
    Row((ig.TwoFactorRequired,), UpstreamBlocked, Retry.NEVER, _quarantine("two_factor")),
    Row((ig.ReloginAttemptExceeded,), UpstreamBlocked, Retry.NEVER, _quarantine("relogin")),
    # The answer is about what was asked for, not about us.
    Row((ig.PrivateAccount,), AccountPrivate),
    Row((ig.UserNotFound, ig.InvalidTargetUser), UserNotFound),
    Row((ig.NotFoundError, ig.MediaUnavailable, ig.InvalidMediaId), UserNotFound, message=_GONE),
    # A 404 without more says that the address is wrong, not that an account is missing; only the
    # source knows when it asked for an account.
    Row((ig.ClientNotFoundError,), UpstreamFailed, Retry.NEVER),
    # The request was refused.
    Row((ig.ClientForbiddenError,), UpstreamFailed, verdict=_rest("forbidden", "forbidden")),
    Row((ig.ClientNeedsUpgradeError,), UpstreamFailed, Retry.NEVER, message=_OUTDATED),
    Row((ig.UnknownError, ig.ClientBadRequestError), UpstreamFailed, verdict=_count("bad_request")),
    # The wire.
    Row((ig.ClientConnectionError, requests.ConnectionError), UpstreamTimeout, verdict=_count("network")),
    Row((ig.ClientRequestTimeout, requests.Timeout), UpstreamTimeout, verdict=_count("timeout")),
    Row(
        (ig.ClientIncompleteReadError, requests.exceptions.ChunkedEncodingError),
        UpstreamTimeout,
        verdict=_count("network"),
    ),
    # The answer is no JSON (a login or error page), or none that the library can read.
    Row((ig.ClientJSONDecodeError, json.JSONDecodeError), UpstreamFailed, verdict=_count("html")),
    Row((ig.ClientError, requests.RequestException), UpstreamFailed),
    # pydantic's ValidationError is a ValueError.
    Row(
        (ValueError, LookupError, TypeError, AttributeError, AssertionError),
        UpstreamFailed,
        Retry.NEVER,
        message=_DRIFTED,
    ),
    Row((BaseException,), UpstreamFailed, Retry.NEVER),
)

# Where the library cannot read the body it fails on that before it looks at the status.
STATUSES: dict[int, type[BaseException]] = {
    401: ig.ClientUnauthorizedError,
    403: ig.ClientForbiddenError,
    429: ig.ClientThrottledError,
}

# After how many in a row a failure that is only counted rests the session, and for how long.
REPEATED: dict[str, tuple[int, str]] = {
    "html": (2, "html_repeated"),
    "bad_request": (3, "bad_request_repeated"),
}


def translate(error: Exception, rests: RestTimes = DEFAULT_RESTS, *, status: int | None = None) -> FetchError:
    """Return what an exception of instagrapi, requests or of reading an answer means.

    ``status`` is the HTTP status of the answer that was being read, where known.
    """
    if isinstance(error, FetchError):
        return error
    row = _row(error, status)
    blocked = row.outcome is UpstreamBlocked
    return row.outcome(
        row.message,
        retry=row.retry,
        verdict=row.verdict(rests) if row.verdict else None,
        retry_after=rests.caller_retry if blocked else None,
    )


def drifted() -> FetchError:
    """Return the error for an answer of another shape than expected."""
    return UpstreamFailed(_DRIFTED, retry=Retry.NEVER)


def escalate(verdict: SessionVerdict, failure: str, failures: int, rests: RestTimes) -> SessionVerdict:
    """Return the verdict with a rest if its reason has come too often in a row.

    ``failure`` and ``failures`` are the session's latest failure before this one and its count.
    """
    most, setting = REPEATED.get(verdict.reason, (0, ""))
    times = failures + 1 if failure == verdict.reason else 1
    if not most or times < most or verdict.rest_seconds or verdict.quarantine:
        return verdict
    return SessionVerdict(f"{verdict.reason}_repeated", rest_seconds=getattr(rests, setting))


def _row(error: Exception, status: int | None) -> Row:
    spoken = (ig.UnknownError, ig.ClientForbiddenError, ig.ClientBadRequestError)
    if isinstance(error, spoken) or type(error) is ig.ClientError:
        for word in _words(error):
            if word in WORDS:
                return WORDS[word]
    if status in STATUSES and not isinstance(error, (ig.ClientError, requests.RequestException)):
        return _match(STATUSES[status])
    return _match(type(error))


def _match(kind: type[BaseException]) -> Row:
    return next(row for row in TABLE if issubclass(kind, row.errors))


def _words(error: Any) -> list[str]:
    """Return the machine words of Instagram's answer, whole.

    The text of the exception is not searched: it may hold the requested address, and with it a
    username that somebody chose to read like one of our words.
    """
    try:
        body = error.response.json()
    except (AttributeError, ValueError):
        body = vars(error)  # the library makes an answer's fields attributes
    if not isinstance(body, dict):
        return []
    return [str(body.get(key)).strip().lower() for key in ("message", "error_type", "raw_message")]
