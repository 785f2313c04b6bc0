"""What each call costs, told by method and path alone: before a body is looked at, or a key."""

from __future__ import annotations

import re

from service.api.hiker.errors import is_hiker_path
from service.domain.admission import FREE, HASH, HEAVY, LINK, LOOK, WORK

LOOKING = frozenset({"GET", "HEAD", "OPTIONS"})
_HASHING = frozenset({"/auth/login", "/auth/register", "/auth/password"})
_PUBLIC = re.compile(
    r"/|/docs|/docs/.*|/openapi\.json|/healthz|/readyz|/metrics|/favicon\.ico|/archive/[^/]*|/auth/.*"
)
# Lists are read through until a page is full; a batch has thousands of names, results or ends.
_HEAVY_LOOKS = re.compile(
    r"/metrics|/openapi\.json|/api/(requests|batches|webhooks/deliveries|credits/ledger)|/api/batches/[^/]+/results"
)
_HEAVY_WORK = re.compile(r"/api/instagram/stories/batch|/api/batches/[^/]+/cancel|/api/webhooks/replay")


def cost_of(method: str, path: str) -> str:
    """Return the cost class of a call."""
    looks = method in LOOKING
    if path == "/healthz":
        return FREE
    if not looks and path in _HASHING:
        return HASH
    if path.startswith("/archive/"):
        return LINK
    if (_HEAVY_LOOKS if looks else _HEAVY_WORK).fullmatch(path):
        return HEAVY
    return WORK if is_hiker_path(path) or not looks or path == "/api/instagram/download" else LOOK


def is_public(path: str) -> bool:
    """Tell whether a call needs no key."""
    return _PUBLIC.fullmatch(path) is not None
