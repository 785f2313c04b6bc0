"""Times of v1 answers: ISO 8601 in UTC, whole seconds, with a Z."""

from __future__ import annotations

from datetime import UTC, datetime

UNKNOWN = "1970-01-01T00:00:00Z"

_YEAR_10000 = 253_402_300_800


def iso(seconds: float | None) -> str | None:
    """Return Unix seconds as text; None for no time, or one out of the calendar."""
    if seconds is None or not 0 < seconds < _YEAR_10000:
        return None
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")


def epoch(text: object) -> int | None:
    """Return a v1 time as Unix seconds; without a zone it is in UTC. None for what is no time."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if moment is None:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp())
