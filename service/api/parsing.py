"""Reads bodies and queries: strict about what it gets, clear about what is wrong."""

from __future__ import annotations

from typing import Any, NoReturn

import orjson
from flask import Request, request
from webargs.flaskparser import FlaskParser
from webargs.multidictproxy import MultiDictProxy

from service.domain.errors import MalformedJson, PayloadTooLarge, UnsupportedMediaType, ValidationFailed


class Parser(FlaskParser):
    """webargs' Flask parser with our errors instead of its own aborts."""

    DEFAULT_UNKNOWN_BY_LOCATION: dict[str, str | None] = {  # noqa: RUF012 - declared so by webargs
        **FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION,
        "query": "raise",
    }

    def load_json(self, req: Request, schema: Any) -> Any:
        if req.mimetype != "application/json":
            raise UnsupportedMediaType
        try:
            data = whole_body(req)
            if not data:
                raise MalformedJson("The body is empty. Send a JSON object.")
            body = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise MalformedJson(f"The body is not valid JSON: {error}.") from None
        if not isinstance(body, dict):
            raise MalformedJson("The body must be a JSON object.")
        return body

    def load_querystring(self, req: Request, schema: Any) -> MultiDictProxy:
        return self._makeproxy(req.args, schema)

    def handle_error(self, error: Any, *args: Any, **kwargs: Any) -> NoReturn:
        [details] = error.messages.values()  # one location is parsed at a time
        raise ValidationFailed(details=details) from None


def whole_body(req: Request) -> bytes:
    """Return the body. Raises PayloadTooLarge, and MalformedJson for one that ended early."""
    data = req.get_data()
    if req.max_content_length is not None and len(data) >= req.max_content_length:
        raise too_large()
    if req.content_length is not None and len(data) != req.content_length:
        raise MalformedJson("The body ended before its Content-Length.")
    return data


def cut_at(limit: int) -> int:
    """Return where werkzeug is to cut a body of at most ``limit`` bytes.

    One more than allowed: a chunked body is cut there without a word, and `whole_body` has to see it.
    """
    return limit + 1


def too_large() -> PayloadTooLarge:
    """Return the error of a body over the limit of this exchange."""
    most = (request.max_content_length or 1) - 1
    return PayloadTooLarge(f"The body is over the limit of {most} bytes.")


parser = Parser()
