"""Every answer but the wanted one, worded as Instagram words it: the client tells them apart by the words.

``FAULTS`` maps a scene to what answers instead of a person's stories, highlights and media. Scenes which
need time, memory or another shape of the reel (slow, flaky, hang, drift, ...) are played in ``plays``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from flask import Response

Json = dict[str, Any]

JSON_TYPE = "application/json; charset=utf-8"

_WAIT = "Please wait a few minutes before you try again."
_LOGIN_PAGE = """<!DOCTYPE html>
<html lang="en" class="not-logged-in"><head><meta charset="utf-8"><title>Login • Instagram</title></head>
<body><main><form id="loginForm" method="post"><input name="username"><input name="password" type="password">
<button type="submit">Log in</button></form></main></body></html>
"""


def ok(body: Json) -> Response:
    """A JSON body with 200."""
    return _json(200, body)


def fail(status: int, message: str, **more: object) -> Response:
    """A refusal: ``message``, anything more, ``status: fail``."""
    return _json(status, {"message": message, **more, "status": "fail"})


def user_not_found() -> Response:
    return fail(404, "User not found")


def media_not_found() -> Response:
    return fail(400, "Media not found or unavailable")


def not_authorized() -> Response:
    return fail(400, "Not authorized to view user")


def login_required() -> Response:
    """What a request without a valid session gets."""
    return fail(
        403,
        "login_required",
        error_title="You've Been Logged Out",
        error_body="Please log back in.",
        logout_reason=3,
    )


def too_many_requests() -> Response:
    return fail(429, "Too many requests")


def server_error(status: int = 500) -> Response:
    return fail(status, "Oops, an error occurred.")


def web_login_required() -> Response:
    """What the website answers to an anonymous reels query."""
    return fail(401, _WAIT, require_login=True)


def truncated(whole: Response) -> Response:
    """The answer with its Content-Length, but half of its body."""
    body = whole.get_data()
    half = Response([body[: len(body) // 2]], whole.status_code, content_type=whole.content_type)
    half.headers["Content-Length"] = str(len(body))
    return half


def _json(status: int, body: Json) -> Response:
    return Response(orjson.dumps(body), status, content_type=JSON_TYPE)


def _challenge(url: str) -> Response:
    challenge = {
        "url": url,
        "api_path": url.removeprefix("https://i.instagram.com"),
        "hide_webview_header": True,
        "lock": True,
        "logout": False,
        "native_flow": True,
        "flow_render_type": 0,
    }
    return fail(400, "challenge_required", challenge=challenge)


def _feedback() -> Response:
    return fail(
        400,
        "feedback_required",
        spam=True,
        feedback_title="Try Again Later",
        feedback_message="We limit how often you can do certain things to protect our community.",
        feedback_url="repute/report_problem/instagram_view_story/",
        feedback_appeal_label="Tell us",
        feedback_ignore_label="OK",
        feedback_action="report_problem",
    )


def _proxy_blocked() -> Response:
    return fail(
        400,
        "The username you entered doesn't appear to belong to an account. "
        "Please check your username and try again.",
        error_type="invalid_user",
    )


FAULTS: dict[str, Callable[[], Response]] = {
    "ratelimited": too_many_requests,
    "wait": lambda: fail(400, _WAIT),
    "ratelimiterror": lambda: fail(400, "Please try again later.", error_type="rate_limit_error"),
    "sentry": lambda: fail(400, "Sorry, there was a problem with your request.", error_type="sentry_block"),
    "proxyblocked": _proxy_blocked,
    "feedback": _feedback,
    "challenge": lambda: _challenge("https://i.instagram.com/challenge/1700000000/simulated/"),
    "masked": lambda: Response(b"Not Found", 404, content_type="text/plain"),
    "suspended": lambda: _challenge(
        "https://www.instagram.com/accounts/suspended/?next=https://www.instagram.com/"
    ),
    "checkpoint": lambda: fail(
        400,
        "checkpoint_required",
        checkpoint_url="https://i.instagram.com/challenge/?next=/api/v1/feed/",
        lock=True,
        flow_render_type=0,
        error_type="checkpoint_challenge_required",
    ),
    "consent": lambda: fail(
        400,
        "consent_required",
        consent_data={"headline": "Updates to Our Terms", "content": "", "button_text": "Review"},
    ),
    "geoblock": lambda: fail(
        400, "geoblock_required", error_title="Not available", error_body="Not in your region."
    ),
    "loginrequired": login_required,
    "unauthorized": lambda: fail(401, "Unauthorized"),
    "forbidden": lambda: fail(403, "Forbidden"),
    "notauthorized": not_authorized,
    "badrequest": lambda: fail(400, "Invalid parameters"),
    "upgrade": lambda: fail(400, "Update Instagram to continue.", error_type="needs_upgrade"),
    "error": server_error,
    "fail": lambda: fail(200, "Sorry, something went wrong."),
    "html": lambda: Response(_LOGIN_PAGE, 200, content_type="text/html; charset=utf-8"),
    "timeout408": lambda: fail(408, "Request timeout"),
}
