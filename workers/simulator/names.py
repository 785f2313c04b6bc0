"""The usernames seen so far, to turn an id back into the name it was made from.

An id alone already decides scene and stories, so forgetting a name costs only the name itself. With a data
folder names outlive the process: one username a line, appended when first seen.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from pathlib import Path

from .ids import is_username, owner_tag, user_id_of, username_of

# Enough for any load test, small enough (about 60 MB) for the laptop it runs on.
MOST_NAMES = 200_000


class NameBook:
    """Remembers ids and their usernames; thread-safe, bounded, optionally on disk."""

    def __init__(self, folder: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._names: dict[int, str] = {}
        self._by_tag: defaultdict[int, list[int]] = defaultdict(list)
        self._file: Path | None = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = folder / "usernames.txt"
            self._load(self._file)

    def remember(self, username: str) -> int:
        """Take note of a (lower-case) username; returns its id."""
        user_id = user_id_of(username)
        with self._lock:
            if self._note(user_id, username) and self._file is not None:
                with self._file.open("a", encoding="ascii") as file:
                    file.write(username + "\n")
        return user_id

    def username(self, user_id: int) -> str:
        """The username of an id: the one it was made from, or a plausible one; the id counts as seen."""
        with self._lock:
            self._note(user_id, username_of(user_id))
            return self._names.get(user_id) or username_of(user_id)

    def with_tag(self, tag: int) -> list[int]:
        """Ids seen whose media pks carry this owner tag."""
        with self._lock:
            return list(self._by_tag.get(tag, ()))

    def _note(self, user_id: int, username: str) -> bool:
        known = self._names.get(user_id)
        if known == username or len(self._names) >= MOST_NAMES:
            return False
        made_up = username_of(user_id)
        if known is not None and (known != made_up or username == made_up):
            return False
        if known is None:
            self._by_tag[owner_tag(user_id)].append(user_id)
        self._names[user_id] = username
        return username != made_up

    def _load(self, file: Path) -> None:
        if file.exists():
            for line in file.read_text(encoding="ascii", errors="replace").splitlines():
                if is_username(line):
                    self._note(user_id_of(line), line)
