"""Front ends to call: one over each store, one to be shared by tables of cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from redis import Redis

from service import config
from service.config import Settings
from tests.api.support import Front, QuickPasswords, fake_store, make_front
from tests.conftest import SECRET, SHARDS, RecordingQueue


@pytest.fixture(scope="package", autouse=True)
def quick_passwords() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.bootstrap.Passwords", QuickPasswords)
        yield


@pytest.fixture
def make(settings: Settings, redis: Redis, queue: RecordingQueue) -> Callable[..., Front]:
    """Make a front end over a fake, then over a real store, with parts of its policy changed."""
    return lambda **changes: make_front(settings, redis, queue, **changes)


@pytest.fixture
def front(make: Callable[..., Front]) -> Front:
    """A front end over a fake, then over a real store."""
    return make()


@pytest.fixture
def real(settings: Settings, valkey: Redis, queue: RecordingQueue) -> Front:
    """A front end over a real store only."""
    return make_front(settings, valkey, queue)


@pytest.fixture
def quick(settings: Settings, queue: RecordingQueue) -> Callable[..., Front]:
    """Make a front end over a fake store only, where a real one would show nothing more."""
    return lambda **changes: make_front(settings, fake_store(), queue, **changes)


@pytest.fixture(scope="module")
def table() -> Front:
    """One front end over a fake store for all cases of a module that are to leave no trace."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "ENVIRONMENT": "development",
            "SECRET_KEY": SECRET,
            "WEBHOOK_ALLOW": "127.0.0.0/8,localhost",
            "SHARDS": str(SHARDS),
            "RATE_LIMITS": "",
        }.items():
            patch.setenv(name, value)
        settings = config.load()
    return make_front(settings, fake_store(), RecordingQueue())
