"""``scontent*.cdninstagram.com``: serves the drawn photos and videos behind signed addresses, with ranges."""

from __future__ import annotations

import io
import time

from flask import Blueprint, Response, request, send_file

from . import answers, media
from .cdn import asset_of, complaint
from .state import state

cdn = Blueprint("cdn", __name__)


@cdn.get("/i/<path:rest>")
def cdn_photo(rest: str) -> Response:
    return _serve("image/jpeg")


@cdn.get("/v/<path:rest>")
def cdn_video(rest: str) -> Response:
    return _serve("video/mp4")


def _serve(content_type: str) -> Response:
    asset = asset_of(request.path)
    if asset is None:
        return answers.fail(404, "Not Found")
    if refusal := complaint(request.path, request.args.get("oh"), request.args.get("oe"), time.time()):
        return Response(refusal, 403, content_type="text/plain")
    body = media.content(asset, state().names.username(asset.owner_id))
    response = send_file(io.BytesIO(body), mimetype=content_type, conditional=True, max_age=86_400)
    response.headers["Timing-Allow-Origin"] = "*"
    return response
