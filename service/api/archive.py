"""GET /archive/{name}: a file that was kept, for whoever has the signed link."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from flask import Response, after_this_request, request
from flask.views import MethodView
from marshmallow import fields
from werkzeug.wrappers import Response as BaseResponse

from service.api.blueprint import ApiBlueprint
from service.api.bodies import in_time, sent
from service.api.context import services
from service.api.schemas import ErrorSchema, WireSchema
from service.domain.archive import TYPES
from service.domain.ports.archive import StoredFile
from service.domain.ranges import parse

blueprint = ApiBlueprint("archive", __name__, url_prefix="/archive", description="Media that are kept")


class LinkSchema(WireSchema):
    """What a link says besides the name of the file."""

    expires = fields.Str(required=True, metadata={"description": "end of the link, Unix seconds"})
    signature = fields.Str(required=True)


@blueprint.route("/<name>")
class ArchivedFile(MethodView):
    @blueprint.arguments(LinkSchema, location="query")
    @blueprint.response(
        200, {"type": "string", "format": "binary"}, content_type="*/*", description="The file"
    )
    @blueprint.alt_response(206, description="The part that Range asks for")
    @blueprint.alt_response(304, description="If-None-Match names the file: it never changes")
    @blueprint.alt_response(403, schema=ErrorSchema, description="The link is wrong, or has expired")
    @blueprint.alt_response(404, schema=ErrorSchema, description="The file is gone")
    @blueprint.alt_response(416, schema=ErrorSchema, description="Range begins past the end of the file")
    @blueprint.alt_response(503, schema=ErrorSchema, description="Too many wait or download already")
    @blueprint.doc(security=[])
    def get(self, query: dict[str, Any], name: str) -> Response:
        """Get a file of the archive

        The links are the `archiveUrl` of items; they need no account and expire. `Range` is honoured.
        """
        archive = services().archive
        archive.check(name, query["expires"], query["signature"])
        with ExitStack() as held:
            file = archive.open(name)
            held.callback(file.close)
            response = _response(file, name, held)
        left = max(int(query["expires"]) - services().clock() // 1000, 0)
        response.headers["Cache-Control"] = f"private, max-age={left}, immutable"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def _response(file: StoredFile, name: str, held: ExitStack) -> Response:
    """Return the file, the part of it that is asked for, or that it has not changed.

    A response that has a body takes over what is ``held``. (Its place, at the front door, is kept until all
    of it was sent.)
    """
    digest, _, suffix = name.partition(".")
    if request.if_none_match.contains_weak(digest):
        response = Response(status=304)
        response.set_etag(digest)
        return response
    asked = _asked(digest, file.size)
    first, last = asked or (0, file.size - 1)
    response = sent(
        in_time(file.chunks(first, last), services().policy.body_limit),
        held.pop_all(),
        206 if asked else 200,
        content_type=TYPES[suffix],
        direct_passthrough=True,
    )
    response.set_etag(digest)
    response.headers["Content-Length"] = str(last + 1 - first)
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["Content-Disposition"] = f'inline; filename="{name}"'
    if asked:
        response.headers["Content-Range"] = f"bytes {first}-{last}/{file.size}"
    return response


def _asked(digest: str, size: int) -> tuple[int, int] | None:
    """Return the range that is asked for. Raises RangeNotSatisfiable, and then the answer tells the size."""
    if request.headers.get("If-Range", f'"{digest}"').strip() != f'"{digest}"':
        return None

    def tell_size(response: BaseResponse) -> BaseResponse:
        if response.status_code == 416:
            response.headers["Content-Range"] = f"bytes */{size}"
        return response

    after_this_request(tell_size)
    return parse(request.headers.get("Range"), size)
