"""Passwords: argon2id."""

from __future__ import annotations

import argon2

# OWASP's Password Storage Cheat Sheet, argon2id with the least memory: one check takes 19 MiB, where the
# library's own parameters take 64. Several at a time have to fit beside everything else.
MEMORY_KIB, PASSES, LANES = 19_456, 2, 1


class Passwords:
    """PasswordHasher. A check for an unknown user takes as long as for a known one."""

    def __init__(self) -> None:
        self._hasher = argon2.PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)
        self._nobody = self._hasher.hash("nobody's password")

    def hash(self, password: str) -> str:
        return self._hasher.hash(password)

    def verify(self, password_hash: str | None, password: str) -> bool:
        try:
            self._hasher.verify(password_hash or self._nobody, password)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
        return bool(password_hash)

    def is_outdated(self, password_hash: str) -> bool:
        return self._hasher.check_needs_rehash(password_hash)
