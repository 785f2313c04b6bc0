"""The OpenAPI document: flask-smorest's, with our errors, and bodies with one field of several."""

from __future__ import annotations

from typing import Any

from apispec.ext.marshmallow import MarshmallowPlugin, OpenAPIConverter
from flask import Flask
from flask_smorest import Api

from service.api.schemas import ErrorSchema

BEARER = "bearer"
ACCESS_KEY = "accessKey"
ACCESS_KEY_IN_QUERY = "accessKeyInQuery"

DESCRIPTION = (
    "Fetch Instagram stories, at once or by signed webhook, paid in credits. Authorize with a token "
    "from /auth/login or an API key from /keys. The routes under /v1, /v2 and /sys are HikerAPI's: a client "
    "of it works here when its host is changed."
)


class _Converter(OpenAPIConverter):
    """Tells of schemas whose ``one_of`` names fields that exactly one of them is required."""

    def schema2jsonschema(self, schema: Any) -> dict[str, Any]:
        made: dict[str, Any] = super().schema2jsonschema(schema)
        if names := getattr(schema, "one_of", ()):
            made["oneOf"] = [{"required": [name]} for name in names]
        return made


class _Plugin(MarshmallowPlugin):
    Converter = _Converter


class _DocumentedApi(Api):
    ERROR_SCHEMA = ErrorSchema


def documented_api(app: Flask) -> Api:
    """Return the Api that blueprints are registered with."""
    api = _DocumentedApi(app, spec_kwargs={"marshmallow_plugin": _Plugin()})
    schemes = {
        BEARER: {"type": "http", "scheme": "bearer", "description": "JWT or API key (sk_live_...)"},
        ACCESS_KEY: {"type": "apiKey", "in": "header", "name": "x-access-key", "description": "API key"},
        ACCESS_KEY_IN_QUERY: {
            "type": "apiKey",
            "in": "query",
            "name": "access_key",
            "description": "API key, on HikerAPI's routes only",
        },
    }
    for name, scheme in schemes.items():
        api.spec.components.security_scheme(name, scheme)
    api.spec.options["security"] = [{BEARER: []}, {ACCESS_KEY: []}]
    api.spec.options["info"] = {"description": DESCRIPTION, "license": {"name": "MIT"}}
    return api
