"""Accounts of this service, and the keys they call with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from service.domain.errors import RateLimited, ValidationFailed

PASSWORD_MIN = 10
PASSWORD_MAX = 256

_EMAIL = re.compile(r"^[^@\s]{1,64}@[^@\s]{1,190}$")


def parse_email(text: str) -> str:
    """Return the address in lower case. Raises ValidationFailed naming ``email``."""
    email = text.strip().lower()
    if not _EMAIL.match(email):
        raise ValidationFailed(details={"email": ["This is no e-mail address."]})
    return email


def check_password(password: str) -> str:
    """Return ``password`` when it is long enough. Raises ValidationFailed naming ``password``."""
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
        sentence = f"A password has {PASSWORD_MIN} to {PASSWORD_MAX} characters."
        raise ValidationFailed(details={"password": [sentence]})
    return password


@dataclass(frozen=True)
class Account:
    """One who calls. ``token_version`` rises when all tokens are to be revoked; times are Unix ms."""

    account_id: str
    email: str
    password_hash: str
    created_at: int
    disabled: bool = False
    token_version: int = 1


@dataclass(frozen=True)
class WebhookSecrets:
    """The signing secrets of an account, ``whsec_<base64>``.

    After a rotation the ``previous`` one signs beside the new until ``previous_expires_at`` (Unix ms).
    """

    current: str
    previous: str | None = None
    previous_expires_at: int = 0

    @property
    def active(self) -> list[str]:
        """All secrets to sign with, the current one first."""
        return [self.current] if self.previous is None else [self.current, self.previous]


@dataclass(frozen=True)
class ApiKey:
    """An API key without its secret. ``prefix`` is what a person recognises it by."""

    key_id: str
    account_id: str
    name: str
    prefix: str
    created_at: int
    digest: str = ""
    last_used_at: int = 0


@dataclass(frozen=True)
class Limit:
    """At most ``count`` calls in ``seconds``."""

    count: int
    seconds: int

    @property
    def name(self) -> str:
        return _WINDOWS.get(self.seconds, f"{self.seconds}s")


_WINDOWS = {60: "minute", 3_600: "hour", 86_400: "day"}


@dataclass(frozen=True)
class LimitState:
    """How much of a limit is left, and the seconds until it starts anew."""

    limit: Limit
    remaining: int
    resets_in: int
    exceeded: bool = False


def refuse_free(limit: Limit, over_ms: int) -> NoReturn:
    """Raise RateLimited because too much has ended free of charge; ``over_ms`` milliseconds too much."""
    wait = max(-(-over_ms // 1000), 1)
    raise RateLimited(
        f"FREE_LIMIT: at most {limit.count} requests per {limit.name} may end without a result and so free "
        f"of charge, such as private accounts and names that are nobody's. Try again in {wait} seconds.",
        retry_after=wait,
    )


def refuse_names(count: int, states: Sequence[LimitState]) -> NoReturn:
    """Raise RateLimited because a batch of ``count`` names does not fit into what is left of a limit."""
    worst = max((state for state in states if state.exceeded), key=lambda state: state.resets_in)
    limit, left = worst.limit, worst.remaining
    raise RateLimited(
        f"NAMES_LIMITS: at most {limit.count} names of batches per {limit.name}; these are {count}, and "
        f"{left} are left. Send no more than that, or try again in {worst.resets_in} seconds.",
        retry_after=worst.resets_in,
    )


def refuse_exceeded(states: Sequence[LimitState]) -> None:
    """Raise RateLimited when a limit was reached before this call."""
    full = [state for state in states if state.exceeded]
    if full:
        worst = max(full, key=lambda state: state.resets_in)
        most = f"At most {worst.limit.count} calls per {worst.limit.name}."
        raise RateLimited(f"{most} Try again in {worst.resets_in} seconds.", retry_after=worst.resets_in)
