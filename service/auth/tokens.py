"""Bearer tokens: JWT (RFC 7519), signed with HS256 and nothing else."""

from __future__ import annotations

import time
import uuid
from typing import Any

import jwt

from service.domain.accounts import Account
from service.domain.errors import Unauthorized

ALGORITHM = "HS256"
ISSUER = "storyhook"
DEVICE = "device"  # the audience of what opens nothing; `read` refuses a token with an audience
DEVICE_LIFETIME = 90 * 86_400  # seconds


class JwtTokens:
    """Tokens. One holds while its account is enabled and its token version is the account's."""

    def __init__(self, key: bytes, lifetime: int) -> None:
        self._key = key
        self._lifetime = lifetime

    def issue(self, account: Account) -> str:
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": account.account_id,
            "ver": account.token_version,
            "iat": now,
            "exp": now + self._lifetime,
            "jti": uuid.uuid4().hex,
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM)

    def for_device(self, email: str) -> str:
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": DEVICE, "sub": email, "iat": now, "exp": now + DEVICE_LIFETIME}
        return jwt.encode(claims, self._key, algorithm=ALGORITHM)

    def is_of_device(self, token: str, email: str) -> bool:
        try:
            claims = self._claims(token, "aud", audience=DEVICE)
        except jwt.InvalidTokenError:
            return False
        return bool(claims["sub"] == email)

    def read(self, token: str) -> tuple[str, int]:
        try:
            claims = self._claims(token, "jti")
        except jwt.ExpiredSignatureError:
            raise Unauthorized("This token has expired. Log in again at POST /auth/login.") from None
        except jwt.InvalidTokenError:
            raise Unauthorized("This token is not valid.") from None
        version = claims.get("ver")
        if not isinstance(version, int):
            raise Unauthorized("This token is not valid.")
        return claims["sub"], version

    def _claims(self, token: str, required: str, audience: str | None = None) -> dict[str, Any]:
        """Return what a token says, which has to be ``required`` too. Raises jwt.InvalidTokenError."""
        claims: dict[str, Any] = jwt.decode(
            token,
            self._key,
            algorithms=[ALGORITHM],
            issuer=ISSUER,
            audience=audience,
            options={"require": ["iss", "sub", "iat", "exp", required]},
        )
        return claims
