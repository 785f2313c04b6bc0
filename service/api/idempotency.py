"""The Idempotency-Key header: the same key asks for the same request once.

draft-ietf-httpapi-idempotency-key-header-07 has it quoted (a structured string); most clients send
it bare, and both are read.
"""

from __future__ import annotations

from flask import request

from service.domain.errors import ValidationFailed
from service.domain.idempotency import KEY_RULE, is_key

HEADER = "Idempotency-Key"


def idempotency_key(in_body: str | None) -> str | None:
    """Return the caller's key, from the header or from the body's ``idempotencyKey``.

    Raises ValidationFailed for one that is empty, over 255 characters, not printable ASCII, or given
    twice with different values.
    """
    header = request.headers.get(HEADER)
    in_header = _unquoted(header) if header is not None else None
    if in_header is not None and in_body is not None and in_header != in_body:
        raise _bad("The header Idempotency-Key and idempotencyKey in the body differ. Send one.")
    key = in_header if in_header is not None else in_body
    if key is not None and not is_key(key):
        raise _bad(KEY_RULE)
    return key


def _unquoted(value: str) -> str:
    text = value.strip()
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text


def _bad(sentence: str) -> ValidationFailed:
    return ValidationFailed(details={"idempotencyKey": [sentence]})
