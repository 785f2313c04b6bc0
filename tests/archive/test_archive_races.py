"""Who archives a file and who deletes it at the same time: the one who is told it is kept can rely on it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from service.archive.files import Files
from service.archive.keeper import Keeper
from service.domain.archive import Kept, Owner, Reservation
from service.stores.archive import ArchiveEntries
from tests.archive.support import (
    MONTH,
    OWNER,
    Cdn,
    age,
    digest_of,
    kept_in,
    make_keeper,
    nothing,
    photo,
    reel,
)
from tests.conftest import await_true

BODY = b"wanted again"
DIGEST = digest_of(BODY)
NAME = f"{DIGEST}.jpg"
LOCK = f"{{archive}}:lock:{DIGEST}"


@pytest.fixture
def archived(keeper: Keeper, valkey: Redis, cdn: Cdn) -> Keeper:
    """An archive that keeps one file, whose time is over."""
    cdn.add(photo(1), BODY)
    keeper.keep(reel(photo(1)), OWNER, nothing)
    age(valkey, DIGEST)
    return keeper


def before(target: Any, name: str, action: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have something happen once, just before a method does its work."""
    original, done = getattr(target, name), threading.Event()

    def method(*args: Any, **kwargs: Any) -> Any:
        if not done.is_set():
            done.set()
            action()
        return original(*args, **kwargs)

    monkeypatch.setattr(target, name, method)


def archive_again(keeper: Keeper) -> dict[str, Any]:
    [item] = keeper.keep(reel(photo(1)), OWNER, nothing)["items"]
    return item


def test_a_file_whose_time_is_over_is_saved_by_archiving_it_again(
    archived: Keeper, folder: Path, cdn: Cdn
) -> None:
    assert "archiveUrl" in archive_again(archived)
    assert archived.expire() == 0
    assert kept_in(folder) == [NAME]
    assert len(cdn.fetched) == 1


def test_archived_again_between_the_look_and_the_deletion(
    archived: Keeper, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The housekeeping has read that its time is over, and then its time is prolonged."""
    before(archived._index, "lock", lambda: archive_again(archived), monkeypatch)
    assert archived.expire() == 0
    assert kept_in(folder) == [NAME]


def test_archived_again_while_it_is_deleted(
    archived: Keeper, folder: Path, cdn: Cdn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes while the file is deleted waits for the end of it, and then keeps it anew."""
    found: list[dict[str, Any]] = []
    again = threading.Thread(target=lambda: found.append(archive_again(archived)))
    waiting = threading.Event()

    def meanwhile() -> None:
        lock = archived._index.lock

        def noticed(what: str) -> str | None:
            if what == DIGEST:
                waiting.set()
            return lock(what)

        monkeypatch.setattr(archived._index, "lock", noticed)
        again.start()
        assert waiting.wait(30)

    before(archived._files, "delete", meanwhile, monkeypatch)
    assert archived.expire() == 1
    again.join(30)
    assert "archiveUrl" in found[0]
    assert kept_in(folder) == [NAME]
    assert archived._index.get(DIGEST) is not None
    assert len(cdn.fetched) == 2


def test_the_housekeeping_leaves_alone_what_is_being_written(
    archived: Keeper, folder: Path, valkey: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    archived._files.delete(NAME)
    valkey.delete(f"{{archive}}:object:{DIGEST}")
    deleted: list[int] = []
    before(archived._files, "publish", lambda: deleted.append(archived.expire()), monkeypatch)
    assert "archiveUrl" in archive_again(archived)
    assert deleted == [0]
    assert kept_in(folder) == [NAME]


def test_deleted_after_a_lock_that_ran_out_while_it_was_written(
    archived: Keeper, folder: Path, valkey: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer is slow, its lock ends, and the file is deleted: it notices, and writes it once more."""
    archived._files.delete(NAME)
    valkey.delete(f"{{archive}}:object:{DIGEST}")

    def lose() -> None:
        valkey.delete(LOCK)
        assert archived.expire() == 1

    before(archived._index, "record", lose, monkeypatch)
    assert "archiveUrl" in archive_again(archived)
    assert kept_in(folder) == [NAME]
    assert archived._index.get(DIGEST) is not None


def test_who_lost_the_lock_deletes_and_forgets_nothing(archived: Keeper, folder: Path, valkey: Redis) -> None:
    index = archived._index
    token = index.lock(DIGEST)
    assert token is not None
    valkey.set(LOCK, "another")
    assert index.doom(DIGEST, token) is None
    assert index.forget(DIGEST, token) is False
    reservation = Reservation("r", "acc_1", 1, 1)
    assert index.record(Kept(DIGEST, "jpg", 1, 0), token, Owner(OWNER), "1", reservation) is None
    index.unlock(DIGEST, token)
    assert valkey.get(LOCK) == "another"
    assert kept_in(folder) == [NAME]
    assert index.get(DIGEST) is not None


def test_what_a_dead_housekeeper_began_is_made_up_for(archived: Keeper, folder: Path, valkey: Redis) -> None:
    token = archived._index.lock(DIGEST)
    assert token is not None
    assert archived._index.doom(DIGEST, token) == NAME
    assert archived._index.get(DIGEST) is None, "from now on it counts as missing"
    valkey.delete(LOCK)
    assert archived.expire() == 1
    assert kept_in(folder) == []


def test_purged_while_another_owner_archives_the_same(
    folder: Path, valkey: Redis, cdn: Cdn, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    cdn.add(photo(1), BODY)
    cdn.add(photo(2), BODY)
    keeper.keep(reel(photo(1)), "anna", nothing)
    before(keeper._index, "lock", lambda: _keep(keeper, 2, "bert"), monkeypatch)
    assert keeper.purge("anna") == 0
    assert kept_in(folder) == [NAME]
    assert valkey.smembers(f"{{archive}}:owners:{DIGEST}") == {"bert"}
    assert keeper.purge("bert") == 1


def _keep(keeper: Keeper, pk: int, owner: str) -> None:
    keeper.keep(reel(photo(pk)), owner, nothing)


def test_many_archive_and_delete_the_same_few_at_random(folder: Path, valkey: Redis, cdn: Cdn) -> None:
    """However they fall together: at the end what the index says is there, and nothing else is."""
    bodies = [bytes([number]) * 2000 for number in range(3)]
    for number, body in enumerate(bodies):
        cdn.add(photo(number), body)
    stop, wrong = threading.Event(), []

    def keeps(mine: Keeper, number: int) -> None:
        for _ in range(15):
            [item] = mine.keep(reel(photo(number)), OWNER, nothing)["items"]
            if "archiveUrl" not in item:
                wrong.append(item)

    def deletes(mine: Keeper) -> None:
        while not stop.is_set():
            for body in bodies:
                valkey.zadd("{archive}:expiry", {digest_of(body): 1}, xx=True)
            mine.expire()

    def fresh() -> Keeper:
        return make_keeper(Files(str(folder)), ArchiveEntries(valkey, MONTH), cdn)

    keepers = [threading.Thread(target=keeps, args=(fresh(), number % 3)) for number in range(6)]
    housekeeper = threading.Thread(target=deletes, args=(fresh(),))
    for each in (*keepers, housekeeper):
        each.start()
    for each in keepers:
        each.join(60)
    stop.set()
    housekeeper.join(60)
    assert wrong == []
    index = ArchiveEntries(valkey, MONTH)
    there = sorted(kept.name for body in bodies if (kept := index.get(digest_of(body))))
    await_true(lambda: not list(valkey.scan_iter("*lock*")))
    assert kept_in(folder) == there
