"""Every row of the error table: its class, its retry, its verdict, and what becomes of the session."""

from __future__ import annotations

import json
from typing import Any

import pydantic
import pytest
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
from service.domain.instagram import SessionState, settings_from_sessionid
from service.stores.instagram_sessions import InstagramSessions
from workers.sources.accounts import SessionPool
from workers.sources.verdicts import RestTimes, escalate, translate

NEVER, AGAIN, ELSEWHERE = Retry.NEVER, Retry.AGAIN, Retry.ELSEWHERE
SECRET = "http://user:secret@proxy:8080 https://i.instagram.com/?access_token=secret"


def rest(reason: str, seconds: int) -> SessionVerdict:
    return SessionVerdict(reason, rest_seconds=seconds)


def out(reason: str) -> SessionVerdict:
    return SessionVerdict(reason, quarantine=True)


def response(status: int, body: Any) -> requests.Response:
    made = requests.Response()
    made.status_code = status
    made._content = json.dumps(body).encode()
    return made


class Model(pydantic.BaseModel):
    pk: str


def invalid() -> Exception:
    with pytest.raises(pydantic.ValidationError) as caught:
        Model.model_validate({"pk": SECRET.split()})
    return caught.value


blocked, failed, late = UpstreamBlocked, UpstreamFailed, UpstreamTimeout
Expected = tuple[Exception, type[FetchError], Retry, SessionVerdict | None]
ROWS: list[Expected] = [
    (ig.ClientThrottledError(SECRET), blocked, ELSEWHERE, rest("throttled", 1_801)),
    (ig.PleaseWaitFewMinutes(SECRET), blocked, ELSEWHERE, rest("please_wait", 14_402)),
    (ig.RateLimitError(message=SECRET), blocked, ELSEWHERE, rest("rate_limit", 3_603)),
    (ig.SentryBlock(message=SECRET), blocked, ELSEWHERE, rest("sentry_block", 86_404)),
    (ig.ProxyAddressIsBlocked(message=SECRET), blocked, ELSEWHERE, rest("proxy_blocked", 86_405)),
    (ig.FeedbackRequired(message=SECRET), blocked, NEVER, rest("feedback", 86_406)),
    (ig.SignupSpamError(message=SECRET), blocked, NEVER, rest("feedback", 86_406)),
    *(
        (kind(message=SECRET), blocked, ELSEWHERE, out("challenge"))
        for kind in (
            ig.ChallengeError,
            ig.ChallengeRequired,
            ig.ChallengeRedirection,
            ig.ChallengeSelfieCaptcha,
            ig.ChallengeUnknownStep,
            ig.RecaptchaChallengeForm,
            ig.SubmitPhoneNumberForm,
            ig.SelectContactPointRecoveryForm,
            ig.LegacyForceSetNewPasswordForm,
        )
    ),
    (ig.CaptchaChallengeRequired(), blocked, ELSEWHERE, out("challenge")),
    (ig.AccountSuspended(message="challenge_required"), blocked, ELSEWHERE, out("suspended")),
    (ig.UnknownError(message="checkpoint_required"), blocked, ELSEWHERE, out("checkpoint")),
    (ig.UnknownError(message="consent_required"), blocked, ELSEWHERE, out("consent")),
    (ig.UnknownError(message="geoblock_required"), blocked, ELSEWHERE, out("geoblock")),
    (ig.UnknownError(message="", error_type="checkpoint_required"), blocked, ELSEWHERE, out("checkpoint")),
    (
        ig.ClientForbiddenError("403", response=response(403, {"message": "checkpoint_required"})),
        blocked,
        ELSEWHERE,
        out("checkpoint"),
    ),
    (
        ig.ClientError(response=response(200, {"message": "login_required", "status": "fail"})),
        blocked,
        ELSEWHERE,
        out("login_required"),
    ),
    (ig.LoginRequired(message="login_required"), blocked, ELSEWHERE, out("login_required")),
    (ig.ClientLoginRequired(SECRET), blocked, ELSEWHERE, out("login_required")),
    (ig.ClientUnauthorizedError(SECRET), blocked, ELSEWHERE, out("unauthorized")),
    (ig.BadPassword(message=SECRET), blocked, NEVER, out("bad_password")),
    (ig.BadCredentials(message=SECRET), blocked, NEVER, out("bad_password")),
    (ig.TwoFactorRequired(message=SECRET), blocked, NEVER, out("two_factor")),
    (ig.ReloginAttemptExceeded(SECRET), blocked, NEVER, out("relogin")),
    (ig.ClientForbiddenError(SECRET), failed, AGAIN, rest("forbidden", 607)),
    (ig.PrivateAccount(SECRET), AccountPrivate, NEVER, None),
    (ig.UserNotFound(SECRET), UserNotFound, NEVER, None),
    (ig.InvalidTargetUser(SECRET), UserNotFound, NEVER, None),
    (ig.StoryNotFound(SECRET), UserNotFound, NEVER, None),
    (ig.HighlightNotFound(SECRET), UserNotFound, NEVER, None),
    (ig.MediaNotFound(SECRET), UserNotFound, NEVER, None),
    (ig.MediaUnavailable(SECRET), UserNotFound, NEVER, None),
    (ig.InvalidMediaId(SECRET), UserNotFound, NEVER, None),
    (ig.ClientNotFoundError(SECRET), failed, NEVER, None),
    (ig.ClientNeedsUpgradeError(message=SECRET, error_type="needs_upgrade"), failed, NEVER, None),
    (ig.UnknownError(message=SECRET), failed, AGAIN, SessionVerdict("bad_request")),
    (ig.ClientBadRequestError(SECRET), failed, AGAIN, SessionVerdict("bad_request")),
    (ig.ClientError(SECRET), failed, AGAIN, None),
    (ig.ClientError(response=response(500, {"message": SECRET})), failed, AGAIN, None),
    (ig.ClientGraphqlError(SECRET), failed, AGAIN, None),
    (ig.ClientJSONDecodeError(SECRET), failed, AGAIN, SessionVerdict("html")),
    (requests.JSONDecodeError(SECRET, "", 0), failed, AGAIN, SessionVerdict("html")),
    (json.JSONDecodeError(SECRET, "", 0), failed, AGAIN, SessionVerdict("html")),
    (ig.ClientConnectionError(SECRET), late, AGAIN, SessionVerdict("network")),
    (requests.ConnectionError(SECRET), late, AGAIN, SessionVerdict("network")),
    (requests.exceptions.SSLError(SECRET), late, AGAIN, SessionVerdict("network")),
    (requests.exceptions.ProxyError(SECRET), late, AGAIN, SessionVerdict("network")),
    (requests.exceptions.ChunkedEncodingError(SECRET), late, AGAIN, SessionVerdict("network")),
    (ig.ClientIncompleteReadError(SECRET), late, AGAIN, SessionVerdict("network")),
    (requests.ReadTimeout(SECRET), late, AGAIN, SessionVerdict("timeout")),
    (requests.Timeout(SECRET), late, AGAIN, SessionVerdict("timeout")),
    (ig.ClientRequestTimeout(SECRET), late, AGAIN, SessionVerdict("timeout")),
    (requests.TooManyRedirects(SECRET), failed, AGAIN, None),
    (invalid(), failed, NEVER, None),
    (KeyError(SECRET), failed, NEVER, None),
    (TypeError(SECRET), failed, NEVER, None),
    (AssertionError(SECRET), failed, NEVER, None),
    (IndexError(SECRET), failed, NEVER, None),
    (AttributeError(SECRET), failed, NEVER, None),
    (ValueError(SECRET), failed, NEVER, None),
    (OSError(SECRET), failed, NEVER, None),
]


