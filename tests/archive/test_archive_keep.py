"""What is kept of a result, in a folder and in S3, with its index in a fake and in a real store."""

from __future__ import annotations

import copy
import os
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from service.archive.files import Files
from service.archive.keeper import Keeper
from service.domain.errors import LeaseLost, MediaNotFound, StoreUnavailable, UpstreamFailed, UpstreamTimeout
from tests.archive.conftest import Place
from tests.archive.support import (
    CDN,
    DAY,
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

BODY = b"a photo" * 1000


def body_of(keeper: Keeper, name: str) -> bytes:
    file = keeper.open(name)
    return b"".join(file.chunks(0, file.size - 1))


def test_an_item_tells_where_its_media_are_kept(place: Place, valkey: Redis, cdn: Cdn) -> None:
    item = photo(1)
    cdn.add(item, BODY, "image/webp")
    keeper = make_keeper(place.files, valkey, cdn)

    [kept] = keeper.keep(reel(item), OWNER, nothing)["items"]

    digest = digest_of(BODY)
    assert kept["archive"] == {"sha256": digest, "contentType": "image/webp", "size": len(BODY)}
    assert kept["archiveUrl"].startswith(f"https://storyhook.example/archive/{digest}.webp?expires=")
    assert {name: kept[name] for name in item} == item
    assert place.names() == [f"{digest}.webp"]
    assert body_of(keeper, f"{digest}.webp") == BODY


@pytest.mark.parametrize(
    ("content_type", "suffix"),
    [
        ("image/jpeg", "jpg"),
        ("image/JPEG; q=1", "jpg"),
        ("image/png", "png"),
        ("image/heic", "heic"),
        ("video/mp4", "mp4"),
        ("image/svg+xml", "bin"),
        ("text/html", "bin"),
        ("", "bin"),
    ],
)
def test_the_type_of_a_file_is_in_its_name(
    keeper: Keeper, folder: Path, cdn: Cdn, content_type: str, suffix: str
) -> None:
    cdn.add(photo(1), BODY, content_type)
    keeper.keep(reel(photo(1)), OWNER, nothing)
    [path] = [path for path in folder.rglob("*") if path.is_file()]
    digest = digest_of(BODY)
    assert path.relative_to(folder).as_posix() == f"{digest[:2]}/{digest[2:4]}/{digest}.{suffix}"


def test_only_what_has_media_is_touched(keeper: Keeper, cdn: Cdn) -> None:
    cdn.add(photo(1), BODY)
    odd: list[Any] = [{"pk": "2"}, {"pk": "3", "image_versions2": None}, {"video_versions": [{}]}, None, "x"]
    data = reel(photo(1), *odd)
    before = copy.deepcopy(data)
    kept = keeper.keep(data, OWNER, nothing)
    assert kept["items"][1:] == odd
    assert "archiveUrl" in kept["items"][0]
    assert data == before, "what was given is as it was"
    assert {name: kept[name] for name in ("id", "user")} == {name: data[name] for name in ("id", "user")}
    for other in ({"id": OWNER, "user": {}}, {"id": OWNER, "tray": [photo(1)]}):
        assert keeper.keep(other, OWNER, nothing) == other


def test_what_goes_wrong_with_one_is_told_and_the_others_are_kept(
    place: Place, valkey: Redis, cdn: Cdn
) -> None:
    def breaks() -> Iterator[bytes]:
        yield b"x" * 1500
        raise UpstreamFailed

    bodies: list[Any] = [
        b"first", MediaNotFound(), UpstreamTimeout(), UpstreamFailed(), breaks, b"y" * 2001,
        ValueError("a bug"), b"last",
    ]  # fmt: skip
    items = [photo(number) for number in range(len(bodies))]
    for item, body in zip(items, bodies, strict=True):
        cdn.add(item, body)
    kept = make_keeper(place.files, valkey, cdn, most=2000).keep(reel(*items), OWNER, nothing)["items"]

    assert [item.get("archiveError") for item in kept] == [
        None, "media_not_found", "timeout", "upstream_error", "upstream_error", "too_large",
        "archive_unavailable", None,
    ]  # fmt: skip
    assert ["archiveUrl" in item for item in kept] == [True, *[False] * 6, True]
    assert place.names() == sorted(f"{digest_of(body)}.jpg" for body in (b"first", b"last"))
    assert list(place.files.staging.glob("*")) == []


@pytest.mark.parametrize("told", [True, False])
def test_a_file_is_kept_up_to_the_limit(keeper: Keeper, folder: Path, cdn: Cdn, told: bool) -> None:
    keeper._most = 3000
    cdn.tells_size = told
    cdn.add(photo(1), b"x" * 3000)
    cdn.add(photo(2), b"y" * 3001)
    one, two = keeper.keep(reel(photo(1), photo(2)), OWNER, nothing)["items"]
    assert one["archive"]["size"] == 3000
    assert two["archiveError"] == "too_large"
    assert kept_in(folder) == [f"{digest_of(b'x' * 3000)}.jpg"]


def test_a_story_is_fetched_once_however_often_it_is_archived(place: Place, valkey: Redis, cdn: Cdn) -> None:
    cdn.add(photo(1), BODY)
    keeper = make_keeper(place.files, valkey, cdn)
    [first] = keeper.keep(reel(photo(1)), OWNER, nothing)["items"]
    [again] = keeper.keep(reel(photo(1, f"{CDN}/another-signature.jpg")), OWNER, nothing)["items"]
    assert again["archive"] == first["archive"]
    # The signatures differ when a second begins in between: they tell when they expire.
    assert again["archiveUrl"].partition("?")[0] == first["archiveUrl"].partition("?")[0]
    assert len(cdn.fetched) == 1


def test_the_same_bytes_are_kept_once(place: Place, valkey: Redis, cdn: Cdn) -> None:
    cdn.add(photo(1), BODY)
    cdn.add(photo(2), BODY, "image/png")
    keeper = make_keeper(place.files, valkey, cdn)
    one, two = keeper.keep(reel(photo(1), photo(2)), OWNER, nothing)["items"]
    assert len(cdn.fetched) == 2
    assert one["archive"] == two["archive"]
    assert place.names() == [f"{digest_of(BODY)}.jpg"]
    assert keeper.totals().files == 1
    assert keeper.totals().size == len(BODY)


def test_two_requests_at_a_time_fetch_a_story_once(keeper: Keeper, folder: Path, cdn: Cdn) -> None:
    cdn.add(photo(1), BODY)
    cdn.gate.clear()
    found: list[dict[str, Any]] = []
    both = [
        threading.Thread(target=lambda: found.append(keeper.keep(reel(photo(1)), OWNER, nothing)))
        for _ in range(2)
    ]
    for each in both:
        each.start()
    await_true(lambda: cdn.fetched)
    cdn.gate.set()
    for each in both:
        each.join(30)
    assert [each["items"][0]["archive"]["sha256"] for each in found] == [digest_of(BODY)] * 2
    assert len(cdn.fetched) == 1
    assert len(kept_in(folder)) == 1


def test_a_file_that_vanished_is_fetched_again(place: Place, valkey: Redis, cdn: Cdn) -> None:
    cdn.add(photo(1), BODY)
    keeper = make_keeper(place.files, valkey, cdn)
    keeper.keep(reel(photo(1)), OWNER, nothing)
    place.files.delete(f"{digest_of(BODY)}.jpg")
    [again] = keeper.keep(reel(photo(1)), OWNER, nothing)["items"]
    assert "archiveUrl" in again
    assert len(cdn.fetched) == 2
    assert body_of(keeper, f"{digest_of(BODY)}.jpg") == BODY


def test_archiving_again_prolongs_the_life_and_never_shortens_it(
    folder: Path, redis: Redis, cdn: Cdn
) -> None:
    cdn.add(photo(1), BODY)
    files = Files(str(folder))
    keeper = make_keeper(files, redis, cdn)
    keeper.keep(reel(photo(1)), OWNER, nothing)
    digest = digest_of(BODY)
    ends = redis.zscore("{archive}:expiry", digest)
    assert abs(ends - time.time() - MONTH) < 600
    redis.zadd("{archive}:expiry", {digest: ends - DAY})
    keeper.keep(reel(photo(1)), OWNER, nothing)
    assert redis.zscore("{archive}:expiry", digest) >= ends
    redis.zadd("{archive}:expiry", {digest: ends + DAY})
    keeper.keep(reel(photo(1)), OWNER, nothing)
    assert redis.zscore("{archive}:expiry", digest) == ends + DAY
    assert abs(redis.ttl("{archive}:media:1") - MONTH - DAY) < 600


def test_the_worker_says_before_each_item_that_it_goes_on(keeper: Keeper, cdn: Cdn) -> None:
    items = [photo(number) for number in range(3)]
    for item in items:
        cdn.add(item, item["pk"].encode())
    fetched_before: list[int] = []
    keeper.keep(reel(*items), OWNER, lambda: fetched_before.append(len(cdn.fetched)))
    assert fetched_before == [0, 1, 2]


def test_the_worker_says_so_while_a_file_comes_in(
    keeper: Keeper, cdn: Cdn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.archive.keeper.TELL_EVERY", 0.0)
    cdn.add(photo(1), BODY)
    told: list[int] = []
    keeper.keep(reel(photo(1)), OWNER, lambda: told.append(1))
    assert len(told) > len(BODY) // 1000


def test_a_worker_that_lost_its_lease_stops_at_once(
    keeper: Keeper, folder: Path, cdn: Cdn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.archive.keeper.TELL_EVERY", 0.0)
    cdn.add(photo(1), BODY)
    told: list[int] = []

    def go_on() -> None:
        told.append(1)
        if len(told) > 3:
            raise LeaseLost

    with pytest.raises(LeaseLost):
        keeper.keep(reel(photo(1), photo(2)), OWNER, go_on)
    assert kept_in(folder) == []
    assert list((folder / "tmp").iterdir()) == []


def test_past_its_time_the_rest_is_left_out(keeper: Keeper, cdn: Cdn) -> None:
    def slow() -> Iterator[bytes]:
        keeper_ticks.set()
        while True:
            yield b"x"

    keeper_ticks = threading.Event()
    keeper._seconds, keeper._most = 3.0, 10**9  # long enough to begin on a busy machine
    cdn.add(photo(1), slow)
    cdn.add(photo(2), BODY)
    kept = keeper.keep(reel(photo(1), photo(2)), OWNER, nothing)["items"]
    assert [item["archiveError"] for item in kept] == ["timeout", "timeout"]
    assert len(cdn.fetched) == 1


def test_a_store_that_is_out_costs_the_archive_and_not_the_request(folder: Path, cdn: Cdn) -> None:
    def out(*_: object) -> Any:
        raise StoreUnavailable

    cdn.add(photo(1), BODY)
    index: Any = type("Out", (), {"lock": out})()
    [item] = make_keeper(Files(str(folder)), index, cdn).keep(reel(photo(1)), OWNER, out)["items"]
    assert item["archiveError"] == "archive_unavailable"


# --- whose it is, and until when -------------------------------------------------------------------


def archived(keeper: Keeper, cdn: Cdn, pk: int, body: bytes, owner: str) -> str:
    cdn.add(photo(pk), body)
    [item] = keeper.keep(reel(photo(pk)), owner, nothing)["items"]
    return f"{item['archive']['sha256']}.jpg"


def test_what_an_owner_has_alone_is_purged(place: Place, valkey: Redis, cdn: Cdn) -> None:
    keeper = make_keeper(place.files, valkey, cdn)
    alone = [archived(keeper, cdn, 1, b"one", "anna"), archived(keeper, cdn, 2, b"two", "anna")]
    shared = archived(keeper, cdn, 3, b"both", "anna")
    archived(keeper, cdn, 4, b"both", "bert")
    other = archived(keeper, cdn, 5, b"other", "bert")

    assert keeper.purge("anna") == 2
    assert place.names() == sorted([shared, other])
    assert keeper.purge("anna") == 0
    assert keeper.totals().files == 2
    assert not set(valkey.scan_iter("*anna*"))
    assert keeper.purge("bert") == 2
    assert place.names() == []
    assert set(valkey.scan_iter("*")) <= {f"{{archive}}:media:{number}" for number in range(1, 6)}
    assert alone[0] not in place.names()


def test_what_was_purged_is_fetched_again_when_it_is_asked_for(
    keeper: Keeper, folder: Path, cdn: Cdn
) -> None:
    name = archived(keeper, cdn, 1, b"one", "anna")
    keeper.purge("anna")
    assert archived(keeper, cdn, 1, b"one", "anna") == name
    assert len(cdn.fetched) == 2
    assert kept_in(folder) == [name]


def test_what_is_over_is_deleted_and_nothing_else(place: Place, valkey: Redis, cdn: Cdn) -> None:
    keeper = make_keeper(place.files, valkey, cdn)
    over, stays = (archived(keeper, cdn, number, bytes([number]), "anna") for number in (1, 2))
    assert keeper.expire() == 0
    age(valkey, over.partition(".")[0])
    assert keeper.expire() == 1
    assert place.names() == [stays]
    assert valkey.smembers("{archive}:of:anna") == {stays.partition(".")[0]}
    assert keeper.expire() == 0


def test_more_than_a_page_is_deleted(
    keeper: Keeper, folder: Path, valkey: Redis, cdn: Cdn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.archive.keeper.PAGE", 2)
    names = [archived(keeper, cdn, number, bytes([number]), "anna") for number in range(7)]
    for name in names:
        age(valkey, name.partition(".")[0])
    held = names[3].partition(".")[0]
    assert keeper._index.lock(held)
    assert keeper.expire() == 6
    assert kept_in(folder) == [names[3]], "somebody holds it"


def test_what_a_crash_left_is_deleted_a_day_later(keeper: Keeper, folder: Path, cdn: Cdn) -> None:
    archived(keeper, cdn, 1, b"one", "anna")
    fresh, old = folder / "tmp" / "fresh", folder / "tmp" / "old"
    for path in (fresh, old):
        path.write_bytes(b"half a ph")
    os.utime(old, (time.time() - DAY - 60,) * 2)
    keeper.expire()
    assert list((folder / "tmp").iterdir()) == [fresh]


def test_what_was_announced_and_never_came_is_forgotten(keeper: Keeper, folder: Path, valkey: Redis) -> None:
    digest = digest_of(b"never")
    reservation = keeper._index.reserve("acc_1", 1, 60)
    keeper._index.announce(digest, "jpg", 1, reservation)
    keeper._index.release(reservation)
    assert keeper.totals().files == 0
    age(valkey, digest)
    assert keeper.expire() == 1
    assert list(valkey.scan_iter("*")) == []


def test_a_large_file_takes_little_memory(place: Place, valkey: Redis, cdn: Cdn) -> None:
    piece = bytes(range(256)) * 256
    size = (50 if place.s3 is None else 20) * 1024 * 1024

    def large() -> Iterator[bytes]:
        yield from (piece for _ in range(size // len(piece)))

    keeper = make_keeper(place.files, valkey, cdn, most=10**9)
    archived(keeper, cdn, 1, b"warm", "anna")
    cdn.add(photo(2), large)
    tracemalloc.start()
    try:
        [item] = keeper.keep(reel(photo(2)), OWNER, nothing)["items"]
        file = keeper.open(f"{item['archive']['sha256']}.jpg")
        assert sum(len(chunk) for chunk in file.chunks(0, file.size - 1)) == size
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # S3 takes parts of 5 MiB, and what is sent is copied on its way.
    assert peak < (2 if place.s3 is None else 16) * 1024 * 1024
