"""What a request is about: an account by name or id, a story, a highlight, a media file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

USERNAME = "username"
USER_ID = "user_id"
STORY_ID = "story_id"  # the pk of a story's item
HIGHLIGHT_ID = "highlight_id"  # the number after "highlight:"
MEDIA_URL = "media_url"  # of a file on Instagram's CDN

KINDS = (USERNAME, USER_ID, STORY_ID, HIGHLIGHT_ID, MEDIA_URL)

_TEXT_MOST = 64


@dataclass(frozen=True)
class Target:
    """One thing to ask for. ``kind`` is one of `KINDS`; a request is stored with a field of that name."""

    kind: str
    value: str

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> Target:
        """Return the target that stands in a record's fields. Raises KeyError when none does."""
        for kind in KINDS:
            if kind in fields:
                return cls(kind, fields[kind])
        raise KeyError(USERNAME)

    @property
    def text(self) -> str:
        """A short text that is the target's alone: a plain username, or kind and value."""
        if self.kind == USERNAME:
            return self.value
        short = self.value
        if len(short) > _TEXT_MOST:
            short = hashlib.sha256(short.encode()).hexdigest()[:32]
        return f"{self.kind}:{short}"


def named(username: str) -> Target:
    """Return the account of that (lower-case) name."""
    return Target(USERNAME, username)
