"""The Flask app: what every call passes before its endpoint answers it."""

from __future__ import annotations

import time

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from . import answers, cdn, cdnserver, control, mobile, website
from .graph import graph
from .hiker import hiker
from .sessions import ANONYMOUS, session_of
from .state import KEY, State, state

_NEEDS_SESSION = {"mobile"}
_SPEAKS_API = {"mobile", "website", "hiker", "graph"}


def create_app(memory: State | None = None) -> Flask:
    """The simulator as a WSGI app."""
    app = Flask(__name__, static_folder=None)
    app.extensions[KEY] = memory or State()
    app.url_map.strict_slashes = False
    app.before_request(_gate)
    app.register_error_handler(HTTPException, _http_error)
    for blueprint in (control.control, mobile.mobile, website.website, cdnserver.cdn, hiker, graph):
        app.register_blueprint(blueprint)
    return app


def _gate() -> Response | None:
    """Count the call, wait, fail if it is drawn to fail, then check the session."""
    if request.path.startswith(control.PREFIX):
        return None
    memory, house = state(), request.blueprint or ""
    session = session_of(request.headers, request.cookies)
    number = memory.calls.next(_endpoint(), session or ANONYMOUS)
    knobs = memory.knobs
    cdn.lifetime.set(knobs.cdn_seconds)
    g.session = None if session and knobs.is_revoked(session) else session
    if delay := knobs.delay_seconds(number):
        time.sleep(delay)
    if house not in _SPEAKS_API:
        return None
    if knobs.fails(number):
        return answers.server_error(knobs.failure_status)
    if house in _NEEDS_SESSION and g.session is None:
        return answers.login_required()
    if g.session and memory.limits.exceeded(g.session, knobs.session_limit_per_minute):
        return answers.too_many_requests()
    return None


def _endpoint() -> str:
    return (request.endpoint or "unknown").rpartition(".")[2]


def _http_error(error: HTTPException) -> Response:
    """Unknown paths and methods, in Instagram's form."""
    return answers.fail(error.code or 500, error.name)
