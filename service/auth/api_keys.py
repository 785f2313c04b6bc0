"""API keys: ``sk_live_`` + 12 characters looked up + 32 characters that prove it.

Only a keyed hash of the whole key is stored, so neither the store nor a backup of it holds a key.
A fast hash serves: the secret part carries about 190 bits, there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
import time

from service.domain.accounts import ApiKey

PREFIX = "sk_live_"
ID_LENGTH = 12
SECRET_LENGTH = 32

_LETTERS = string.ascii_letters + string.digits
_SHAPE = re.compile(rf"{PREFIX}([A-Za-z0-9]{{{ID_LENGTH}}})[A-Za-z0-9]{{{SECRET_LENGTH}}}")


class ApiKeys:
    """KeyMint."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def mint(self, account_id: str, name: str) -> tuple[str, ApiKey]:
        key_id = _random(ID_LENGTH)
        secret = f"{PREFIX}{key_id}{_random(SECRET_LENGTH)}"
        now = int(time.time() * 1000)
        return secret, ApiKey(key_id, account_id, name, f"{PREFIX}{key_id[:4]}", now, self._digest(secret))

    def key_id(self, secret: str) -> str | None:
        match = _SHAPE.fullmatch(secret)
        return match.group(1) if match else None

    def matches(self, key: ApiKey, secret: str) -> bool:
        return hmac.compare_digest(key.digest, self._digest(secret))

    def _digest(self, secret: str) -> str:
        return hmac.new(self._key, secret.encode(), hashlib.sha256).hexdigest()


def _random(length: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(length))