def label(row: Expected) -> str:
    return f"{type(row[0]).__name__}-{row[3].reason if row[3] else row[1].code}"


@pytest.mark.parametrize("row", ROWS, ids=label)
def test_row(rests: RestTimes, row: Expected) -> None:
    error, outcome, retry, verdict = row
    translated = translate(error, rests)
    assert type(translated) is outcome
    assert translated.retry is retry
    assert translated.verdict == verdict
    assert translated.retry_after == (61 if outcome is UpstreamBlocked else None)
    for word in ("secret", "proxy:", "http", "required"):
        assert word not in translated.message


@pytest.mark.parametrize("row", ROWS, ids=label)
def test_row_in_the_pool(sessions: InstagramSessions, rests: RestTimes, row: Expected) -> None:
    """What becomes of the session, with a stand-in for the client."""
    error, outcome, _, verdict = row
    sessions.add("anna", settings_from_sessionid("42%3Aabcdefghijklmno%3A7"))
    pool = SessionPool(sessions, lambda settings, proxy: StillClient(settings), rests=rests, wait_seconds=0)
    with pytest.raises(outcome), pool.client():
        raise translate(error, pool.rests)
    record = sessions.get("anna")
    assert record.failure == (verdict.reason if verdict else "")
    assert not record.leased
    if verdict and verdict.quarantine:
        assert (record.state, record.reason) == (SessionState.QUARANTINED, verdict.reason)
    elif verdict and verdict.rest_seconds:
        assert (record.state, record.reason) == (SessionState.RESTING, verdict.reason)
        assert record.rested_until - record.last_used == verdict.rest_seconds * 1000
    else:
        assert record.state is SessionState.ACTIVE


