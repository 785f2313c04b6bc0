"""Disks that are full, stores that fail midway, servers that go away: a file is there whole or not at all."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from redis import Redis

from service.archive.files import Files
from service.archive.keeper import Keeper
from service.domain.archive import TIMEOUT, NotKept
from service.domain.errors import ArchiveUnavailable, NotFound
from tests.archive.support import (
    BUCKET,
    OWNER,
    S3,
    Cdn,
    age,
    digest_of,
    kept_in,
    make_keeper,
    nothing,
    photo,
    reel,
)

SMALL, LARGE = b"small", b"l" * 300_000


def three(cdn: Cdn) -> dict[str, Any]:
    for number, body in enumerate((SMALL, LARGE, b"last")):
        cdn.add(photo(number), body)
    return reel(*(photo(number) for number in range(3)))


def errors_of(kept: dict[str, Any]) -> list[str | None]:
    return [item.get("archiveError") for item in kept["items"]]


@pytest.fixture
def full_disk() -> Iterator[None]:
    """The system refuses to let a file grow beyond 100,000 bytes, midway in a write."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("full_disk")
def test_a_disk_that_takes_no_more(keeper: Keeper, folder: Path, cdn: Cdn) -> None:
    assert errors_of(keeper.keep(three(cdn), OWNER, nothing)) == [None, "archive_unavailable", None]
    assert kept_in(folder) == sorted(f"{digest_of(body)}.jpg" for body in (SMALL, b"last"))
    assert list((folder / "tmp").iterdir()) == []


class Failing(LocalFileSystem):
    """A remote store that takes 100,000 bytes of a file and then fails; ``works`` mends it."""

    protocol = "failing"
    works = False

    def put_file(self, path1: str, path2: str, callback: Any = None, **_: Any) -> None:
        body = Path(path1).read_bytes()
        callback.relative_update(len(body))
        if len(body) > 100_000 and not self.works:
            raise OSError(28, "No space left on device")
        self.makedirs(self._parent(path2), exist_ok=True)
        Path(path2).write_bytes(body)


@pytest.fixture
def failing() -> Failing:
    fsspec.register_implementation("failing", Failing, clobber=True)
    return Failing(skip_instance_cache=True)


def test_a_store_that_fails_midway(failing: Failing, folder: Path, valkey: Redis, cdn: Cdn) -> None:
    keeper = make_keeper(Files(f"failing://{folder}", filesystem=failing), valkey, cdn)
    assert errors_of(keeper.keep(three(cdn), OWNER, nothing)) == [None, "archive_unavailable", None]
    assert kept_in(folder) == sorted(f"{digest_of(body)}.jpg" for body in (SMALL, b"last"))
    with pytest.raises(NotFound):
        keeper.open(f"{digest_of(LARGE)}.jpg")
    assert keeper.totals().files == 2

    failing.works = True
    assert errors_of(keeper.keep(three(cdn), OWNER, nothing)) == [None, None, None]
    assert len(kept_in(folder)) == 3
    assert len(cdn.fetched) == 4, "only what had failed is fetched again"


def test_a_folder_that_may_not_be_written(tmp_path: Path, valkey: Redis, cdn: Cdn) -> None:
    (tmp_path / "file").write_text("no folder")
    keeper = make_keeper(Files(str(tmp_path / "file")), valkey, cdn)
    assert errors_of(keeper.keep(three(cdn), OWNER, nothing)) == ["archive_unavailable"] * 3
    with pytest.raises(ArchiveUnavailable):
        keeper.open(f"{digest_of(SMALL)}.jpg")


