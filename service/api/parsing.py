"""Reads bodies and queries: strict about what it gets, clear about what is wrong."""

from __future__ import annotations

from typing import Any, NoReturn

import orjson
from flask import Request
from webargs.flaskparser import FlaskParser
from webargs.multidictproxy import MultiDictProxy

from service.domain.errors import MalformedJson, UnsupportedMediaType, ValidationFailed


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
            body = orjson.loads(req.get_data())
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


parser = Parser()
