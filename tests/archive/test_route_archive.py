"""GET /archive/...: signed links, ranges, caches."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from flask.testing import FlaskClient
from redis import Redis

from service.app import create_app
from service.archive.files import Files
from service.archive.keeper import Keeper
from service.archive.links import Links
from service.archive.off import NoArchive
from service.bootstrap import now_ms
from service.config import Settings
from service.domain.archive import Kept
from service.domain.errors import StreamTimeout
from service.domain.ports import Services
from service.stores.archive import ArchiveEntries
from tests.archive.conftest import Place
from tests.archive.support import (
    CREDENTIALS,
    DAY,
    KEY,
    MONTH,
    OWNER,
    Cdn,
    Now,
    digest_of,
    nothing,
    photo,
    reel,
)
from tests.conftest import RecordingQueue, make_services

BODY = bytes(range(256)) * 1000
DIGEST = digest_of(BODY)
NAME = f"{DIGEST}.jpg"


def keeper_of(files: Files, redis: Redis, cdn: Cdn, base_url: str = "") -> Keeper:
    links = Links(KEY, base_url, 7 * DAY, now_ms)
    return Keeper(files, ArchiveEntries(redis, MONTH), cdn, links, most=10**9, seconds=60.0)


@dataclass
class Front:
    """A front end with one file in its archive, and the link to it."""

    client: FlaskClient
    keeper: Keeper
    link: str

    def get(self, **headers: str) -> Any:
        return self.client.get(
            self.link, headers={name.replace("_", "-"): text for name, text in headers.items()}
        )


def front_of(settings: Settings, services: Services, keeper: Keeper, cdn: Cdn) -> Front:
    cdn.add(photo(1), BODY)
    [item] = keeper.keep(reel(photo(1)), OWNER, nothing)["items"]
    client = create_app(settings, replace(services, archive=keeper)).test_client()
    return Front(client, keeper, item["archiveUrl"])


@pytest.fixture
def services(settings: Settings, valkey: Redis, queue: RecordingQueue) -> Services:
    return make_services(settings, valkey, queue)


@pytest.fixture
def front(settings: Settings, services: Services, folder: Path, valkey: Redis, cdn: Cdn) -> Front:
    return front_of(settings, services, keeper_of(Files(str(folder)), valkey, cdn), cdn)


def test_a_link_gives_the_file_without_an_account(
    settings: Settings, services: Services, place: Place, valkey: Redis, cdn: Cdn
) -> None:
    front = front_of(settings, services, keeper_of(place.files, valkey, cdn), cdn)
    answer = front.get()
    assert answer.status_code == 200
    assert answer.data == BODY
    assert answer.content_type == "image/jpeg"
    assert answer.content_length == len(BODY)
    assert answer.headers["ETag"] == f'"{DIGEST}"'
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"] == f'inline; filename="{NAME}"'
    middle = front.get(Range="bytes=70000-200000")
    assert middle.status_code == 206
    assert middle.data == BODY[70000:200001]


def test_it_may_be_cached_until_the_link_ends(front: Front) -> None:
    rules = front.get().headers["Cache-Control"].split(", ")
    assert {"private", "immutable"} < set(rules)
    [age] = [int(rule.removeprefix("max-age=")) for rule in rules if rule.startswith("max-age=")]
    assert 7 * DAY - 600 < age <= 7 * DAY


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-999", 0, 999),
        ("bytes=255990-", 255_990, 255_999),
        ("bytes=-10", 255_990, 255_999),
        ("bytes=100-99999999", 100, 255_999),
        ("bytes=-99999999", 0, 255_999),
        ("bytes=65535-131072", 65_535, 131_072),
    ],
)
def test_a_range(front: Front, asked: str, first: int, last: int) -> None:
    answer = front.get(Range=asked)
    assert answer.status_code == 206
    assert answer.data == BODY[first : last + 1]
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(BODY)}"
    assert answer.content_length == last + 1 - first


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=9-1", "items=0-1", "bytes=x", "bytes=-"])
def test_what_is_no_single_range_gets_the_whole(front: Front, asked: str) -> None:
    answer = front.get(Range=asked)
    assert (answer.status_code, answer.data) == (200, BODY)
    assert "Content-Range" not in answer.headers


@pytest.mark.parametrize("asked", ["bytes=256000-", "bytes=999999-9999999", "bytes=-0"])
def test_a_range_past_the_end(front: Front, asked: str) -> None:
    answer = front.get(Range=asked)
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{len(BODY)}"
    assert answer.json["code"] == "range_not_satisfiable"
    assert "immutable" not in answer.headers.get("Cache-Control", "")


def test_a_range_of_what_it_was(front: Front) -> None:
    assert front.get(Range="bytes=0-9", If_Range=f'"{DIGEST}"').status_code == 206
    for other in ('"another"', f'W/"{DIGEST}"', DIGEST, "Wed, 21 Oct 2026 07:28:00 GMT"):
        answer = front.get(Range="bytes=0-9", If_Range=other)
        assert (answer.status_code, len(answer.data)) == (200, len(BODY)), other


@pytest.mark.parametrize("known", [f'"{DIGEST}"', f'W/"{DIGEST}"', f'"x", "{DIGEST}"', "*"])
def test_who_has_it_is_not_sent_it_again(front: Front, known: str) -> None:
    answer = front.get(If_None_Match=known)
    assert (answer.status_code, answer.data) == (304, b"")
    assert answer.headers["ETag"] == f'"{DIGEST}"'
    assert "immutable" in answer.headers["Cache-Control"]


def test_head_tells_the_same_without_the_bytes(front: Front) -> None:
    get, head = front.get(), front.client.head(front.link)
    assert (head.status_code, head.data) == (200, b"")
    own = {"X-Request-Id", "Date", "Cache-Control"}
    assert {k: v for k, v in head.headers if k not in own} == {k: v for k, v in get.headers if k not in own}
    part = front.client.head(front.link, headers={"Range": "bytes=5-9"})
    assert (part.status_code, part.content_length) == (206, 5)


# --- who may ---------------------------------------------------------------------------------------


def changed(link: str, **values: str | None) -> str:
    parts = urlsplit(link)
    query = {**dict(parse_qsl(parts.query)), **values}
    return f"{parts.path}?{urlencode({name: text for name, text in query.items() if text is not None})}"


def test_any_change_of_a_link_is_found_out(front: Front) -> None:
    query = dict(parse_qsl(urlsplit(front.link).query))
    signature, expires = query["signature"], query["expires"]
    last = signature[:-1] + chr(ord(signature[-1]) ^ 1)
    for values in (
        {"expires": str(int(expires) + 1)},
        {"expires": f"0{expires}"},
        {"expires": f"{expires} "},
        {"expires": "99999999999"},
        {"expires": "x"},
        {"expires": ""},
        {"signature": last},
        {"signature": signature[:-1]},
        {"signature": f"{signature}="},
        {"signature": ""},
        {"signature": "ü" * 43},
        {"signature": signature.lower()},
    ):
        answer = front.client.get(changed(front.link, **values))
        assert answer.status_code == 403, values
        assert answer.json["code"] == "forbidden"
        assert "signature" in answer.json["error"]
    other = front.link.replace(NAME, f"{'0' * 64}.jpg")
    assert front.client.get(other).status_code == 403
    assert front.client.get(front.link.replace(".jpg", ".bin")).status_code == 403


@pytest.mark.parametrize("left_out", ["expires", "signature"])
def test_a_link_that_lacks_a_part(front: Front, left_out: str) -> None:
    answer = front.client.get(changed(front.link, **{left_out: None}))
    assert answer.status_code == 422
    assert left_out in answer.json["details"]


@pytest.mark.parametrize("name", ["..%2f..%2fetc%2fpasswd", "%00", "tmp", "a" * 5000])
def test_no_name_leads_elsewhere(front: Front, name: str) -> None:
    answer = front.client.get(front.link.replace(NAME, name))
    assert answer.status_code in (403, 404)
    assert answer.is_json


def test_a_link_that_has_expired_says_so(front: Front, folder: Path) -> None:
    past = Links(KEY, "", 7 * DAY, lambda: now_ms() - 8 * DAY * 1000)
    answer = front.client.get(past.sign(Kept(DIGEST, "jpg", 1, int(time.time()) + MONTH)))
    assert answer.status_code == 403
    assert answer.json["code"] == "forbidden"
    assert "expired" in answer.json["error"]


def test_a_file_that_is_gone(front: Front) -> None:
    front.keeper.purge(OWNER)
    answer = front.get()
    assert answer.status_code == 404
    assert answer.json["code"] == "not_found"


def test_an_archive_that_is_out(
    settings: Settings, services: Services, valkey: Redis, cdn: Cdn, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    keeper = keeper_of(Files("s3://bucket/kept", "http://127.0.0.1:9"), valkey, cdn)
    link = Links(KEY, "", DAY, now_ms).sign(Kept(DIGEST, "jpg", 1, int(time.time()) + MONTH))
    answer = create_app(settings, replace(services, archive=keeper)).test_client().get(link)
    assert answer.status_code == 503
    assert answer.json["code"] == "archive_unavailable"
    assert answer.headers["Retry-After"]


def test_no_archive_at_all(settings: Settings, services: Services, front: Front) -> None:
    off = NoArchive()
    answer = create_app(settings, replace(services, archive=off)).test_client().get(front.link)
    assert answer.status_code == 404
    [item, other] = off.keep(reel(photo(1), {"pk": "2"}), OWNER, nothing)["items"]
    assert item["archiveError"] == "archive_unavailable"
    assert other == {"pk": "2"}
    assert off.keep({"id": OWNER, "user": {}}, OWNER, nothing) == {"id": OWNER, "user": {}}
    assert (off.purge(OWNER), off.expire(), off.totals().files, off.enabled) == (0, 0, 0, False)


# --- links -----------------------------------------------------------------------------------------


def test_a_link_lives_no_longer_than_its_file() -> None:
    now = Now()
    links = Links(KEY, "https://storyhook.example/", 7 * DAY, now)
    for until, left in ((now.seconds + 30 * DAY, 7 * DAY), (now.seconds + 60, 60)):
        link = links.sign(Kept(DIGEST, "jpg", 1, int(until)))
        assert link.startswith(f"https://storyhook.example/archive/{NAME}?expires={int(now.seconds) + left}&")


def test_another_key_signs_otherwise() -> None:
    kept = Kept(DIGEST, "jpg", 1, 3_000_000_000)
    one, other = (Links(key, "", DAY, Now()).sign(kept) for key in (KEY, b"j" * 32))
    assert one != other
    assert one.startswith("/archive/")


@pytest.mark.parametrize(
    "headers", [{}, {"Range": "bytes=0-9"}, {"Range": "bytes=999999-"}, {"If-None-Match": "*"}]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_file_is_closed_whatever_was_asked(
    front: Front, headers: dict[str, str], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    original = front.keeper.open

    def opening(name: str) -> Any:
        opened.append(original(name))
        return opened[-1]

    monkeypatch.setattr(front.keeper, "open", opening)
    front.client.open(front.link, method=method, headers=headers).close()
    assert [file._file.closed for file in opened] == [True]


# --- a time -----------------------------------------------------------------------------------------


def test_a_file_that_is_read_too_slowly_breaks_off(
    settings: Settings, valkey: Redis, queue: RecordingQueue, folder: Path, cdn: Cdn
) -> None:
    services = make_services(settings, valkey, queue, body_limit=-1.0)
    front = front_of(settings, services, keeper_of(Files(str(folder)), valkey, cdn), cdn)
    with pytest.raises(StreamTimeout):  # the server breaks the connection, and the length was told
        front.get()