def test_a_file_that_cannot_be_deleted_is_kept_on_the_list(
    folder: Path, valkey: Redis, cdn: Cdn, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(str(folder))
    keeper = make_keeper(files, valkey, cdn)
    keeper.keep(three(cdn), OWNER, nothing)
    digest = digest_of(SMALL)

    def refuse(path: str) -> None:
        raise PermissionError(path)

    with monkeypatch.context() as patch:
        patch.setattr(files._filesystem, "rm_file", refuse)
        age(valkey, digest)
        assert keeper.expire() == 0
        with pytest.raises(ArchiveUnavailable, match="Try again"):
            keeper.purge(OWNER)
    assert len(kept_in(folder)) == 3
    assert keeper.purge(OWNER) == 3
    assert kept_in(folder) == []
    assert keeper.expire() == 0


def test_a_worker_that_dies_before_it_notes_the_file_leaves_nothing_for_good(
    keeper: Keeper, folder: Path, valkey: Redis, cdn: Cdn, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    cdn.add(photo(1), SMALL)
    with monkeypatch.context() as patch:
        patch.setattr(keeper._index, "record", die)
        patch.setattr(keeper._index, "unlock", lambda *_: None)
        with pytest.raises(Killed):
            keeper.keep(reel(photo(1)), OWNER, nothing)
    digest = digest_of(SMALL)
    assert kept_in(folder) == [f"{digest}.jpg"]
    valkey.delete(*valkey.scan_iter("*lock*"))  # the leases run out
    age(valkey, digest)
    assert keeper.expire() == 1
    assert kept_in(folder) == []
    assert list(valkey.scan_iter("*")) == []


# --- S3 ---------------------------------------------------------------------------------------------


@pytest.fixture
def own_s3(tmp_path_factory: pytest.TempPathFactory, s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """A server of one's own, to be ended; the environment is that of `s3`."""
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 2)
    server = S3(tmp_path_factory.mktemp("own") / "log")
    server.start()
    yield server
    server.stop()


def test_a_server_that_goes_away_in_the_middle_of_an_upload(own_s3: S3, valkey: Redis, cdn: Cdn) -> None:
    parts: list[int] = []

    class Watched(Files):
        def publish(self, staged: Path, name: str, tick: Callable[[], None]) -> None:
            def counting() -> None:
                parts.append(1)
                if len(parts) == 2:
                    own_s3.stop()
                tick()

            super().publish(staged, name, counting)

    large = b"l" * (20 * 1024 * 1024)
    cdn.add(photo(1), lambda: iter([large]))
    cdn.add(photo(2), SMALL)
    keeper = make_keeper(Watched(f"s3://{BUCKET}/kept", own_s3.url), valkey, cdn, most=10**9)
    assert errors_of(keeper.keep(reel(photo(1), photo(2)), OWNER, nothing)) == ["archive_unavailable"] * 2
    with pytest.raises(ArchiveUnavailable):
        keeper.open(f"{digest_of(SMALL)}.jpg")
    assert keeper.expire() == 0

    own_s3.start()
    assert own_s3.names() == []
    parts.extend([1, 1])
    assert errors_of(keeper.keep(reel(photo(1), photo(2)), OWNER, nothing)) == [None, None]
    assert len(own_s3.names()) == 2


def test_an_upload_that_is_given_up_leaves_no_parts(s3: S3, valkey: Redis, cdn: Cdn) -> None:
    under_way: list[int] = []

    class Late(Files):
        def publish(self, staged: Path, name: str, tick: Callable[[], None]) -> None:
            def late() -> None:
                under_way.append(len(s3.client().list_multipart_uploads(Bucket=BUCKET)["Uploads"]))
                raise NotKept(TIMEOUT)

            super().publish(staged, name, late)

    large = b"l" * (11 * 1024 * 1024)
    cdn.add(photo(1), lambda: iter([large]))
    keeper = make_keeper(Late(f"s3://{BUCKET}/kept", s3.url), valkey, cdn, most=10**9)
    assert errors_of(keeper.keep(reel(photo(1)), OWNER, nothing)) == ["timeout"]
    assert under_way == [1]
    assert s3.names() == []
    assert "Uploads" not in s3.client().list_multipart_uploads(Bucket=BUCKET)
    assert list(keeper._files.staging.iterdir()) == []


def test_a_bucket_that_is_not_there(s3: S3, valkey: Redis, cdn: Cdn) -> None:
    keeper = make_keeper(Files("s3://another/kept", s3.url), valkey, cdn)
    assert errors_of(keeper.keep(three(cdn), OWNER, nothing)) == ["archive_unavailable"] * 3
