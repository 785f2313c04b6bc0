"""Whom the operator does not serve. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from service.domain.errors import ValidationFailed
from service.domain.links import parse_user_id
from service.domain.requests import RequestRecord, parse_username
from service.domain.targets import USER_ID, USERNAME, Target, named


@dataclass(frozen=True)
class OptOut:
    """One line of the list: a username or a user's id.

    ``added_at`` is in Unix milliseconds. ``linked`` is the name or id that was on the list before it and
    turned out to be of the same account, "" for what was added by hand.
    """

    account: Target
    added_at: int
    note: str = ""
    linked: str = ""


def parse_account(text: str) -> Target:
    """Read what an operator types: digits are a user's id, all else is a name; ``@123`` is a name, too.

    Raises ValidationFailed naming the field ``account``.
    """
    plain = text.strip()
    if plain.isascii() and plain.isdecimal():
        return Target(USER_ID, parse_user_id(plain, "account"))
    try:
        return named(parse_username(plain))
    except ValidationFailed as error:
        raise ValidationFailed(details={"account": (error.details or {})["username"]}) from None


def as_listed(text: str) -> Target:
    """Return what is to be taken off: digits just as they are, as the list had them once.

    Raises ValidationFailed naming the field ``account``.
    """
    plain = text.strip()
    return Target(USER_ID, plain) if plain.isascii() and plain.isdecimal() else parse_account(text)


def same_account(listed: Iterable[OptOut], account: Target) -> set[Target]:
    """Return what is listed of an account: the name or id and what was linked to it, by way of others too."""
    entries = list(listed)
    found = {account} & {each.account for each in entries}
    while more := {each for entry in entries for each in _linked(entry, entries, found)} - found:
        found |= more
    return found


def _linked(entry: OptOut, entries: list[OptOut], found: set[Target]) -> set[Target]:
    """Return this entry and the one it was linked to, when either is among those ``found``."""
    other = _other_kind(entry)
    pair = {entry.account} | {each.account for each in entries if each.account == other}
    return pair if pair & found else set()


def _other_kind(entry: OptOut) -> Target:
    return Target(USER_ID if entry.account.kind == USERNAME else USERNAME, entry.linked)


@dataclass
class Subjects:
    """Accounts of which nothing is to be kept, by all names and ids that are known of them."""

    names: set[str] = field(default_factory=set)
    user_ids: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, accounts: Iterable[Target]) -> Subjects:
        made = cls()
        for account in accounts:
            made.add(account)
        return made

    def add(self, account: Target) -> None:
        (self.names if account.kind == USERNAME else self.user_ids).add(account.value)

    def __len__(self) -> int:
        return len(self.names) + len(self.user_ids)

    def learn(self, username: str, user_id: str) -> bool:
        """Take in that a name and an id are of one account; tell whether that is news about one of these."""
        if not username or not user_id or (username in self.names) == (user_id in self.user_ids):
            return False
        self.names.add(username)
        self.user_ids.add(user_id)
        return True

    def has(self, request: RequestRecord) -> bool:
        """Tell whether a request asked for one of them, or brought something of one."""
        asked = request.target
        by_id = asked.value if asked.kind == USER_ID else None
        return not self.names.isdisjoint((request.username, request.owner_name)) or not (
            self.user_ids.isdisjoint((by_id, request.owner))
        )

    def may_have(self, request: RequestRecord) -> bool:
        """Tell whether an open request may turn out to be about one of them."""
        return request.target.kind not in {USERNAME, USER_ID} or self.has(request)
