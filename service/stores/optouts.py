"""Who is not served, in Redis: two hashes in one slot, see `keys`.

An entry is JSON: ``at`` since when (Unix ms), ``note``, and ``linked``, see `service.domain.optouts.OptOut`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from typing import Any

from service.domain.optouts import OptOut, same_account
from service.domain.rows import Tell, moment, reading
from service.domain.targets import USER_ID, USERNAME, Target
from service.stores import keys, scripts
from service.stores.commands import Command, together
from service.stores.connection import Client, store_adapter
from service.stores.rows import log_broken, read

HASHES = {USERNAME: keys.OPTOUT_NAMES, USER_ID: keys.OPTOUT_IDS}
NOBODY = ""  # a command that reads fields wants one


@store_adapter
class OptOuts:
    """OptOutStore over Redis. Names count without their case."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis
        self._learn = scripts.load(redis, "optout_learn")

    def add(self, username: str | None, user_id: str | None, note: str = "") -> None:
        with self._redis.pipeline(transaction=True) as pipe:
            for name, value in ((keys.OPTOUT_NAMES, _lower(username)), (keys.OPTOUT_IDS, user_id)):
                if value and note:
                    pipe.hset(name, value, _entry(note=note))
                elif value:
                    pipe.hsetnx(name, value, _entry())
            pipe.execute()

    def learn(self, username: str, user_id: str) -> bool:
        if not username or not user_id:
            return False
        name = username.lower()
        entries = [_entry(linked=user_id), _entry(linked=name)]
        return bool(self._learn(keys=list(HASHES.values()), args=[name, user_id, *entries]))

    def remove(self, account: Target) -> list[Target]:
        def remove(pipe: Any) -> list[Target]:
            found = same_account(_listed(*(pipe.hgetall(name) for name in HASHES.values())), account)
            pipe.multi()
            for each in found:
                pipe.hdel(HASHES[each.kind], each.value)
            return sorted(found, key=lambda each: (each.kind != account.kind, each.value))

        removed: list[Target] = self._redis.transaction(remove, *HASHES.values(), value_from_callable=True)
        return removed

    def list(self, tell: Tell = log_broken) -> list[OptOut]:
        with self._redis.pipeline(transaction=True) as pipe:
            for name in HASHES.values():
                pipe.hgetall(name)
            names, user_ids = pipe.execute()
            return sorted(_listed(names, user_ids, tell), key=lambda each: each.added_at)

    def anybody(self) -> bool:
        return any(together(self._redis, [Command(("HLEN", name)) for name in HASHES.values()]))

    def covers(self, names: Collection[str], user_ids: Collection[str]) -> bool:
        return any(self.covered(names, user_ids))

    def covered(
        self, names: Collection[str], user_ids: Collection[str]
    ) -> tuple[frozenset[str], frozenset[str]]:
        wanted = [name.lower() for name in names], list(user_ids)
        looks = [
            Command(("HMGET", name, *values, NOBODY))
            for name, values in zip(HASHES.values(), wanted, strict=True)
        ]
        by_name, by_id = map(_listed_of, wanted, together(self._redis, looks))
        return by_name, by_id


def _lower(username: str | None) -> str | None:
    return username and username.lower()


def _listed_of(values: list[str], entries: list[str | None]) -> frozenset[str]:
    return frozenset(value for value, entry in zip([*values, NOBODY], entries, strict=True) if entry)


def _entry(*, note: str = "", linked: str = "") -> str:
    return json.dumps({"at": int(time.time() * 1000), "note": note, "linked": linked})


def _listed(names: dict[str, str], user_ids: dict[str, str], tell: Tell = log_broken) -> list[OptOut]:
    return [
        _opt_out(Target(kind, value), entry, tell)
        for kind, entries in ((USERNAME, names), (USER_ID, user_ids))
        for value, entry in entries.items()
    ]


def _opt_out(account: Target, entry: str, tell: Tell) -> OptOut:
    """Return an entry of the list. One that is broken stands for the account all the same."""

    def parse(_: str, text: str) -> OptOut:
        with reading("opt-out", account.text):
            fields = json.loads(text)
            note, linked = str(fields["note"]), str(fields["linked"])
            return OptOut(account, moment({"at": str(fields["at"])}, "at"), note, linked)

    return read(parse, account.value, entry, tell) or OptOut(account, 0, "", "")
