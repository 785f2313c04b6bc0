"""Who calls, by address: the peer, or whom the proxies in front name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.domain.accounts import address_of

_LONGEST = 64


def caller_address(environ: Mapping[str, Any], proxies: int) -> str:
    """Return the address of the caller.

    Of ``X-Forwarded-For`` the entry counts that the outermost of ``proxies`` trusted ones has written,
    without a port; where it is no address, the peer's own.
    """
    peer = str(environ.get("REMOTE_ADDR", ""))
    if not proxies:
        return peer
    entries = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
    if len(entries) < proxies:
        return peer
    return _parsed(entries[-proxies].strip()) or peer


def _parsed(text: str) -> str:
    """Return the address in ``text``, "" for what is none; brackets and a port are taken off."""
    if len(text) > _LONGEST:
        return ""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return address_of(text)
