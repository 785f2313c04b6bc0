"""The pool as workers see it: waiting, giving back, keeping clients and settings."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from instagrapi import Client
from redis import Redis

from service.domain.errors import (
    Retry,
    SessionVerdict,
    StoreUnavailable,
    UpstreamBlocked,
    UpstreamTimeout,
    UserNotFound,
)
from service.domain.instagram import Leased, SessionState, settings_from_sessionid
from service.stores.instagram_sessions import READY, InstagramSessions
from workers.sources.accounts import OURS, SessionPool, changed_settings, client_factory

LOGIN = settings_from_sessionid("9001%3Aabcdefghijklmno%3A7")
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def world(make_world: Callable[..., Any]) -> Any:
    return make_world(NOWHERE)


def use(pool: SessionPool, error: Exception | None = None) -> Client:
    """Borrow a client and give it back, with an error or well; return it."""
    borrowed: list[Client] = []
    try:
        with pool.client() as lent:
            borrowed.append(lent.client)
            if error is not None:
                raise error
    except Exception as raised:
        if raised is not error:
            raise
    return borrowed[0]


# --- clients and settings ------------------------------------------------------------------------


def test_a_client_neither_sleeps_nor_retries_nor_asks() -> None:
    saved = {**LOGIN, "request_timeout": 1, "session_retry_total": 3, "private_transport": "requests",
             "public_request_retries_count": 3, "tls_verify": False}  # fmt: skip
    client = client_factory()(saved, "http://127.0.0.1:9")
    assert client.request_timeout == 0
    assert client.session_retry_total == 0
    assert client.public_request_retries_count == 1
    assert client.with_challenge_flow is False
    assert client.private_transport == "curl"
    assert client.private.verify is True
    assert client.private.proxies["https"] == "http://127.0.0.1:9"
    assert str(client.user_id) == "9001"


def test_the_client_is_kept(world: Any) -> None:
    first = use(world.pool)
    assert use(world.pool) is first
    assert use(world.pool, UpstreamTimeout()) is first
    assert use(world.pool) is first
    assert len(world.built) == 1


def test_the_client_is_rebuilt_for_a_new_secret(world: Any) -> None:
    first = use(world.pool)
    world.sessions.add("s1", settings_from_sessionid("9009%3Aabcdefghijklmno%3A7"))
    second = use(world.pool)
    assert second is not first
    assert str(second.user_id) == "9009"


def test_the_client_of_a_secret_replaced_while_it_is_held_is_dropped(world: Any) -> None:
    with world.pool.client() as lent:
        lent.client.mid = "Zx1"
        world.sessions.add("s1", settings_from_sessionid("9009%3Aabcdefghijklmno%3A7"))
    again = use(world.pool)
    assert str(again.user_id) == "9009"
    assert again.mid != "Zx1"


def test_the_client_is_dropped_in_quarantine_and_its_settings_are_not_kept(world: Any) -> None:
    first = use(world.pool)
    first.authorization_data = {}
    use(world.pool, UpstreamBlocked(verdict=SessionVerdict("challenge", quarantine=True)))
    world.sessions.resume("s1")
    again = use(world.pool)
    assert str(again.user_id) == "9001"
    assert len(world.built) == 2


def test_the_device_is_kept_from_the_first_use_on(
    make_world: Callable[..., Any], sessions: InstagramSessions
) -> None:
    """Settings made of a sessionid have no device; the one that was made up must stay."""
    first = use(make_world(NOWHERE).pool)
    stored = sessions.lease(1)
    assert isinstance(stored, Leased)
    assert stored.settings["uuids"]["uuid"] == first.uuid
    assert stored.settings["device_settings"] == first.device_settings
    assert not OURS & stored.settings.keys()
    sessions.release(stored)
    other_process = SessionPool(sessions, client_factory(redirect_to=NOWHERE))
    assert use(other_process).uuid == first.uuid
    assert sessions.get("s1").version == stored.version


def test_the_device_is_kept_even_if_the_first_use_fails(world: Any, sessions: InstagramSessions) -> None:
    first = use(world.pool, UpstreamTimeout(verdict=SessionVerdict("timeout")))
    stored = sessions.lease(1)
    assert isinstance(stored, Leased)
    assert stored.settings["uuids"]["uuid"] == first.uuid


def test_changes_worth_keeping(world: Any) -> None:
    client = use(world.pool)
    version = world.session().version
    for change in (
        lambda: setattr(client, "mid", "Zx1"),
        lambda: client.set_ig_www_claim("hmac.AR2"),
        lambda: client.private.cookies.set("csrftoken", "t0ken"),
    ):
        change()
        assert use(world.pool) is client
        assert world.session().version > version
        version = world.session().version


def test_noise_is_not_kept(world: Any) -> None:
    client = use(world.pool)
    version = world.session().version
    for change in (
        lambda: client.set_ig_u_rur("CLN,9001,1"),
        lambda: client.private.cookies.set("rur", "CLN"),
        lambda: setattr(client, "request_id", "r"),
        lambda: setattr(client, "tray_session_id", "t"),
        lambda: setattr(client, "client_session_id", "c"),
        lambda: setattr(client, "last_login", 1.5),
    ):
        change()
        assert use(world.pool) is client
        assert world.session().version == version
    assert changed_settings(client.get_settings(), client) is None


def test_unusable_settings_are_quarantined(sessions: InstagramSessions) -> None:
    def broken(settings: dict[str, Any], proxy: str | None) -> Any:
        raise AssertionError("Proxy must been string")

    sessions.add("s1", LOGIN)
    with pytest.raises(UpstreamBlocked) as caught, SessionPool(sessions, broken).client():
        pass
    assert caught.value.retry is Retry.ELSEWHERE
    assert (sessions.get("s1").state, sessions.get("s1").reason) == (
        SessionState.QUARANTINED,
        "unusable_settings",
    )


# --- giving back ---------------------------------------------------------------------------------


def test_a_final_answer_leaves_the_session_active(world: Any) -> None:
    use(world.pool, UserNotFound())
    assert (world.session().state, world.session().leased, world.session().uses) == (
        SessionState.ACTIVE,
        False,
        1,
    )


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_any_other_end_frees_the_session_and_drops_the_client(world: Any, error: type[BaseException]) -> None:
    with pytest.raises(error), world.pool.client():
        raise error
    assert not world.session().leased
    use(world.pool)
    assert len(world.built) == 2


def test_a_lost_lease_drops_the_client(make_world: Callable[..., Any], store: Redis) -> None:
    world = make_world(NOWHERE)
    use(world.pool)
    with world.pool.client() as late:
        store.zadd(READY, {"s1": 1})  # the lease runs out
        late.client.mid = "Zx1"
        with world.pool.client() as other:
            assert other.client is not late.client
    assert use(world.pool) is other.client


# --- waiting -------------------------------------------------------------------------------------


def test_an_empty_pool_fails_at_once(sessions: InstagramSessions) -> None:
    pool = SessionPool(sessions, client_factory(), wait_seconds=60)
    started = time.monotonic()
    with pytest.raises(UpstreamBlocked, match="no usable Instagram session") as caught, pool.client():
        pass
    assert time.monotonic() - started < 30
    assert (caught.value.retry, caught.value.retry_after) == (Retry.NEVER, 300)


def test_a_pool_at_rest_fails_at_once(make_world: Callable[..., Any]) -> None:
    world = make_world(NOWHERE, wait_seconds=60)
    world.sessions.rest("s1", 900)
    started = time.monotonic()
    with pytest.raises(UpstreamBlocked) as caught, world.pool.client():
        pass
    assert time.monotonic() - started < 30
    assert 800 < (caught.value.retry_after or 0) <= 900


def test_a_busy_pool_is_waited_for(make_world: Callable[..., Any]) -> None:
    world = make_world(NOWHERE, wait_seconds=60)
    held, waited = threading.Event(), threading.Event()

    def wait() -> None:
        held.wait(30)
        with world.pool.client():
            waited.set()

    thread = threading.Thread(target=wait)
    thread.start()
    with world.pool.client():
        held.set()
        assert not waited.wait(0.1)
    assert waited.wait(30)
    thread.join(timeout=5)


def test_a_busy_pool_is_not_waited_for_forever(make_world: Callable[..., Any]) -> None:
    world = make_world(NOWHERE, wait_seconds=0.1)
    with world.pool.client(), pytest.raises(UpstreamBlocked) as caught, world.pool.client():
        pass
    assert 1 <= (caught.value.retry_after or 0) <= 90


def test_twenty_threads_share_four_sessions(make_world: Callable[..., Any], simulator: str) -> None:
    """Through the real client; nobody ever holds a client that another holds."""
    world = make_world(simulator, accounts=4, wait_seconds=30)
    held: Counter[int] = Counter()
    wrong: list[object] = []
    lock = threading.Lock()

    def work(number: int) -> None:
        try:
            for turn in range(3):
                with world.pool.client() as lent:
                    client = lent.client
                    with lock:
                        held[id(client)] += 1
                        wrong.extend(["shared"] if held[id(client)] > 1 else [])
                    client.private_request(f"users/user{number}x{turn}/usernameinfo/")
                    wrong.extend(
                        [] if client.last_json["user"]["username"] == f"user{number}x{turn}" else ["mixed"]
                    )
                    with lock:
                        held[id(client)] -= 1
        except Exception as error:  # noqa: BLE001 - a thread's error must reach the test
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not wrong
    assert len(world.built) == 4
    assert sum(record.uses for record in world.sessions.list()) == 60


# --- an outage of the store while a session is out ------------------------------------------------


class OutNow:
    """Sessions whose release fails while ``out`` is set, as in an outage of the store."""

    def __init__(self, sessions: InstagramSessions) -> None:
        self._sessions = sessions
        self.out = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sessions, name)

    def release(self, *args: Any) -> int | None:
        if self.out:
            raise StoreUnavailable
        return self._sessions.release(*args)


def test_an_outage_takes_neither_what_was_fetched_nor_the_session(world: Any) -> None:
    sessions = OutNow(world.sessions)
    pool = SessionPool(sessions, client_factory(), wait_seconds=0.2)
    sessions.out = True
    use(pool)  # no error: what came of it is good
    assert world.session().leased
    sessions.out = False
    assert use(pool) is not None, "it was given back before another one was looked for"
    assert not world.session().leased
    assert world.session().uses == 2


def test_a_verdict_met_in_an_outage_is_not_forgotten(world: Any) -> None:
    sessions = OutNow(world.sessions)
    pool = SessionPool(sessions, client_factory(), wait_seconds=0.2)
    sessions.out = True
    use(pool, UpstreamBlocked(verdict=SessionVerdict("challenge", quarantine=True)))
    sessions.out = False
    with pytest.raises(UpstreamBlocked):
        use(pool)
    assert world.session().state == SessionState.QUARANTINED
