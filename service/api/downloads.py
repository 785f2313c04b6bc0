"""GET /api/instagram/download: the file of a story."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flask import Response
from flask.views import MethodView

from service.api.blueprint import ApiBlueprint
from service.api.context import require_account
from service.api.fetches import target_fields
from service.api.limits import count_call, refuse_head
from service.api.schemas import ErrorSchema, WireSchema
from service.api.streaming import streamed
from service.domain.inputs import inputs_of, target_of
from service.domain.operations import DOWNLOAD, OPERATIONS
from service.domain.options import PLAIN

blueprint = ApiBlueprint("downloads", __name__, url_prefix="/api/instagram", description="Media files")
blueprint.before_request(require_account)

OPERATION = OPERATIONS[DOWNLOAD]
KINDS = ("image/*", "video/*")

RANGE_HEADER = {
    "in": "header",
    "name": "Range",
    "schema": {"type": "string"},
    "example": "bytes=0-1023",
    "description": "one range, as RFC 9110 has it; anything else is answered with the whole file",
}
_BINARY = {"type": "string", "format": "binary"}
_FILE_HEADERS = {
    "Content-Disposition": {"schema": {"type": "string"}, "description": "names the file"},
    "Accept-Ranges": {"schema": {"type": "string", "enum": ["bytes"]}},
}

_QUERY = [
    {
        "in": "query",
        "name": each.field,
        "schema": {"type": "string", "maxLength": each.longest},
        "example": each.example,
        "description": each.description,
    }
    for each in inputs_of(OPERATION)
]

DownloadQuerySchema = WireSchema.from_dict(dict(target_fields(OPERATION)), name="DownloadQuerySchema")


def documented_file(blueprint: ApiBlueprint, headers: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Return a decorator that documents a view which answers with a file, with more ``headers``."""
    told = {**_FILE_HEADERS, **headers}
    part = {**told, "Content-Range": {"schema": {"type": "string"}, "description": "which part it is"}}

    def decorate(view: Any) -> Any:
        for kind in KINDS:
            file = {"content_type": kind, "description": "The file", "headers": told}
            view = blueprint.response(200, _BINARY, **file)(view)
            some = {"content_type": kind, "description": "The part that Range asks for", "headers": part}
            view = blueprint.alt_response(206, schema=_BINARY, **some)(view)
        return view

    return decorate


@blueprint.route("/download", endpoint="file")
class Download(MethodView):
    @blueprint.doc(parameters=[RANGE_HEADER, *_QUERY])
    @blueprint.arguments(DownloadQuerySchema, location="query")
    @documented_file(blueprint, {})
    @blueprint.alt_response(416, schema=ErrorSchema, description="Range begins past the end; free")
    def get(self, query: dict[str, Any]) -> Response:
        """Download the photo or video of a story

        Give `storyId` or `url`, one of them. The file is handed through as it comes. `Range` is honoured, so
        downloads can be resumed and videos sought; each call is paid for.
        """
        refuse_head()
        count_call()
        return streamed(target_of(OPERATION, query), PLAIN)
