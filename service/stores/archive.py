"""Which files the archive holds, whose they are and until when, in Redis.

Keys: see `keys`. A file is there for certain when its hash has a ``size``. An entry is older than its file
and outlives it, so whatever a crash leaves of either is found and deleted when its time is over. Who writes
or deletes a file holds its lock; what is noted is noted in one step with a look at the token.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Sequence
from math import ceil
from typing import Any

from redis import Redis

from service.domain.archive import (
    ACCOUNT_FULL,
    FULL,
    UNLIMITED,
    Kept,
    NotKept,
    Owner,
    Reservation,
    Room,
    Totals,
)
from service.stores import keys, scripts
from service.stores.commands import Command, together
from service.stores.connection import store_adapter

# Longer than any one call to a file store takes with its timeouts and retries.
LOCK_SECONDS = 120
# How long a file that was announced may take to be there.
ANNOUNCED_SECONDS = 86_400
# How much longer than its media may take room is reserved for a result: locks, and calls under way.
RESERVED_SPARE = 3 * LOCK_SECONDS
# Entries read at a time.
PAGE = 500


@store_adapter
class ArchiveEntries:
    """ArchiveIndex over Redis; ``lifetime`` of a file in seconds. Times are the store's."""

    def __init__(self, redis: Redis, lifetime: int, room: Room = UNLIMITED) -> None:
        self._redis = redis
        self._lifetime = lifetime
        self._room = room
        self._reserve = scripts.load(redis, "archive_reserve")
        self._announce = scripts.load(redis, "archive_announce")
        self._count = scripts.load(redis, "archive_count")
        self._record = scripts.load(redis, "archive_record")
        self._doom = scripts.load(redis, "archive_doom")
        self._forget = scripts.load(redis, "archive_forget")
        self._unlock = scripts.load(redis, "archive_unlock")

    def lock(self, what: str) -> str | None:
        token = secrets.token_hex(8)
        taken = self._redis.set(keys.archive_lock(what), token, nx=True, ex=LOCK_SECONDS)
        return token if taken else None

    def unlock(self, what: str, token: str) -> None:
        self._unlock(keys=[keys.archive_lock(what)], args=[token])

    def of_media(self, media_id: str) -> str | None:
        name = self._redis.get(keys.archive_media(media_id))
        return None if name is None else str(name)

    def get(self, digest: str) -> Kept | None:
        with self._redis.pipeline() as pipe:
            pipe.hmget(keys.archive_object(digest), "suffix", "size")
            pipe.zscore(keys.ARCHIVE_EXPIRY, digest)
            (suffix, size), until = pipe.execute()
        if size is None or until is None:
            return None
        return Kept(digest, suffix, int(size), int(until))

    def reserve(self, account_id: str, size: int, seconds: float, there: Kept | None = None) -> Reservation:
        reservation = Reservation(secrets.token_hex(8), account_id, size, 0 if there else size)
        names = [keys.ARCHIVE_USED, keys.ARCHIVE_RESERVED, *_keys_of_account(account_id)]
        counted = f"{there.digest}:{there.size}" if there else ""
        args: list[str | int] = [reservation.member, account_id, size, reservation.in_all]
        args += [ceil(seconds) + RESERVED_SPARE, self._room.most, self._room.account, counted]
        full = self._reserve(keys=names, args=args)
        if full:
            raise NotKept(FULL if full == "all" else ACCOUNT_FULL)
        return reservation

    def release(self, reservation: Reservation) -> None:
        self._redis.zrem(keys.ARCHIVE_RESERVED, reservation.member, reservation.announced)

    def recount(self) -> None:
        for digest, (size, counted) in self._entries("size", "counted"):
            if size is not None and counted is None:
                self._count(keys=[keys.archive_object(digest), keys.ARCHIVE_USED], args=[size])

    def announce(self, digest: str, suffix: str, size: int, reservation: Reservation) -> str:
        names = [
            keys.archive_object(digest),
            keys.ARCHIVE_EXPIRY,
            keys.ARCHIVE_USED,
            keys.ARCHIVE_RESERVED,
        ]
        args: list[str | int] = [digest, suffix, min(self._lifetime, ANNOUNCED_SECONDS), size]
        return str(self._announce(keys=names, args=[*args, reservation.member, reservation.announced]))

    def record(
        self, kept: Kept, token: str, owner: Owner, media_id: str, reservation: Reservation
    ) -> int | None:
        digest, user_id = kept.digest, owner.user_id
        names = [
            *_keys(digest),
            keys.archive_of(user_id),
            keys.archive_media(media_id),
            keys.ARCHIVE_NAMES,
            keys.archive_names_of(user_id),
            keys.ARCHIVE_USED,
            keys.ARCHIVE_RESERVED,
            *_keys_of_account(reservation.account_id),
            keys.archive_asked(digest),
        ]
        args: list[str | int] = [token, digest, kept.size, self._lifetime, user_id, kept.name]
        args += [reservation.member, reservation.announced, reservation.account_id, *owner.names]
        return int(self._record(keys=names, args=args)) or None

    def doom(self, digest: str, token: str, owner: str = "") -> str | None:
        names = [*_keys(digest), keys.ARCHIVE_NAMES, *_keys_of(owner)]
        suffix = self._doom(keys=names, args=[token, LOCK_SECONDS * 1000, digest, owner])
        return f"{digest}.{suffix}" if suffix else None

    def forget(self, digest: str, token: str, owner: str = "") -> bool:
        owners = [str(each) for each in {owner, *self._redis.smembers(keys.archive_owners(digest))}]
        accounts = [str(each) for each in self._redis.smembers(keys.archive_asked(digest))]
        names = [
            *_keys(digest),
            keys.ARCHIVE_NAMES,
            keys.archive_asked(digest),
            keys.ARCHIVE_USED,
            *(name for each in owners for name in _keys_of(each)),
            *(name for each in accounts for name in _keys_of_account(each)),
        ]
        return bool(self._forget(keys=names, args=[token, digest, *owners]))

    def over(self, after: int, count: int) -> Sequence[str]:
        seconds, _ = self._redis.time()
        found = self._redis.zrange(
            keys.ARCHIVE_EXPIRY, "-inf", seconds, byscore=True, offset=after, num=count
        )
        return [str(digest) for digest in found]

    def of_owner(self, owner: str) -> Sequence[str]:
        return [str(digest) for digest in self._redis.smembers(keys.archive_of(owner))]

    def owners_called(self, names: Collection[str]) -> Sequence[tuple[str, str]]:
        # An entry is "<name> <user id>"; "!" is what comes after the space.
        looks = [Command(("ZRANGEBYLEX", keys.ARCHIVE_NAMES, f"[{name} ", f"({name}!")) for name in names]
        entries = [str(entry) for found in together(self._redis, looks) for entry in found]
        seen = [(name, user_id) for name, _, user_id in (entry.rpartition(" ") for entry in entries)]
        return [pair for pair in seen if pair[0] in names]

    def totals(self) -> Totals:
        there = [int(size) for _, (size,) in self._entries("size") if size is not None]
        return Totals(len(there), sum(there))

    def _entries(self, *fields: str) -> Iterator[tuple[str, list[Any]]]:
        """Yield each file's digest and these fields of its entry, a page of them read at a time."""
        digests = list({str(digest) for digest, _ in self._redis.zscan_iter(keys.ARCHIVE_EXPIRY, count=PAGE)})
        for start in range(0, len(digests), PAGE):
            page = digests[start : start + PAGE]
            with self._redis.pipeline(transaction=False) as pipe:
                for digest in page:
                    pipe.hmget(keys.archive_object(digest), *fields)
                found = pipe.execute()
            yield from zip(page, found, strict=True)


def _keys(digest: str) -> list[str]:
    return [
        keys.archive_lock(digest),
        keys.archive_object(digest),
        keys.ARCHIVE_EXPIRY,
        keys.archive_owners(digest),
    ]


def _keys_of_account(account_id: str) -> list[str]:
    return [keys.archive_account(account_id), keys.archive_account_used(account_id)]


def _keys_of(owner: str) -> list[str]:
    return [keys.archive_of(owner), keys.archive_names_of(owner)]
