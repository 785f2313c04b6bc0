"""How much the archive may hold, in all and for one account."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from service.archive.files import Files
from service.archive.keeper import Keeper
from service.domain.archive import ACCOUNT_FULL, FULL, Room
from service.stores import keys
from tests.archive.support import OWNER, Cdn, age, digest_of, make_keeper, nothing, photo, reel

SIZE = 10_000


class Place:
    """An archive with so much room, and photos to keep, each of `SIZE` bytes."""

    def __init__(self, folder: Path, redis: Redis, cdn: Cdn, room: Room) -> None:
        self.redis = redis
        self.keeper: Keeper = make_keeper(Files(str(folder)), redis, cdn, room=room)
        self._cdn = cdn

    def photo(self, number: int) -> dict[str, Any]:
        item = photo(number)
        self._cdn.add(item, self.body(number), "image/jpeg")
        return item

    @staticmethod
    def body(number: int) -> bytes:
        return f"{number:08d}".encode().ljust(SIZE, b".")

    def keep(self, number: int, account_id: str = "acc_1") -> str:
        """Return why it was not kept, "" when it was."""
        [item] = self.keeper.keep(reel(self.photo(number)), OWNER, nothing, (), account_id)["items"]
        assert ("archiveUrl" in item) != ("archiveError" in item)
        return str(item.get("archiveError", ""))

    def used(self) -> int:
        return int(self.redis.get(keys.ARCHIVE_USED) or 0)

    def used_by(self, account_id: str) -> int:
        return int(self.redis.get(keys.archive_account_used(account_id)) or 0)


@pytest.fixture
def place(folder: Path, valkey: Redis, cdn: Cdn) -> Place:
    return Place(folder, valkey, cdn, Room(most=5 * SIZE, account=3 * SIZE))


def test_what_does_not_fit_is_not_kept_and_says_why(place: Place) -> None:
    assert [place.keep(number) for number in range(4)] == ["", "", "", ACCOUNT_FULL]
    assert [place.keep(number, "acc_2") for number in range(4, 8)] == ["", "", FULL, FULL]
    assert place.keeper.totals().size == place.used() == 5 * SIZE
    assert (place.used_by("acc_1"), place.used_by("acc_2")) == (3 * SIZE, 2 * SIZE)


def test_a_file_counts_once_in_all_and_once_for_each_who_asked(place: Place) -> None:
    for _ in range(3):
        for account_id in ("acc_1", "acc_2"):
            assert place.keep(1, account_id) == ""
    assert place.used() == place.used_by("acc_1") == place.used_by("acc_2") == SIZE


def test_a_file_that_is_there_is_refused_past_the_share_and_not_where_the_archive_is_full(
    place: Place,
) -> None:
    for number in range(3):
        place.keep(number)
    for number in (3, 4):
        assert place.keep(number, "acc_2") == ""
    assert place.keep(0, "acc_2") == "", "it takes no more room"
    assert place.keep(1, "acc_2") == ACCOUNT_FULL
    assert place.keep(1) == "", "it counts already"


def test_many_at_a_time_never_pass_the_bound(place: Place) -> None:
    with ThreadPoolExecutor(16) as threads:
        told = list(threads.map(lambda number: place.keep(number, f"acc_{number}"), range(16)))
    assert place.keeper.totals().size == place.used() == told.count("") * SIZE <= 5 * SIZE
    assert set(told) <= {"", FULL}
    assert place.redis.zcard(keys.ARCHIVE_RESERVED) == 0
    while place.keep(told.count("") + 100, "acc_x") == "":
        told.append("")
    assert place.used() == 5 * SIZE, "what was reserved and not used is free again"


def test_what_is_deleted_makes_room(place: Place) -> None:
    for number in range(3):
        place.keep(number)
    for digest in (digest_of(place.body(0)), digest_of(place.body(1))):
        age(place.redis, digest)
    assert place.keeper.expire() == 2
    assert place.used() == SIZE
    assert [place.keep(number) for number in (10, 11, 12)] == ["", "", ACCOUNT_FULL]
    assert place.keeper.purge(OWNER) == 3
    assert place.redis.keys("{archive}:account:*") == []
    assert place.used() == 0


def test_who_died_on_the_way_keeps_no_room_for_long(place: Place) -> None:
    index = place.keeper._index
    index.reserve("acc_1", 3 * SIZE)
    assert place.keep(1) == ACCOUNT_FULL
    [member] = place.redis.zrange(keys.ARCHIVE_RESERVED, 0, -1)
    place.redis.zadd(keys.ARCHIVE_RESERVED, {member: 1})
    assert place.keep(1) == ""


def test_files_of_before_are_counted_by_the_housekeeping(place: Place) -> None:
    place.keep(1)
    place.redis.delete(keys.ARCHIVE_USED)
    place.keeper.expire()
    assert place.used() == SIZE


@pytest.fixture
def unlimited(folder: Path, valkey: Redis, cdn: Cdn) -> Place:
    return Place(folder, valkey, cdn, Room())


def test_without_limits_there_is_none(unlimited: Place) -> None:
    assert [unlimited.keep(number) for number in range(8)] == [""] * 8
