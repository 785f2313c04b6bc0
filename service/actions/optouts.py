"""Accounts the operator does not serve: put them on the list, take them off, erase what is kept of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from service.domain.errors import NotFound
from service.domain.instagram import Known
from service.domain.optouts import Subjects, as_listed, parse_account, same_account
from service.domain.ports import Services
from service.domain.requests import PROCESSING
from service.domain.targets import USERNAME, Target
from service.domain.texts import NOTE_MOST, check_printable

LOOK_EVERY = 0.2  # seconds


@dataclass
class Report:
    """What was erased, and of whom: requests, shared results, names whose id was remembered.

    ``media`` counts archived files, and ``under_way`` requests that may still bring something of them: they
    were begun before.
    """

    subjects: Subjects
    requests: int = 0
    shared: int = 0
    remembered: int = 0
    media: int = 0
    under_way: int = 0


def opt_out(services: Services, accounts: Sequence[str], note: str = "") -> Report:
    """Put accounts, given by name or id, on the list, and erase what is kept of them.

    Raises ValidationFailed.
    """
    targets = [parse_account(text) for text in accounts]
    check_printable("note", note, NOTE_MOST)
    for each in targets:
        by_name = each.kind == USERNAME
        services.optouts.add(each.value if by_name else None, None if by_name else each.value, note)
    listed = services.optouts.list()
    return purge(services, set().union(*(same_account(listed, each) for each in targets)))


def opt_in(services: Services, account: str) -> list[Target]:
    """Take an account off the list by any of its names and ids; return all that was taken off.

    Raises ValidationFailed, and NotFound when it is not on the list.
    """
    removed = services.optouts.remove(as_listed(account)) or services.optouts.remove(parse_account(account))
    if not removed:
        raise NotFound(f"{account} is not on the list.")
    return removed


def purge(services: Services, accounts: Iterable[Target], patience: float | None = None) -> Report:
    """Erase what is kept of accounts on the list; what shows further names or ids of theirs adds to the list.

    Requests that a worker had begun with before are waited for, and looked at again, for ``patience``
    seconds (None: as long as a worker may hold one without a sign of life).
    """
    report = Report(Subjects.of(accounts))
    deadline = time.monotonic() + (services.policy.lease if patience is None else patience)
    waited = False
    while True:
        known = len(report.subjects)
        under_way = _pass(services, report)
        if len(report.subjects) == known and (waited or not under_way):
            report.remembered = _forget(services, report.subjects)
            report.media = sum(services.archive.purge(each) for each in sorted(report.subjects.user_ids))
            return report
        report.under_way = _wait(services, under_way, deadline)
        waited = len(report.subjects) == known


def _pass(services: Services, report: Report) -> list[str]:
    """Erase what there is; return requests under way that may bring more."""
    subjects, under_way = report.subjects, []
    _learn_from_memory(services, subjects)
    for records in services.erasures.requests():
        # Before any of them goes: one may tell what another is about.
        while any(_learn(services, subjects, each.owner_name or "", each.owner or "") for each in records):
            pass
        ended = [record for record in records if record.is_final and subjects.has(record)]
        report.requests += services.erasures.erase_many(ended)
        under_way += [
            record.request_id
            for record in records
            if record.status == PROCESSING and subjects.may_have(record)
        ]
    report.shared += services.erasures.drop_shared(subjects.names, subjects.user_ids)
    return under_way


def _learn_from_memory(services: Services, subjects: Subjects) -> None:
    """Take in which ids and names are remembered to be theirs."""
    names = sorted(subjects.names)
    known = services.instagram_ids.get_many(names)
    pairs = [(name, each.user_id) for name, each in zip(names, known, strict=True) if isinstance(each, Known)]
    pairs += services.archive.owners_called(names)
    pairs += services.instagram_ids.names_of(subjects.user_ids)
    for name, user_id in pairs:
        _learn(services, subjects, name, user_id)


def _learn(services: Services, subjects: Subjects, username: str, user_id: str) -> bool:
    news = subjects.learn(username, user_id)
    if news:
        services.optouts.learn(username, user_id)
    return news


def _forget(services: Services, subjects: Subjects) -> int:
    """Forget the ids of names, and how accounts were seen; return how many were remembered."""
    names = sorted(subjects.names)
    known = services.instagram_ids.get_many(names)
    remembered = [name for name, each in zip(names, known, strict=True) if each is not None]
    for name in remembered:
        services.instagram_ids.forget(name)
    seen = [each for each in sorted(subjects.user_ids) if services.instagram_ids.get_seen(each) is not None]
    for user_id in seen:
        services.instagram_ids.put_seen(user_id, None)
    return len(remembered) + len(seen)


def _wait(services: Services, request_ids: Sequence[str], deadline: float) -> int:
    """Wait until nobody works on these; return on how many somebody does at the ``deadline``."""
    while True:
        records = services.requests.get_many(request_ids)
        left = sum(record is not None and record.status == PROCESSING for record in records)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(LOOK_EVERY)
