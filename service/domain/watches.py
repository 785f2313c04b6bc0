"""Watches: an account's stories looked at again and again. Pure functions.

A run of a watch is a request like any other that names the watch. With ``only_new`` it delivers what was not
delivered before: the watch remembers the items it has handed to a webhook.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from service.domain.errors import AccountPrivate, OptedOut, UserNotFound, ValidationFailed
from service.domain.options import PLAIN, Options

RUN = "watch"  # the task beat publishes; workers.tasks gives it code

ACTIVE = "active"
PAUSED = "paused"
STATES = (ACTIVE, PAUSED)

BY_HAND = "by_hand"
RECEIVER_GONE = "receiver_gone"  # the receiver answered 410
UNPAID = "insufficient_credits"  # several runs in a row could not be paid; submit.lua counts and pauses

EVERY_MOST = 366 * 86_400  # seconds
EVERY_LENGTH = 200  # characters
# A run is looked for this long after it was due: until then beat's message is on its way.
GRACE_MS = 60_000
# An item that does not say when it expires is remembered this long: twice what a story lives.
REMEMBERED = 48 * 3_600  # seconds
# A failed webhook is sent again by later runs for this long: what it tells of is gone by then.
OWED_FOR_MS = 24 * 3_600 * 1_000

# What an end says about the watched account, and not about us or the way there.
ABOUT_THE_ACCOUNT = frozenset({AccountPrivate.code, UserNotFound.code, OptedOut.code})

_INTERVAL = re.compile(r"([1-9][0-9]{0,8})([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


@dataclass(frozen=True)
class Watch:
    """A watch as stored. Times are Unix milliseconds, 0 for never; ``max_age`` is in seconds.

    ``running`` is the request that is open, if there is one; ``told`` the last outcome about the account of
    which the receiver was told, "" since it was well.
    """

    watch_id: str
    account_id: str
    username: str
    every: str
    webhook_url: str
    only_new: bool
    heartbeat: bool
    max_age: int
    status: str = ACTIVE
    pause_reason: str | None = None
    created_at: int = 0
    next_run_at: int = 0
    last_run_at: int = 0
    resumed_at: int = 0
    last_request_id: str | None = None
    last_outcome: str | None = None
    running: str | None = None
    told: str = ""
    runs: int = 0
    items_delivered: int = 0
    options: Options = PLAIN

    @property
    def fingerprint(self) -> str:
        """What is asked, in a form that compares: the same key must ask the same."""
        asked = [self.username, self.every, self.webhook_url, self.only_new, self.heartbeat, self.max_age]
        if self.options != PLAIN:
            asked.append(self.options.text)
        return hashlib.sha256(json.dumps(["watch", *asked]).encode()).hexdigest()

    @property
    def why_paused(self) -> str:
        """A sentence for a customer: why nothing comes any more, and what to do."""
        return (
            f"The watch of {self.username} was paused: several runs in a row could not be paid. "
            f"Top up the account, then POST /api/watches/{self.watch_id}/resume."
        )

    @property
    def is_active(self) -> bool:
        return self.status == ACTIVE

    def is_silent_about_nothing(self) -> bool:
        """Tell whether a run that brought nothing new sends no webhook."""
        return self.only_new and not self.heartbeat

    def is_silent_about(self, code: str) -> bool:
        """Tell whether a run that failed with ``code`` sends no webhook.

        A customer who wants new items only hears of the account's own changes, once each; trouble upstream
        is ours, and the next run makes up for it.
        """
        if not self.is_silent_about_nothing():
            return False
        return code not in ABOUT_THE_ACCOUNT or code == self.told


def interval(every: str) -> int | None:
    """Return the seconds of an interval such as ``90s``, ``15m``, ``2h`` or ``1d``; None when it is none."""
    match = _INTERVAL.fullmatch(every)
    return int(match[1]) * _UNITS[match[2]] if match else None


def check_gap(every: str, seconds: int, least: int) -> str:
    """Return ``every`` when ``seconds``, the shortest time between two runs, is allowed.

    Raises ValidationFailed naming the field ``every``.
    """
    if seconds < least:
        raise bad_every(f"The shortest time between two runs is {least} seconds; here it is {seconds}.")
    if seconds > EVERY_MOST:
        raise bad_every("The longest time between two runs is 366 days.")
    return every


def bad_every(sentence: str) -> ValidationFailed:
    return ValidationFailed(details={"every": [sentence]})


def key_of(item: dict[str, Any]) -> str | None:
    """Return what tells a raw item from others: its ``pk``, else its ``id``; None when it has neither."""
    key = item.get("pk") or item.get("id")
    text = "" if isinstance(key, dict | list | bool) else str(key or "")
    return text if text and not any(letter.isspace() for letter in text) else None


def new_items(items: Iterable[dict[str, Any]], seen: frozenset[str]) -> list[dict[str, Any]]:
    """Return the items that are not among those ``seen``, each once; one that has no id is always new."""
    found: list[dict[str, Any]] = []
    known = set(seen)
    for item in items:
        key = key_of(item)
        if key is None or key not in known:
            found.append(item)
        if key is not None:
            known.add(key)
    return found


def remembered(items: Iterable[dict[str, Any]], now_ms: int) -> dict[str, int]:
    """Return until when each item is to be remembered, by its key, in Unix seconds."""
    unknown = now_ms // 1000 + REMEMBERED
    until: dict[str, int] = {}
    for item in items:
        key = key_of(item)
        if key is not None:
            expires = item.get("expiring_at")
            until[key] = expires if type(expires) is int and 0 < expires < 2**40 else unknown
    return until
