"""How much the archive may hold, in all and for one account."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from service.archive.files import Files
from service.archive.keeper import Keeper
from service.domain.archive import ACCOUNT_FULL, FULL, Kept, Room
from service.domain.errors import ArchiveUnavailable
from service.stores import keys
from tests.archive.support import OWNER, Cdn, age, digest_of, kept_in, make_keeper, nothing, photo, reel

SIZE = 10_000


class Place:
    """An archive with so much room, and photos to keep, each of `SIZE` bytes."""

    def __init__(self, folder: Path, redis: Redis, cdn: Cdn, room: Room) -> None:
        self.redis, self._folder = redis, folder
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

    def on_disk(self) -> int:
        return len(kept_in(self._folder)) * SIZE

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
    index.reserve("acc_1", 3 * SIZE, 60)
    assert place.keep(1) == ACCOUNT_FULL
    [member] = place.redis.zrange(keys.ARCHIVE_RESERVED, 0, -1)
    place.redis.zadd(keys.ARCHIVE_RESERVED, {member: 1})
    assert place.keep(1) == ""


class Died(BaseException):
    """The process ends here."""


@contextmanager
def dying(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let whoever keeps a file die when it is in its place and nothing says so yet."""

    def die(*_: object) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(place.keeper._index, "record", die)
        yield


def test_what_a_dead_process_left_counts_until_it_is_deleted(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each dies when its file is in its place and nothing says so yet."""
    with dying(place, monkeypatch):
        for number in range(2):
            with pytest.raises(Died):
                place.keep(number)
    assert place.on_disk() == place.used() == 2 * SIZE
    assert [place.keep(number, "acc_2") for number in range(2, 6)] == ["", "", "", ACCOUNT_FULL]
    assert place.keep(6, "acc_3") == FULL
    assert place.on_disk() == 5 * SIZE
    for number in range(2):
        age(place.redis, digest_of(place.body(number)))
    assert place.keeper.expire() == 2
    assert place.on_disk() == place.used() == 3 * SIZE


def test_what_a_dead_process_left_and_another_keeps_counts_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dying(place, monkeypatch), pytest.raises(Died):
        place.keep(1)
    assert place.keep(1) == ""
    assert place.used() == place.used_by("acc_1") == SIZE


def test_what_could_not_be_deleted_takes_its_room(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        assert place.keep(number, f"acc_{number}") == ""
        age(place.redis, digest_of(place.body(number)))

    def fail(name: str) -> None:
        raise ArchiveUnavailable

    with monkeypatch.context() as failing:
        failing.setattr(place.keeper._files, "delete", fail)
        assert place.keeper.expire() == 0
    assert place.keep(5, "acc_5") == FULL
    assert place.on_disk() == place.used() == 5 * SIZE
    assert place.keeper.expire() == 5
    assert place.on_disk() == place.used() == 0
    assert {key.split(":")[1] for key in place.redis.scan_iter()} == {"media"}, "which end by themselves"


def test_what_is_there_takes_no_room_of_others_while_it_is_noted(place: Place) -> None:
    place.keep(1)
    there = Kept(digest_of(place.body(1)), "jpg", SIZE, 0)
    place.keeper._index.reserve("acc_2", SIZE, 60, there)
    assert [place.keep(number, f"acc_{number}") for number in range(2, 7)] == ["", "", "", "", FULL]


def test_room_is_held_for_as_long_as_the_media_may_take(folder: Path, valkey: Redis, cdn: Cdn) -> None:
    seconds, ends = 50_000, []

    def body() -> Iterator[bytes]:
        [(_, end)] = valkey.zrange(keys.ARCHIVE_RESERVED, 0, -1, withscores=True)
        ends.append(end - int(valkey.time()[0]))
        yield b"slow"

    cdn.add(photo(1), body)
    keeper = make_keeper(Files(str(folder)), valkey, cdn, seconds=seconds, room=Room(10**7))
    keeper.keep(reel(photo(1)), OWNER, nothing, (), "acc_1")
    assert [end > seconds for end in ends] == [True]


def test_files_of_before_are_counted_by_the_housekeeping(place: Place) -> None:
    for number in range(2):
        place.keep(number, "acc_1")
        place.redis.hdel(keys.archive_object(digest_of(place.body(number))), "counted")
    place.redis.delete(keys.ARCHIVE_USED, *place.redis.keys("{archive}:a*"))
    for _ in range(2):
        place.keeper.expire()
        assert place.used() == 2 * SIZE
    age(place.redis, digest_of(place.body(0)))
    assert place.keeper.expire() == 1
    assert place.used() == SIZE


def test_files_of_before_that_go_first_take_nothing_off(place: Place) -> None:
    for number in range(2):
        place.keep(number)
    old = digest_of(place.body(0))
    place.redis.hdel(keys.archive_object(old), "counted")
    place.redis.decrby(keys.ARCHIVE_USED, SIZE)
    age(place.redis, old)
    assert place.keeper.expire() == 1
    assert place.used() == SIZE


def test_what_is_kept_while_the_housekeeping_counts_is_counted(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.keep(1)
    listed = place.redis.zscan_iter

    def list_and_then_keep(*args: Any, **kwargs: Any) -> Iterator[Any]:
        found = list(listed(*args, **kwargs))
        assert place.keep(2) == ""
        return iter(found)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(place.redis, "zscan_iter", list_and_then_keep)
        place.keeper.expire()
    assert place.used() == place.on_disk() == 2 * SIZE


@pytest.fixture
def unlimited(folder: Path, valkey: Redis, cdn: Cdn) -> Place:
    return Place(folder, valkey, cdn, Room())


def test_without_limits_there_is_none(unlimited: Place) -> None:
    assert [unlimited.keep(number) for number in range(8)] == [""] * 8
