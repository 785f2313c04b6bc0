"""``scontent*.cdninstagram.com``: serves the drawn photos and videos behind signed addresses, with ranges."""

from __future__ import annotations

import io
import time

from flask import Blueprint, Response, request
from werkzeug.wsgi import wrap_file

from . import answers, media
from .cdn import asset_of, complaint
from .padding import Padded
from .state import state

MAX_AGE = 86_400
PIECE = 64 * 1024

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
    return _sent(Padded(body, state().knobs.media_bytes), content_type)


def _sent(file: Padded, content_type: str) -> Response:
    """A file, or the range of it that is asked for, a piece at a time."""
    pieces = wrap_file(request.environ, io.BufferedReader(file, PIECE), PIECE)
    response = Response(pieces, content_type=content_type, direct_passthrough=True)
    response.content_length = file.size
    response.cache_control.public = True
    response.cache_control.max_age = MAX_AGE
    response.headers["Timing-Allow-Origin"] = "*"
    response.make_conditional(request.environ, accept_ranges=True, complete_length=file.size)
    return response
