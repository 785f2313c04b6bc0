"""Text that people read: what may be in it, and how to show what may not. Pure functions.

Printable is what `str.isprintable` says: letters, digits, marks, symbols and the ordinary space. Not so:
control characters (ESC steers a terminal), line ends, marks that turn the direction of writing, invisible
ones, halves of an emoji.
"""

from __future__ import annotations

import re

from service.domain.errors import ValidationFailed

NOTE_MOST = 500

_BEYOND_BMP = 0x10000


def check_printable(field: str, text: str, most: int, *, least: int = 0) -> str:
    """Return ``text`` when it is printable and has ``least`` to ``most`` characters.

    Raises ValidationFailed naming ``field`` and what cannot be printed.
    """
    if not least <= len(text) <= most:
        raise ValidationFailed(details={field: [f"Give {least} to {most} characters."]})
    hidden = next((mark for mark in text if not mark.isprintable()), None)
    if hidden is not None:
        sentence = f"This holds a character that cannot be printed: U+{ord(hidden):04X}. Leave it out."
        raise ValidationFailed(details={field: [sentence]})
    return text


def is_text(text: str) -> bool:
    """Tell Unicode from what the command line makes of bytes in another encoding: no store holds that."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str) -> str:
    """Return one line in which all is to be seen, ESC as ``\\x1b``: nothing of it steers a terminal."""
    return "".join(mark if mark.isprintable() else _escaped(mark) for mark in text)


def _escaped(mark: str) -> str:
    return mark.encode("unicode_escape").decode()


# The blanks of JSON stay. What else this finds stands in strings only, where it may be escaped.
_PERHAPS_HIDDEN = re.compile(r"[^\x20-\x7e\n\r\t]")


def printable_json(text: str) -> str:
    """Return the same JSON with what cannot be printed escaped (RFC 8259, 7)."""
    return _PERHAPS_HIDDEN.sub(lambda found: _in_json(found[0]), text)


def _in_json(mark: str) -> str:
    if mark.isprintable():
        return mark
    code = ord(mark)
    if code < _BEYOND_BMP:
        return f"\\u{code:04x}"
    high, low = divmod(code - _BEYOND_BMP, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
