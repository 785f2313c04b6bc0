"""The one place where errors become HTTP answers. HTML never leaves the API."""

from __future__ import annotations

from typing import Any

import structlog
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as WerkzeugMethodNotAllowed

from service.api.answers import json_response
from service.api.context import exchange_id
from service.api.hiker import errors as hiker
from service.api.limits import count_refused
from service.api.parsing import too_large
from service.domain.errors import (
    BrokenRow,
    FetchError,
    MalformedJson,
    MethodNotAllowed,
    NotFound,
    StoryhookError,
    Unauthorized,
)

log = structlog.get_logger(__name__)


def _tree(root: type[StoryhookError]) -> list[type[StoryhookError]]:
    return [root, *(cls for child in root.__subclasses__() for cls in _tree(child))]


# A request's final code -> the status of a synchronous answer; what is not listed is ours.
OUTCOME_STATUS = {cls.code: cls.status for cls in _tree(FetchError)} | {"cancelled": 409}


def status_of(code: str | None) -> int:
    """Return the HTTP status a synchronous caller gets for a request that ended with ``code``."""
    return OUTCOME_STATUS.get(code or "", 500)


def register(app: Flask) -> None:
    """Install the handlers."""
    app.register_error_handler(StoryhookError, lambda error: _answer(count_refused(error)))
    app.register_error_handler(BrokenRow, _broken)

    def http_error(error: HTTPException) -> Response:
        response = _answer(_translate(error))
        if isinstance(error, WerkzeugMethodNotAllowed) and error.valid_methods:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))  # RFC 9110, 15.5.6
        return response

    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(Exception, _unexpected)


def _answer(error: StoryhookError) -> Response:
    theirs = hiker.is_hiker_path(request.path)
    response = json_response(hiker.body_of(error) if theirs else _body_of(error), error.status)
    if theirs:
        response.headers.setdefault(hiker.COST, "reqs=0")
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, Unauthorized):
        response.headers["WWW-Authenticate"] = 'Bearer realm="storyhook"'
    return response


def _body_of(error: StoryhookError) -> dict[str, Any]:
    body: dict[str, Any] = {
        "success": False,
        "requestId": exchange_id(),
        "status": "failed",
        "error": error.message,
        "code": error.code,
    }
    if error.details:
        body["details"] = error.details
    return body


def _translate(error: HTTPException) -> StoryhookError:
    """Turn what Flask and werkzeug raise on their own into our tree."""
    known: dict[int, StoryhookError] = {
        400: MalformedJson("The request could not be read."),
        404: NotFound("There is no such route. See /docs."),
        405: MethodNotAllowed(),
        413: too_large(),
    }
    translated = known.get(error.code or 500)
    if translated is None:
        log.warning("http.untranslated", status=error.code, error=str(error))
        translated = StoryhookError()
        translated.status = error.code or 500
    return translated


def _broken(error: BrokenRow) -> Response:
    log.error("store.broken_row", requestId=exchange_id(), row=error.where, what=error.what)
    return _answer(error)


def _unexpected(error: Exception) -> Response:
    log.exception("http.unexpected", requestId=exchange_id(), error=str(error))
    return _answer(StoryhookError())
