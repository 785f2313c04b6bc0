"""Files that tell nothing and cannot be changed without SECRET_KEY: how a backup is kept.

A sealed file is a header and chunks::

    "storyhook-sealed"  16 bytes, what kind of file this is
    version              1 byte, `VERSION`
    key check           16 bytes, tells one SECRET_KEY from another and nothing else of it
    salt                32 bytes, random
    chunks              each AES-256-GCM of 64 KiB, the last one of 1 byte to 64 KiB, with its tag of 16 bytes

The chunks are the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: Online Authenticated-Encryption
and its Nonce-Reuse Misuse-Resistance, CRYPTO 2015, https://eprint.iacr.org/2015/189) with the sizes and
nonces of age (https://c2sp.org/age): 11 bytes that count the chunks and one that is 1 for the last. So a
chunk opens in its place only, and a file that is cut short, or goes on, has no last one. Each file has a
key of its own, HKDF (RFC 5869) of a key derived from SECRET_KEY and of the salt: a chunk of another file
does not open either, and a nonce is never used twice under one key. The header is the associated data of
every chunk.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from service.domain.errors import ConfigurationError, ValidationFailed

MAGIC = b"storyhook-sealed"
VERSION = 1
CHUNK = 64 * 1024
TAG = 16

_SALT = 32
_CHECK = 16
_HEADER = len(MAGIC) + 1 + _CHECK + _SALT


class Sealing:
    """Seals files, and opens them. ``key`` (32 bytes) and ``key_check`` (16) are derived from SECRET_KEY."""

    def __init__(self, key: bytes, key_check: bytes) -> None:
        self._key = key
        self._check = key_check

    @contextmanager
    def seal(self, file: IO[bytes]) -> Iterator[Writer]:
        """Lend something to write to, which goes sealed into ``file``; that is whole at the end.

        Where it ends with an error, no chunk says that it is the last.
        """
        header = MAGIC + bytes([VERSION]) + self._check + secrets.token_bytes(_SALT)
        file.write(header)
        writer = Writer(file, self._chunks(header))
        yield writer
        writer.finish()

    def open(self, file: IO[bytes]) -> IO[bytes] | None:
        """Return what stands in a sealed file, to be read; None when it is none, with ``file`` at its begin.

        Nothing is read that was not written under this key, and the end only where it was. Raises
        ConfigurationError for another SECRET_KEY, and ValidationFailed: at once for a newer version, while
        it is read for what was changed.
        """
        header = file.read(_HEADER)
        if not header.startswith(MAGIC):
            file.seek(0)
            return None
        if len(header) < _HEADER:
            raise _damaged()
        version, check = header[len(MAGIC)], header[len(MAGIC) + 1 : -_SALT]
        if version > VERSION:
            raise ValidationFailed(
                f"The backup is sealed in version {version}, this Storyhook opens up to {VERSION}. Update."
            )
        if check != self._check:
            raise ConfigurationError(
                "SECRET_KEY: the backup was made under another one, and cannot be read under this. "
                "Set the one it was made under."
            )
        reader: io.RawIOBase = _Reader(file, self._chunks(header))
        return io.BufferedReader(reader, CHUNK)

    def _chunks(self, header: bytes) -> _Chunks:
        derived = HKDF(SHA256(), 32, salt=header[-_SALT:], info=b"storyhook/sealed-file").derive(self._key)
        return _Chunks(AESGCM(derived), header)


class _Chunks:
    """The chunks of one file, one after the other."""

    def __init__(self, cipher: AESGCM, header: bytes) -> None:
        self._cipher = cipher
        self._header = header
        self._count = 0

    def seal(self, text: bytes, *, last: bool) -> bytes:
        return self._cipher.encrypt(self._nonce(last=last), text, self._header)

    def open(self, chunk: bytes, *, last: bool) -> bytes:
        try:
            return self._cipher.decrypt(self._nonce(last=last), chunk, self._header)
        except InvalidTag:
            raise _damaged() from None

    def _nonce(self, *, last: bool) -> bytes:
        nonce = self._count.to_bytes(11, "big") + bytes([last])
        self._count += 1
        return nonce


def _damaged() -> ValidationFailed:
    return ValidationFailed("The backup is damaged: it was changed, or is not whole.")


class Writer:
    """Keeps the newest chunk until it is known whether it is the last."""

    def __init__(self, file: IO[bytes], chunks: _Chunks) -> None:
        self._file = file
        self._chunks = chunks
        self._kept = bytearray()

    def write(self, data: bytes) -> int:
        self._kept += data
        while len(self._kept) > CHUNK:
            self._file.write(self._chunks.seal(bytes(self._kept[:CHUNK]), last=False))
            del self._kept[:CHUNK]
        return len(data)

    def flush(self) -> None:
        """Do nothing: what is kept goes with the chunk it belongs to."""

    def finish(self) -> None:
        """Write the last chunk."""
        self._file.write(self._chunks.seal(bytes(self._kept), last=True))


class _Reader(io.RawIOBase):
    """Opens chunk after chunk; one that nothing follows has to be the last."""

    def __init__(self, file: IO[bytes], chunks: _Chunks) -> None:
        self._file = file
        self._chunks = chunks
        self._ahead = b""
        self._over = False
        self._text = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        if not self._text and not self._over:
            self._text = memoryview(self._next())
        count = min(len(buffer), len(self._text))
        buffer[:count] = self._text[:count]
        self._text = self._text[count:]
        return count

    def _next(self) -> bytes:
        sealed = CHUNK + TAG
        found = self._ahead + self._file.read(sealed + 1 - len(self._ahead))
        self._ahead, self._over = found[sealed:], len(found) <= sealed
        return self._chunks.open(found[:sealed], last=self._over)
