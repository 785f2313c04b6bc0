"""GET /api/instagram/download: the file of a story."""

from __future__ import annotations

from typing import Any

from flask import Response
from flask.views import MethodView

from service.api.blueprint import ApiBlueprint
from service.api.context import require_account
from service.api.fetches import target_fields
from service.api.limits import count_call
from service.api.schemas import ErrorSchema, WireSchema
from service.api.streaming import streamed
from service.domain.inputs import target_of
from service.domain.operations import DOWNLOAD, OPERATIONS
from service.domain.options import PLAIN

blueprint = ApiBlueprint("downloads", __name__, url_prefix="/api/instagram", description="Media files")
blueprint.before_request(require_account)

OPERATION = OPERATIONS[DOWNLOAD]


DownloadQuerySchema = WireSchema.from_dict(dict(target_fields(OPERATION)), name="DownloadQuerySchema")


@blueprint.route("/download", endpoint="file")
class Download(MethodView):
    @blueprint.arguments(DownloadQuerySchema, location="query")
    @blueprint.response(
        200, {"type": "string", "format": "binary"}, content_type="*/*", description="The file"
    )
    @blueprint.alt_response(206, description="The part that Range asks for")
    @blueprint.alt_response(416, schema=ErrorSchema, description="Range begins past the end of the file")
    def get(self, query: dict[str, Any]) -> Response:
        """Download the photo or video of a story

        The file is handed through as it comes. `Range` is honoured, so downloads can be resumed and videos
        sought; each call is paid for.
        """
        count_call()
        return streamed(target_of(OPERATION, query), PLAIN)
