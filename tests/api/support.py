"""A front end with somebody who calls it and somebody who works for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import argon2
import fakeredis
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis
from werkzeug.test import TestResponse

from service.actions.accounts import create_key
from service.app import create_app
from service.auth.passwords import Passwords
from service.config import Settings
from service.domain.accounts import Account
from service.domain.errors import FetchError, Retry
from service.domain.ports import Services
from service.domain.ports.media import MediaFiles
from service.stores.keys import BULK_CALLED
from tests.conftest import RecordingQueue, make_services
from tests.upstreams import StoriesByName
from workers import gather, scrape
from workers.places import Places
from workers.sources.contract import Found, GoOn, Source, always, reel_found

STORIES = "/api/instagram/stories"
BATCH = f"{STORIES}/batch"
JSON = "application/json"
PASSWORD = "correct horse battery"
CREDITS = 100


class QuickPasswords(Passwords):
    """Argon2 is slow on purpose; here it is the same with the least effort."""

    def __init__(self) -> None:
        self._hasher = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        self._nobody = self._hasher.hash("nobody's password")


PASSWORD_HASH = QuickPasswords().hash(PASSWORD)

# Routes that need a credential, with a body or query that is valid but for the account.
PROTECTED = [
    ("POST", STORIES),
    ("POST", "/api/instagram/story"),
    ("POST", "/api/instagram/highlights"),
    ("POST", "/api/instagram/highlight"),
    ("POST", "/api/instagram/user"),
    ("POST", "/api/instagram/download"),
    ("GET", "/api/instagram/download"),
    ("POST", BATCH),
    ("GET", "/api/batches"),
    ("GET", "/api/batches/bat_0001m7xt6136bt5vc71920hs0000"),
    ("GET", "/api/batches/bat_0001m7xt6136bt5vc71920hs0000/results"),
    ("POST", "/api/batches/bat_0001m7xt6136bt5vc71920hs0000/cancel"),
    ("GET", "/api/requests"),
    ("GET", "/api/requests/req_0001m7xt6136bt5vc71920hsxsgv"),
    ("DELETE", "/api/requests/req_0001m7xt6136bt5vc71920hsxsgv"),
    ("POST", "/api/requests/req_0001m7xt6136bt5vc71920hsxsgv/cancel"),
    ("GET", "/api/credits"),
    ("GET", "/api/credits/ledger"),
    ("GET", "/api/prices"),
    ("GET", "/api/webhooks/secret"),
    ("POST", "/api/webhooks/secret/rotate"),
    ("GET", "/api/webhooks/deliveries"),
    ("GET", "/api/webhooks/deliveries/msg_0001m7xt6136bt5vc71920hsxsgv"),
    ("POST", "/api/webhooks/deliveries/msg_0001m7xt6136bt5vc71920hsxsgv/replay"),
    ("POST", "/api/webhooks/replay"),
    ("POST", "/api/webhooks/test"),
    ("GET", "/api/watches"),
    ("POST", "/api/watches"),
    ("GET", "/api/watches/wat_0001m7xt6136bt5vc71920hsxsgv"),
    ("DELETE", "/api/watches/wat_0001m7xt6136bt5vc71920hsxsgv"),
    ("POST", "/api/watches/wat_0001m7xt6136bt5vc71920hsxsgv/pause"),
    ("POST", "/api/watches/wat_0001m7xt6136bt5vc71920hsxsgv/resume"),
    ("POST", "/api/watches/wat_0001m7xt6136bt5vc71920hsxsgv/run"),
    ("POST", "/auth/password"),
    ("GET", "/keys"),
    ("POST", "/keys"),
    ("DELETE", "/keys/abcdefghijkl"),
    ("POST", "/auth/logout-all"),
]
# HikerAPI's routes; what goes wrong there has another form.
HIKER = [
    "/v1/user/stories",
    "/v1/user/stories/by/username",
    "/v2/user/stories",
    "/v2/user/stories/by/username",
    "/v1/user/highlights",
    "/v1/user/highlights/by/username",
    "/v2/user/highlights",
    "/v2/user/highlights/by/username",
    "/v1/story/by/id",
    "/v1/story/by/url",
    "/v2/story/by/id",
    "/v2/story/by/url",
    "/v1/story/download",
    "/v1/story/download/by/story/url",
    "/v1/story/download/by/url",
    "/v1/highlight/by/id",
    "/v1/highlight/by/url",
    "/v2/highlight/by/id",
    "/v1/user/by/id",
    "/v1/user/by/username",
    "/v2/user/by/id",
    "/v2/user/by/username",
    "/v1/share/by/url",
    "/v1/share/by/code",
    "/sys/balance",
]
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", STORIES): {"username": "nasa"},
    ("POST", "/api/instagram/story"): {"storyId": "3411111111111111111"},
    ("POST", "/api/instagram/highlights"): {"username": "nasa"},
    ("POST", "/api/instagram/highlight"): {"highlightId": "17983616051768088"},
    ("POST", "/api/instagram/user"): {"username": "nasa"},
    ("POST", "/api/instagram/download"): {"storyId": "3411111111111111111"},
    ("POST", "/api/watches"): {
        "username": "nasa",
        "every": "15m",
        "webhookUrl": "https://example.com/hook",
    },
    ("POST", BATCH): {"usernames": ["nasa"]},
    ("POST", "/keys"): {"name": "one more"},
    ("POST", "/auth/password"): {"current": "not the password", "new": "another password"},
    ("POST", "/api/webhooks/replay"): {"since": "2026-01-01T00:00:00Z"},
    ("POST", "/api/webhooks/test"): {"url": "https://example.com/hook"},
    ("POST", "/auth/login"): {"email": "me@example.com", "password": PASSWORD},
    ("POST", "/auth/register"): {"email": "new@example.com", "password": PASSWORD},
}

RAW_USER = {"pk": 528817151, "id": "528817151", "username": "nasa", "fbid_v2": 17841400660070000}
RAW_REEL = {
    "id": 528817151,
    "latest_reel_media": 1760000000,
    "user": {**RAW_USER, "is_private": False, "friendship": {"following": None}},
    "media_ids": [3411111111111111111, 3422222222222222222],
    "items": [
        {
            "pk": 3411111111111111111,
            "id": "3411111111111111111_528817151",
            "taken_at": 1760000000,
            "expiring_at": 1760086400,
            "media_type": 2,
            "strong_id__": 3411111111111111111,
            "caption": None,
            "accessibility_caption": "Ünïcödé \U0001f680",
            "video_duration": 14.966,
            "video_versions": [{"id": 17, "type": 101, "width": 720, "url": "https://cdn.example/v.mp4?a=1&b=2"}],
            "image_versions2": {"candidates": [{"width": 1080, "height": 1920, "url": "https://cdn.example/i.jpg"}]},
            "reel_mentions": [{"x": 0.5, "user": {"pk": 7, "profile_pic_id": 99}, "display_type": "mention"}],
            "story_cta": [],
            "has_audio": True,
        }
    ],
}  # fmt: skip
# The same, written out by hand: ids are strings, nothing else has changed.
CLEAN_REEL = {
    "id": "528817151",
    "latest_reel_media": 1760000000,
    "user": {
        "pk": "528817151",
        "id": "528817151",
        "username": "nasa",
        "fbid_v2": "17841400660070000",
        "is_private": False,
        "friendship": {"following": None},
    },
    "media_ids": ["3411111111111111111", "3422222222222222222"],
    "items": [
        {
            "pk": "3411111111111111111",
            "id": "3411111111111111111_528817151",
            "taken_at": 1760000000,
            "expiring_at": 1760086400,
            "media_type": 2,
            "strong_id__": "3411111111111111111",
            "caption": None,
            "accessibility_caption": "Ünïcödé \U0001f680",
            "video_duration": 14.966,
            "video_versions": [
                {"id": "17", "type": 101, "width": 720, "url": "https://cdn.example/v.mp4?a=1&b=2"}
            ],
            "image_versions2": {
                "candidates": [{"width": 1080, "height": 1920, "url": "https://cdn.example/i.jpg"}]
            },
            "reel_mentions": [
                {"x": 0.5, "user": {"pk": "7", "profile_pic_id": "99"}, "display_type": "mention"}
            ],
            "story_cta": [],
            "has_audio": True,
        }
    ],
}

FOUND = reel_found("528817151", RAW_USER, RAW_REEL)
EMPTY = reel_found("528817151", RAW_USER, None)


class FakeSource(StoriesByName):
    """An upstream that gives one answer, and remembers whom it was asked for."""

    name = "fake"

    def __init__(self, answer: Found | Exception = FOUND) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def stories(self, username: str) -> Found:
        self.asked.append(username)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def reels(self, usernames: Sequence[str], go_on: GoOn = always) -> dict[str, Found | FetchError]:
        return {}  # each is asked for alone


@dataclass(frozen=True)
class Caller:
    """An account, and what it calls with."""

    account: Account
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


@dataclass(frozen=True)
class Front:
    """An app, its parts, and two accounts of it."""

    app: Flask
    settings: Settings
    services: Services
    queue: RecordingQueue
    redis: Redis
    me: Caller
    other: Caller

    @property
    def client(self) -> FlaskClient:
        return self.app.test_client()

    def call(self, method: str, path: str, *, by: Caller | None = None, **options: Any) -> TestResponse:
        """Call a route as ``me``; headers given win over the credential."""
        headers = {**(by or self.me).headers, **options.pop("headers", {})}
        return self.client.open(path, method=method, headers=headers, **options)

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.call("GET", path, **options)

    def stories(self, username: str = "nasa", *, prefer: str = "", **options: Any) -> TestResponse:
        # Anew each time: what was fetched for one test's request must not end another.
        body = {"username": username, "maxAge": 0, **options.pop("fields", {})}
        headers = {"Prefer": prefer} if prefer else {}
        return self.call("POST", STORIES, json=body, headers=headers, **options)

    def accept(self, username: str = "nasa", **options: Any) -> str:
        """Hand a request in that nobody waits for; return its id."""
        response = self.stories(username, prefer="respond-async", **options)
        assert response.status_code == 202, response.text
        return response.json["requestId"]

    def work(self, request_id: str, answer: Found | Exception = FOUND) -> None:
        scrape.run(self.services, FakeSource(answer), request_id)

    def ended(self, username: str = "nasa", answer: Found | Exception = FOUND, **options: Any) -> str:
        """Hand a request in and end it; return its id."""
        request_id = self.accept(username, **options)
        self.work(request_id, answer)
        return request_id

    def stored(self) -> dict[str, Any]:
        """Return what the store holds, without shared reels and the marks of a call that started no work.

        Nor that workers were called: that ends by itself within a second.
        """
        return {
            name: contents(self.redis, name)
            for name in sorted(self.redis.scan_iter(count=1000))
            if ":rate:" not in name and not name.startswith(("{login}:", "g:key:", "{f:", BULK_CALLED))
        }

    def available(self, caller: Caller | None = None) -> int:
        return self.services.credits.balance((caller or self.me).account.account_id).available

    @contextmanager
    def working(
        self, answer: Found | Exception = FOUND, *, source: Source | None = None
    ) -> Iterator[FakeSource]:
        """Play the worker: run whatever is published, in a thread, until the block is left.

        It asks ``source``, or one that gives the ``answer``, which is returned.
        """
        fake = FakeSource(answer)
        stop = threading.Event()
        failures: list[BaseException] = []
        thread = threading.Thread(target=self._work_off, args=(source or fake, stop, failures), daemon=True)
        thread.start()
        try:
            yield fake
        finally:
            stop.set()
            thread.join(60)
        assert not failures, failures

    def _work_off(self, source: Source, stop: threading.Event, failures: list[BaseException]) -> None:
        done = 0
        try:
            while not stop.wait(0.002):
                jobs = self.queue.published[done:]
                done += len(jobs)
                for task, _, *rest in jobs:
                    if task == "scrape":
                        scrape.run(self.services, source, rest[0])
                    elif task == "gather":
                        gather.run(self.services, source, Places(1), stop.is_set)
        except BaseException as error:  # noqa: BLE001 - told to the test
            failures.append(error)


def make_front(
    settings: Settings,
    redis: Redis,
    queue: RecordingQueue,
    *,
    sync_waiters: int | None = None,
    metrics_token: str = "",
    media: MediaFiles | None = None,
    **policy: object,
) -> Front:
    """Build a front end with parts of the settings, the services and the policy changed."""
    settings = replace(
        settings, sync_waiters=sync_waiters or settings.sync_waiters, metrics_token=metrics_token
    )
    services = make_services(settings, redis, queue, **policy)
    services = replace(services, media=media or services.media)
    app = create_app(settings, services)
    me, other = (make_caller(services, f"{name}@example.com") for name in ("me", "other"))
    return Front(app, settings, services, queue, redis, me, other)


def make_caller(services: Services, email: str, credits: int = CREDITS) -> Caller:
    account = services.accounts.create(email, PASSWORD_HASH)
    if credits:
        services.credits.add(account.account_id, credits, entry_type="topup", note="for the test")
    key, _ = create_key(services, account.account_id, name="test")
    return Caller(account, key)


def contents(redis: Redis, name: str) -> Any:
    readers: dict[str, Callable[[str], Any]] = {
        "hash": redis.hgetall,
        "set": lambda key: sorted(redis.smembers(key)),
        "zset": lambda key: redis.zrange(key, 0, -1, withscores=True),
        "stream": redis.xrange,
        "list": lambda key: redis.lrange(key, 0, -1),
        "string": redis.dump,
    }
    return readers[str(redis.type(name))](name)


def assert_error(
    response: TestResponse, status: int, code: str, fields: set[str] | None = None
) -> dict[str, Any]:
    """Check the whole envelope of an error, and return it. ``fields`` are what its details name."""
    assert response.status_code == status, response.text
    assert response.content_type == JSON
    body: dict[str, Any] = response.json
    assert body["success"] is False
    assert body["status"] == "failed"
    assert body["code"] == code
    assert_sentence(body["error"])
    assert body["requestId"]
    assert body["requestId"] == response.headers["X-Request-Id"]
    assert set(body) == {"success", "requestId", "status", "error", "code"} | (
        {"details"} if fields else set()
    )
    if fields:
        assert set(body["details"]) == fields
        for sentences in body["details"].values():
            assert isinstance(sentences, list)
            for sentence in sentences:
                assert_sentence(sentence)
    if status in (429, 503):
        assert int(response.headers["Retry-After"]) > 0
    if status == 401:
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    return body


def assert_sentence(text: str) -> None:
    assert isinstance(text, str)
    assert text[0].isupper(), text
    assert text.endswith("."), text


class Timer:
    """How long a block took."""

    def __enter__(self) -> Timer:
        self._start = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._start


def failing(error: type[FetchError], **options: Any) -> FetchError:
    """Return an upstream's failure that no worker tries again."""
    return error(retry=Retry.NEVER, **options)


def in_threads(work: Any, call: Callable[..., Any]) -> list[Any]:
    """Call in one thread for each item (or ``work`` times without an argument), all at once."""
    arguments: list[tuple[Any, ...]] = [()] * work if isinstance(work, int) else [(item,) for item in work]
    barrier = threading.Barrier(len(arguments))
    results: list[Any] = [None] * len(arguments)

    def run(index: int) -> None:
        barrier.wait(60)
        results[index] = call(*arguments[index])

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(arguments))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def fake_store() -> Redis:
    return fakeredis.FakeRedis(decode_responses=True, protocol=2)
