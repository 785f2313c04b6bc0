"""Media ids: numbers of 63 bits, their codes in URLs, and the time that is in them."""

from __future__ import annotations

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)}
# Codes of private media carry more after what stands for the id.
_CODE_LENGTH = 11
_EPOCH_MS = 1_314_220_021_721
_BITS_BELOW_TIME = 23

ID_DIGITS = 19
ID_LIMIT = 2**63


def media_id(text: str) -> str | None:
    """Return an id as Instagram writes it, without leading zeros; None for what is no id."""
    if not (text.isascii() and text.isdigit() and len(text) <= ID_DIGITS and 0 < int(text) < ID_LIMIT):
        return None
    return str(int(text))


def code_of(pk: int) -> str:
    """Return the code of a media id above 0: base 64, most significant digit first."""
    code = ""
    while pk > 0:
        pk, digit = divmod(pk, 64)
        code = _ALPHABET[digit] + code
    return code


def pk_of(code: str) -> str | None:
    """Return the media id that a code stands for; None for what is no code."""
    pk = 0
    for letter in code[:_CODE_LENGTH]:
        if letter not in _VALUES:
            return None
        pk = pk * 64 + _VALUES[letter]
    return str(pk) if 0 < pk < ID_LIMIT else None


def born_at(pk: int) -> int:
    """Return when a media id was given out, Unix seconds: its upper bits are milliseconds."""
    return ((pk >> _BITS_BELOW_TIME) + _EPOCH_MS) // 1000