class StillClient:
    """A client that changes nothing."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.last_response: Any = None
        self.last_json: dict[str, Any] = {}

    def get_settings(self) -> dict[str, Any]:
        return self.settings


def test_every_exception_of_the_library_has_a_row() -> None:
    kinds = [kind for kind in vars(ig).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 50
    for kind in kinds:
        assert isinstance(translate(kind.__new__(kind)), FetchError)


def test_a_fetch_error_stays_itself() -> None:
    error = UserNotFound()
    assert translate(error) is error


def test_a_username_cannot_speak_as_instagram() -> None:
    """The text of some exceptions holds the requested address, and with it the asked username."""
    url = "https://i.instagram.com/api/v1/users/login_required/usernameinfo/"
    for word in ("login_required", "checkpoint_required", "challenge_required"):
        error = ig.ClientForbiddenError(
            f"403 for {url}".replace("login_required", word), response=response(403, {})
        )
        assert translate(error).verdict == SessionVerdict("forbidden", rest_seconds=600)


@pytest.mark.parametrize(
    ("status", "reason"), [(401, "unauthorized"), (403, "forbidden"), (429, "throttled")]
)
def test_an_unreadable_refusal_is_judged_by_its_status(status: int, reason: str) -> None:
    verdict = translate(TypeError("argument of type 'NoneType' is not iterable"), status=status).verdict
    assert verdict is not None
    assert verdict.reason == reason
    assert translate(TypeError(), status=200).verdict is None
    assert translate(requests.ReadTimeout(), status=429).verdict == SessionVerdict("timeout")


def test_repeated_failures_escalate(rests: RestTimes) -> None:
    html, odd = SessionVerdict("html"), SessionVerdict("bad_request")
    assert escalate(html, "", 0, rests) == html
    assert escalate(html, "network", 5, rests) == html
    assert escalate(html, "html", 1, rests) == SessionVerdict("html_repeated", rest_seconds=908)
    assert escalate(odd, "bad_request", 1, rests) == odd
    assert escalate(odd, "bad_request", 2, rests) == SessionVerdict("bad_request_repeated", rest_seconds=609)
    assert escalate(SessionVerdict("network"), "network", 50, rests) == SessionVerdict("network")
    assert escalate(out("challenge"), "challenge", 5, rests) == out("challenge")


def test_rests_are_within_what_instagram_is_known_to_need() -> None:
    rests = RestTimes()
    assert 15 * 60 <= rests.throttled <= 60 * 60
    assert rests.please_wait >= 3_600
    assert rests.feedback == 86_400
