"""Answers: JSON, the envelope of a request, and the headers that go with them."""

from __future__ import annotations

from typing import Any

import orjson
from flask import Response

JSON = "application/json"

# When to look again at a request that is under way.
POLL_AFTER = 2


def json_response(body: Any, status: int = 200) -> Response:
    """Return ``body`` as JSON."""
    return Response(orjson.dumps(body), status, content_type=JSON)
