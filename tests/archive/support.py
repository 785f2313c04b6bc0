"""Stories with media, an upstream that gives them, and what an archive is made of."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import requests
from redis import Redis

from service.archive.files import Files
from service.archive.keeper import Keeper
from service.archive.links import Links
from service.cli.demo import free_ports
from service.domain.archive import UNLIMITED, Room
from service.domain.errors import MediaNotFound
from service.domain.ports.archive import ArchiveIndex
from service.domain.ports.media import MediaFile
from service.stores.archive import ArchiveEntries
from tests.conftest import await_true

CDN = "https://scontent.cdninstagram.com"
OWNER = "528817151"
DAY = 86_400
MONTH = 30 * DAY
KEY = b"k" * 32
BUCKET = "stories"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def photo(pk: int, url: str = "") -> dict[str, Any]:
    """A raw item as an envelope has it."""
    candidates = [{"width": 1080, "height": 1920, "url": url or f"{CDN}/{pk}.jpg"}]
    return {"pk": str(pk), "id": f"{pk}_{OWNER}", "image_versions2": {"candidates": candidates}}


def reel(*items: dict[str, Any]) -> dict[str, Any]:
    return {"id": OWNER, "user": {"pk": OWNER}, "items": list(items)}


def digest_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


class Stream:
    """MediaStream over bytes, or over what yields them."""

    status = 200
    content_range = None

    def __init__(
        self, body: bytes | Callable[[], Iterator[bytes]], content_type: str, size: int | None
    ) -> None:
        self._body = body
        self.content_type = content_type
        self.content_length = size

    def chunks(self) -> Iterator[bytes]:
        if callable(self._body):
            yield from self._body()
            return
        for start in range(0, len(self._body), 1000):
            yield self._body[start : start + 1000]


class Cdn:
    """MediaFiles that knows what it was given, and counts what is fetched of it."""

    def __init__(self) -> None:
        self.files: dict[str, Any] = {}
        self.types: dict[str, str] = {}
        self.fetched: list[str] = []
        self.tells_size = True
        self.gate = threading.Event()
        self.gate.set()

    def add(self, item: dict[str, Any], body: Any, content_type: str = "image/jpeg") -> None:
        url = item["image_versions2"]["candidates"][0]["url"]
        self.files[url], self.types[url] = body, content_type

    def probe(self, url: str) -> MediaFile:
        raise NotImplementedError

    @contextmanager
    def open(self, url: str, range: str | None = None) -> Iterator[Stream]:
        self.fetched.append(url)
        assert self.gate.wait(30)
        body = self.files.get(url, MediaNotFound())
        if isinstance(body, Exception):
            raise body
        size = len(body) if isinstance(body, bytes) and self.tells_size else None
        yield Stream(body, self.types[url], size)


class Now:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 2_000_000_000.0

    def __call__(self) -> int:
        return int(self.seconds * 1000)


def nothing() -> None:
    """The lease holds."""


def make_keeper(
    files: Files,
    redis: Redis | ArchiveIndex,
    cdn: Cdn,
    *,
    most: int = 10**6,
    seconds: float = 60.0,
    room: Room = UNLIMITED,
) -> Keeper:
    index = ArchiveEntries(redis, MONTH, room) if isinstance(redis, Redis) else redis
    links = Links(KEY, "https://storyhook.example", 7 * DAY, Now())
    return Keeper(files, index, cdn, links, most=most, seconds=seconds)


def age(redis: Redis, digest: str) -> None:
    """Let the life of a file be over."""
    redis.zadd("{archive}:expiry", {digest: 1})


def kept_in(folder: Path) -> list[str]:
    """Names of the files in a folder's archive, whatever is under way left out."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.parent != folder / "tmp")


class S3:
    """An S3-compatible server, its own process."""

    def __init__(self, log: Path) -> None:
        [self.port] = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **CREDENTIALS}
            )
        await_true(self._answers, 60)
        self.client().create_bucket(Bucket=BUCKET)

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self) -> Any:
        return boto3.client(
            "s3", endpoint_url=self.url, aws_access_key_id="nobody", aws_secret_access_key="nothing",
            region_name="us-east-1",
        )  # fmt: skip

    def names(self) -> list[str]:
        found = self.client().list_objects_v2(Bucket=BUCKET).get("Contents", [])
        return sorted(each["Key"] for each in found)

    def clear(self) -> None:
        for name in self.names():
            self.client().delete_object(Bucket=BUCKET, Key=name)

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/moto-api/", timeout=5).ok
        except requests.RequestException:
            return False
