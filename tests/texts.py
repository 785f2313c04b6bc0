"""Texts that strangers choose and people read."""

from __future__ import annotations

# In names and addresses of mail: each holds something that no terminal is to be given.
HOSTILE = [
    "\x1b]0;owned\x07",
    "\x1b[31mred",
    "nul\x00",
    "two\nlines",
    "back\rover",
    "del\x7f",
    "\x9b31mred",  # ESC [ in one character
    "\u202eevil",
    "\u2066isolated",
    "zero\u200bwidth",
    "\ufeffmark",
    "line\u2028end",
]
# Printable, and yet to be taken as text.
MARKUP = ["[/boom]", "[link=https://evil.example]here[/link]", "[red]", "[", "\\[x]", "%s{0}", "{x}"]


def is_harmless(said: str) -> bool:
    """Tell whether a command's output holds nothing but printable characters and line ends."""
    return said.replace("\n", "").isprintable()
