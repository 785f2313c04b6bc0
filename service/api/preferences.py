"""The Prefer header: how long a caller wants to wait (RFC 7240)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from werkzeug.http import parse_dict_header

_SECONDS = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Preference:
    """What was asked for; ``wait`` in seconds, None when not (or not readably) given."""

    respond_async: bool = False
    wait: int | None = None

    def patience(self, usual: float, most: float) -> float:
        """Return how many seconds to wait: 0 at once, ``usual`` without a wish, never over ``most``."""
        if self.wait is not None:
            return min(float(self.wait), most)
        return 0.0 if self.respond_async else usual

    def applied(self, most: float) -> str:
        """Return what Preference-Applied says, "" for nothing."""
        if self.wait is not None:
            return f"wait={min(self.wait, int(most))}"
        return "respond-async" if self.respond_async else ""


def parse_prefer(header: str) -> Preference:
    """Read a Prefer header. Names ignore case; what is not understood is ignored."""
    given = {name.lower(): value for name, value in parse_dict_header(header).items()}
    wait = given.get("wait")
    seconds = int(wait) if wait is not None and _SECONDS.fullmatch(wait) else None
    return Preference("respond-async" in given, seconds)
