"""Keys for each purpose, derived from the one SECRET_KEY (HKDF, RFC 5869)."""

from __future__ import annotations

import base64

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def derive(secret_key: str, purpose: str) -> bytes:
    """Return 32 bytes for ``purpose``; the key of one purpose tells nothing of another's."""
    return HKDF(SHA256(), 32, salt=None, info=f"storyhook/{purpose}".encode()).derive(secret_key.encode())


def at_rest(secret_key: str) -> Fernet:
    """Return the cipher for what is stored encrypted: webhook secrets, Instagram sessions."""
    return Fernet(base64.urlsafe_b64encode(derive(secret_key, "at-rest")))
