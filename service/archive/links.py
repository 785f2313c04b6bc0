"""Links to the archive: whoever has one may read that one file for a while, without an account."""

from __future__ import annotations

import base64
import hashlib
import hmac

from service.domain.archive import Kept
from service.domain.errors import Forbidden
from service.domain.ports import Clock


class Links:
    """Signs and checks; ``lifetime`` of a link in seconds, ``base_url`` what stands before its path."""

    def __init__(self, key: bytes, base_url: str, lifetime: int, clock: Clock) -> None:
        self._key = key
        self._base_url = base_url.rstrip("/")
        self._lifetime = lifetime
        self._clock = clock

    def sign(self, kept: Kept) -> str:
        """Return a link to a file, good for the lifetime of links and no longer than the file's."""
        expires = min(self._clock() // 1000 + self._lifetime, kept.until)
        query = f"expires={expires}&signature={self._signature(kept.name, str(expires))}"
        return f"{self._base_url}/archive/{kept.name}?{query}"

    def check(self, name: str, expires: str, signature: str) -> None:
        """Raise Forbidden unless these parts of a link are what was signed, and in time."""
        right = self._signature(name, expires)
        if not hmac.compare_digest(right.encode(), signature.encode("utf-8", "replace")):
            raise Forbidden("The signature of this link is wrong: use it as it was given, all of it.")
        if int(expires) <= self._clock() // 1000:
            raise Forbidden("This link has expired: look at the result again, or ask for it anew.")

    def _signature(self, name: str, expires: str) -> str:
        """Return HMAC-SHA256 over name and expiry, base64url without padding."""
        signed = hmac.new(self._key, f"{name}\n{expires}".encode("utf-8", "replace"), hashlib.sha256)
        return base64.urlsafe_b64encode(signed.digest()).rstrip(b"=").decode()
