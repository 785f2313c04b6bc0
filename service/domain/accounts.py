"""Accounts of this service, and the keys they call with."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from service.domain.errors import RateLimited, ValidationFailed
from service.domain.texts import check_printable

PASSWORD_MIN = 10
PASSWORD_MAX = 256
EMAIL_MAX = 254
KEYS_MOST = 50
KEY_NAME_MAX = 100
# Secrets that were replaced and sign on, beside the current one.
OLD_SECRETS_MOST = 5
OLD_SECRETS_FOR = 24 * 3_600  # seconds

_EMAIL = re.compile(r"^[^@\s]{1,64}@[^@\s]{1,190}$")


def parse_email(text: str) -> str:
    """Return the address in lower case. Raises ValidationFailed naming ``email``."""
    email = check_printable("email", spelled(text), EMAIL_MAX)
    if not _EMAIL.fullmatch(email):
        raise ValidationFailed(details={"email": ["This is no e-mail address."]})
    return email


def spelled(text: str) -> str:
    """Return an address as the store spells it, whether it is one or not."""
    return text.strip().lower()


def check_key_name(name: str) -> str:
    """Return the name of an API key. Raises ValidationFailed naming ``name``."""
    return check_printable("name", name, KEY_NAME_MAX, least=1)


def network_of(address: str) -> str:
    """Return what counts as one caller: an IPv4 address, or the /64 an IPv6 address is of.

    A customer of a provider has a whole /64 at least. What is no address at all is one caller, too.
    """
    parsed = _parsed(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(parsed), 64), strict=False))
    return str(parsed or "unknown")


def address_of(text: str) -> str:
    """Return an address as it is kept and shown, "" for what is none."""
    return str(_parsed(text) or "")


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        # By its number: what stands behind a "%" may be any text.
        return parsed.ipv4_mapped or ipaddress.IPv6Address(int(parsed))
    return parsed


def check_password(password: str, field: str = "password") -> str:
    """Return ``password`` when it is long enough. Raises ValidationFailed naming ``field``."""
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
        sentence = f"A password has {PASSWORD_MIN} to {PASSWORD_MAX} characters."
        raise ValidationFailed(details={field: [sentence]})
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

    After a rotation the one before signs beside the new one for 24 hours: ``old`` holds those, each with its
    end (Unix ms), the newest first.
    """

    current: str
    old: tuple[tuple[str, int], ...] = ()

    @property
    def active(self) -> list[str]:
        """All secrets to sign with, the current one first."""
        return [self.current, *(secret for secret, _ in self.old)]


@dataclass(frozen=True)
class ApiKey:
    """An API key without its secret. ``prefix`` is what a person recognises it by.

    ``last_used_at`` is in Unix milliseconds, kept to the minute; ``last_used_from`` the address it came from,
    "" where that is not known.
    """

    key_id: str
    account_id: str
    name: str
    prefix: str
    created_at: int
    digest: str = ""
    last_used_at: int = 0
    last_used_from: str = ""


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
