"""The pool of Instagram sessions and the cache of ids, on the fake store and on a real one."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter

import fakeredis
import pytest
from cryptography.fernet import Fernet, MultiFernet
from redis import Redis

from service.domain.errors import NotFound, SessionVerdict, StoreUnavailable, ValidationFailed
from service.domain.instagram import (
    NOT_FOUND,
    Known,
    Leased,
    SessionState,
    Unavailable,
    settings_from_sessionid,
)
from service.stores.connection import nodes
from service.stores.instagram_ids import InstagramIds
from service.stores.instagram_sessions import LEASES, READY, InstagramSessions

SETTINGS = settings_from_sessionid("42%3Aabcdefghijklmno%3A7")
OTHER = settings_from_sessionid("42%3Aqrstuvwxyzabcde%3A8")
REST = SessionVerdict("throttled", rest_seconds=100)
TAG_KEY = b"k" * 32
QUARANTINE = SessionVerdict("challenge", quarantine=True)


@pytest.fixture
def store(redis: Redis) -> Redis:
    return redis


@pytest.fixture
def fernet() -> Fernet:
    return Fernet(Fernet.generate_key())


@pytest.fixture
def pool(store: Redis, fernet: Fernet) -> InstagramSessions:
    return InstagramSessions(store, fernet, TAG_KEY)


def take(pool: InstagramSessions, seconds: float = 60) -> Leased:
    leased = pool.lease(seconds)
    assert isinstance(leased, Leased)
    return leased


def none_free(pool: InstagramSessions) -> Unavailable:
    answer = pool.lease(60)
    assert isinstance(answer, Unavailable)
    return answer


def end_rest(store: Redis, name: str) -> None:
    """Let the time of a rest or lease pass at once."""
    store.zadd(READY, {name: 1})
    store.hset(f"{{ig}}:session:{name}", "rested_until", 1)


# --- adding and looking --------------------------------------------------------------------------


def test_added_session_is_leased_with_its_secrets(pool: InstagramSessions) -> None:
    version = pool.add("anna", SETTINGS, "http://user:pass@proxy:8080")
    leased = take(pool)
    assert (leased.name, leased.settings, leased.version) == ("anna", SETTINGS, version)
    assert leased.proxy == "http://user:pass@proxy:8080"


def test_records_show_no_secret(pool: InstagramSessions) -> None:
    pool.add("anna", SETTINGS, "http://user:pass@proxy:8080")
    pool.add("ben", SETTINGS)
    anna, ben = pool.list()
    assert (anna.name, anna.state, anna.has_proxy, anna.leased) == ("anna", SessionState.ACTIVE, True, False)
    assert (ben.name, ben.has_proxy, ben.uses, ben.last_used) == ("ben", False, 0, 0)
    assert anna.added_at > 0
    assert "abcdef" not in repr(anna)
    assert "pass" not in repr(anna)
    assert "abcdef" not in repr(take(pool))


def test_secrets_are_encrypted_at_rest(pool: InstagramSessions, store: Redis) -> None:
    pool.add("anna", SETTINGS, "http://user:pass@proxy:8080")
    stored = json.dumps(store.hgetall("{ig}:session:anna"))
    assert "abcdefghijklmno" not in stored
    assert "proxy:8080" not in stored


def test_all_keys_share_one_slot(pool: InstagramSessions, store: Redis) -> None:
    pool.add("anna", SETTINGS)
    pool.release(take(pool), REST)
    InstagramIds(store).put("anna", "1")
    assert all(str(key).startswith("{ig}:") for key in store.scan_iter())


@pytest.mark.parametrize("name", ["", "-x", "a b", "a:b", "x" * 65, "{ig}", "a\n"])
def test_bad_names_are_refused(pool: InstagramSessions, name: str) -> None:
    with pytest.raises(ValidationFailed):
        pool.add(name, SETTINGS)


@pytest.mark.parametrize(
    "settings", [{}, {"cookies": {}}, {"authorization_data": {"sessionid": ""}}, {"cookies": 1}]
)
def test_settings_without_a_login_are_refused(pool: InstagramSessions, settings: dict[str, object]) -> None:
    with pytest.raises(ValidationFailed):
        pool.add("anna", settings)


@pytest.mark.parametrize("sessionid", ["42%3Aabcdefghijklmno%3A7", " 42:abcdefghijklmno:7\n"])
def test_a_sessionid_makes_settings(sessionid: str) -> None:
    assert settings_from_sessionid(sessionid)["authorization_data"] == {
        "ds_user_id": "42",
        "sessionid": "42%3Aabcdefghijklmno%3A7",
        "should_use_header_over_cookies": True,
    }


@pytest.mark.parametrize("sessionid", ["", "42", "abc%3Aabcdefghijklmno", "42%3A", "%3A42abcdefghijklmno"])
def test_what_is_no_sessionid_is_refused(sessionid: str) -> None:
    with pytest.raises(ValidationFailed):
        settings_from_sessionid(sessionid)


def test_unknown_names(pool: InstagramSessions) -> None:
    for call in (pool.get, pool.remove, pool.quarantine, pool.resume, lambda name: pool.rest(name, 5)):
        with pytest.raises(NotFound):
            call("nobody")
    assert list(pool.list()) == []


def test_removed_session_is_gone(pool: InstagramSessions, store: Redis) -> None:
    pool.add("anna", SETTINGS)
    pool.remove("anna")
    assert none_free(pool) == Unavailable(retry_in=None, busy=0)
    assert list(pool.list()) == []
    assert store.keys("{ig}:session:*") == []


# --- leasing -------------------------------------------------------------------------------------


def test_never_used_come_first_then_least_recently_used(pool: InstagramSessions) -> None:
    for name in ("anna", "ben"):
        pool.add(name, SETTINGS)
    first = take(pool)
    pool.release(first)
    second = take(pool)
    pool.release(second)
    assert {first.name, second.name} == {"anna", "ben"}
    pool.add("cleo", SETTINGS)
    third = take(pool)
    assert third.name == "cleo"
    assert take(pool).name == first.name


def test_leased_session_is_not_leased_again(pool: InstagramSessions) -> None:
    pool.add("anna", SETTINGS)
    leased = take(pool)
    assert pool.get("anna").leased
    answer = none_free(pool)
    assert answer.busy == 1
    assert 0 < (answer.retry_in or 0) <= 60
    assert pool.release(leased) == leased.version
    assert not pool.get("anna").leased
    assert pool.get("anna").uses == 1
    assert pool.get("anna").last_used > 0
    take(pool)


def test_lease_that_ran_out_is_taken_and_the_stale_release_changes_nothing(pool: InstagramSessions) -> None:
    pool.add("anna", SETTINGS)
    stale = take(pool, 0.02)
    deadline = time.monotonic() + 60
    while isinstance(fresh := pool.lease(60), Unavailable):
        assert time.monotonic() < deadline
    assert pool.release(stale, QUARANTINE, OTHER) is None
    record = pool.get("anna")
    assert (record.state, record.leased, record.uses) == (SessionState.ACTIVE, True, 0)
    assert pool.release(fresh) == fresh.version
    assert take(pool).settings == SETTINGS


def test_release_works_once(pool: InstagramSessions) -> None:
    pool.add("anna", SETTINGS)
    leased = take(pool)
    pool.release(leased)
    again = take(pool)
    assert pool.release(leased, QUARANTINE) is None
    assert pool.get("anna").state is SessionState.ACTIVE
    assert pool.release(again) is not None


def test_changed_settings_are_kept_under_a_new_version(pool: InstagramSessions) -> None:
    pool.add("anna", SETTINGS, "http://proxy:1")
    leased = take(pool)
    version = pool.release(leased, None, OTHER)
    again = take(pool)
    assert version == again.version != leased.version
    assert (again.settings, again.proxy) == (OTHER, "http://proxy:1")


# --- verdicts ------------------------------------------------------------------------------------


def test_rest_ends_by_itself(pool: InstagramSessions, store: Redis) -> None:
    pool.add("anna", SETTINGS)
    pool.release(take(pool), REST)
    record = pool.get("anna")
    assert (record.state, record.reason, record.failure) == (SessionState.RESTING, "throttled", "throttled")
    assert 90_000 < record.rested_until - record.last_used <= 100_000
    answer = none_free(pool)
    assert answer.busy == 0
    assert 50 < (answer.retry_in or 0) <= 100
    end_rest(store, "anna")
    assert (pool.get("anna").state, pool.get("anna").reason) == (SessionState.ACTIVE, "")
    pool.release(take(pool))
    assert (pool.get("anna").state, pool.get("anna").failure) == (SessionState.ACTIVE, "")


def test_quarantine_lasts_until_resumed(pool: InstagramSessions) -> None:
    pool.add("anna", SETTINGS)
    pool.release(take(pool), QUARANTINE)
    assert (pool.get("anna").state, pool.get("anna").reason) == (SessionState.QUARANTINED, "challenge")
    assert none_free(pool) == Unavailable(retry_in=None, busy=0)
    pool.resume("anna")
    assert (pool.get("anna").state, pool.get("anna").reason) == (SessionState.ACTIVE, "")
    take(pool)


def test_failures_in_a_row_are_counted(pool: InstagramSessions) -> None:
    pool.add("anna", SETTINGS)
    for count in range(3):
        leased = take(pool)
        assert (leased.failure, leased.failures) == ("html" if count else "", count)
        pool.release(leased, SessionVerdict("html"))
    pool.release(take(pool), SessionVerdict("network"))
    assert (pool.get("anna").failure, pool.get("anna").failures) == ("network", 1)
    assert pool.get("anna").state is SessionState.ACTIVE
    pool.release(take(pool))
    assert (pool.get("anna").failure, pool.get("anna").failures) == ("", 0)


def test_adding_again_replaces_the_secret_and_reactivates(pool: InstagramSessions) -> None:
    first = pool.add("anna", SETTINGS, "http://proxy:1")
    pool.release(take(pool), QUARANTINE)
    second = pool.add("anna", OTHER)
    record = pool.get("anna")
    assert (record.state, record.reason, record.failure, record.uses) == (SessionState.ACTIVE, "", "", 1)
    leased = take(pool)
    assert (leased.settings, leased.proxy, leased.version) == (OTHER, None, second)
    assert second != first


def test_versions_are_not_reused_after_a_removal(pool: InstagramSessions) -> None:
    first = pool.add("anna", SETTINGS)
    pool.remove("anna")
    assert pool.add("anna", OTHER) != first


# --- by hand, while a worker holds it ------------------------------------------------------------


def test_adding_again_while_held_gives_no_second_holder(pool: InstagramSessions) -> None:
    pool.add("anna", SETTINGS)
    held = take(pool)
    version = pool.add("anna", OTHER)
    assert none_free(pool).busy == 1
    assert pool.release(held, QUARANTINE, SETTINGS) is None
    assert pool.get("anna").state is SessionState.ACTIVE
    leased = take(pool)
    assert (leased.settings, leased.version) == (OTHER, version)


def test_removing_and_adding_while_held_gives_no_second_holder(pool: InstagramSessions) -> None:
    pool.add("anna", SETTINGS)
    held = take(pool)
    pool.remove("anna")
    pool.add("anna", OTHER)
    assert none_free(pool).busy == 1
    assert pool.release(held, QUARANTINE) is None
    assert take(pool).settings == OTHER


def test_removed_while_held(pool: InstagramSessions, store: Redis) -> None:
    pool.add("anna", SETTINGS)
    held = take(pool)
    pool.remove("anna")
    assert pool.release(held, REST, OTHER) is None
    assert store.keys("{ig}:session:*") == []
    assert store.hlen(LEASES) == 0


def test_rested_by_hand_while_held_stays_rested(pool: InstagramSessions) -> None:
    pool.add("anna", SETTINGS)
    held = take(pool)
    pool.rest("anna", 500, "holiday")
    pool.release(held, REST)
    record = pool.get("anna")
    assert (record.state, record.reason) == (SessionState.RESTING, "holiday")
    assert (none_free(pool).retry_in or 0) > 400


def test_quarantined_by_hand_while_held_stays_so(pool: InstagramSessions) -> None:
    pool.add("anna", SETTINGS)
    held = take(pool)
    pool.quarantine("anna", "suspicious")
    pool.release(held)
    assert (pool.get("anna").state, pool.get("anna").reason) == (SessionState.QUARANTINED, "suspicious")
    assert none_free(pool) == Unavailable(retry_in=None, busy=0)


def test_resumed_while_held_gives_no_second_holder(pool: InstagramSessions) -> None:
    pool.add("anna", SETTINGS)
    held = take(pool)
    pool.quarantine("anna")
    pool.resume("anna")
    assert none_free(pool).busy == 1
    pool.release(held)
    take(pool)


# --- keys and outages ----------------------------------------------------------------------------


def test_unreadable_secret_is_quarantined_and_the_next_one_taken(
    pool: InstagramSessions, store: Redis
) -> None:
    pool.add("anna", SETTINGS)
    pool.add("ben", SETTINGS)
    stranger = InstagramSessions(store, Fernet(Fernet.generate_key()), TAG_KEY)
    stranger.add("anna", SETTINGS)
    leased = take(pool)
    assert leased.name == "ben"
    assert (pool.get("anna").state, pool.get("anna").reason) == (
        SessionState.QUARANTINED,
        "unreadable_secret",
    )


def test_key_rotation(pool: InstagramSessions, store: Redis, fernet: Fernet) -> None:
    pool.add("anna", SETTINGS)
    rotated = InstagramSessions(store, MultiFernet([Fernet(Fernet.generate_key()), fernet]), TAG_KEY)
    assert take(rotated).settings == SETTINGS


def test_scripts_survive_a_flush(pool: InstagramSessions, store: Redis) -> None:
    pool.add("anna", SETTINGS)
    store.script_flush()
    pool.release(take(pool))


def test_outage_is_told() -> None:
    with Redis(port=1, socket_connect_timeout=0.2, decode_responses=True) as nowhere:
        pool = InstagramSessions(nowhere, Fernet(Fernet.generate_key()), TAG_KEY)
        with pytest.raises(StoreUnavailable):
            pool.lease(1)


# --- concurrency ---------------------------------------------------------------------------------


def test_twenty_threads_four_sessions_never_two_holders(pool: InstagramSessions) -> None:
    for number in range(4):
        pool.add(f"s{number}", SETTINGS)
    held: Counter[str] = Counter()
    done: Counter[str] = Counter()
    wrong: list[str] = []
    lock = threading.Lock()
    stop = time.monotonic() + 1.5

    def work() -> None:
        # On a busy machine the time may be up before each has had its turn.
        while time.monotonic() < stop or len(done) < 4:
            leased = pool.lease(30)
            if isinstance(leased, Unavailable):
                continue
            with lock:
                held[leased.name] += 1
                done[leased.name] += 1
                if held[leased.name] > 1:
                    wrong.append(leased.name)
            time.sleep(0)  # lets other threads in
            with lock:
                held[leased.name] -= 1
            if pool.release(leased, None, SETTINGS if done[leased.name] % 3 else None) is None:
                wrong.append(f"{leased.name} was taken away")

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not wrong
    assert set(done) == {"s0", "s1", "s2", "s3"}
    assert {record.name: record.uses for record in pool.list()} == dict(done)


# --- ids -----------------------------------------------------------------------------------------


USER = {"pk": 787132, "username": "anna", "full_name": "Anna \ud83d", "is_private": False}


def test_ids_are_remembered_without_case(store: Redis) -> None:
    ids = InstagramIds(store, days=2)
    assert ids.get("anna") is None
    ids.put("Anna", "787132")
    assert ids.get("aNNa") == Known("787132")
    assert 172_000 < store.ttl("{ig}:uid:anna") <= 172_800
    ids.forget("ANNA")
    assert ids.get("anna") is None


def test_missing_names_are_remembered_for_minutes(store: Redis) -> None:
    ids = InstagramIds(store, missing_seconds=120)
    ids.put_missing("nobody")
    assert ids.get("nobody") is NOT_FOUND
    assert 0 < store.ttl("{ig}:uid:nobody") <= 120
    ids.put("nobody", "5")
    assert ids.get("nobody") == Known("5")


def test_how_an_account_was_seen_is_remembered_for_hours(store: Redis) -> None:
    ids = InstagramIds(store, seen_seconds=7_200)
    ids.put("Anna", "787132", USER)
    assert ids.get("anna") == Known("787132", USER)
    assert 7_100 < store.ttl("{ig}:seen:anna") <= 7_200
    store.delete("{ig}:seen:anna")
    assert ids.get("anna") == Known("787132")


@pytest.mark.parametrize("how", ["put", "put_missing", "forget"])
def test_what_is_learnt_anew_replaces_how_it_was_seen(store: Redis, how: str) -> None:
    ids = InstagramIds(store)
    ids.put("anna", "787132", USER)
    getattr(ids, how)("Anna", *(["5"] if how == "put" else []))
    assert not store.exists("{ig}:seen:anna")


def test_nothing_of_how_it_was_seen_is_kept_when_that_is_not_wanted(store: Redis) -> None:
    ids = InstagramIds(store, seen_seconds=0)
    ids.put("anna", "787132", USER)
    assert ids.get("anna") == Known("787132")


def test_many_are_looked_for_in_one_step_and_come_in_order(store: Redis) -> None:
    ids = InstagramIds(store)
    ids.put_many({"Anna": Known("1", USER), "bert": Known("2")})
    ids.put_missing("carl")
    calls = _commands(store)
    names = ["nobody", "BERT", "carl", "anna", "bert"]
    assert ids.get_many(names) == [None, Known("2"), NOT_FOUND, Known("1", USER), Known("2")]
    if calls is not None:
        assert _commands(store) == {**calls, "mget": calls.get("mget", 0) + 1}
    assert ids.get_many([]) == []


def test_how_the_account_of_an_id_was_seen_is_remembered_for_hours(store: Redis) -> None:
    ids = InstagramIds(store, seen_seconds=7_200, missing_seconds=120)
    assert ids.get_seen("787132") is None
    ids.put_seen("787132", USER)
    assert ids.get_seen("787132") == USER
    assert 7_100 < store.ttl("{ig}:seen:id:787132") <= 7_200
    ids.put_seen("787132", NOT_FOUND)
    assert ids.get_seen("787132") is NOT_FOUND
    assert 0 < store.ttl("{ig}:seen:id:787132") <= 120
    ids.put_seen("787132", None)
    assert ids.get_seen("787132") is None
    assert ids.get("787132") is None, "a name of digits is another thing"


def test_nothing_of_how_an_id_was_seen_is_kept_when_that_is_not_wanted(store: Redis) -> None:
    ids = InstagramIds(store, seen_seconds=0)
    ids.put_seen("787132", NOT_FOUND)
    ids.put_seen("787132", USER)
    assert ids.get_seen("787132") is None


def test_what_an_earlier_version_wrote_is_read(store: Redis) -> None:
    store.set("{ig}:uid:anna", '{"id": "787132"}')
    store.set("{ig}:uid:bert", '{"id": null}')
    assert InstagramIds(store).get_many(["anna", "bert"]) == [Known("787132"), NOT_FOUND]


def _commands(store: Redis) -> dict[str, int] | None:
    """How often the server was asked what; None of a fake one."""
    if isinstance(store, fakeredis.FakeRedis):
        return None
    counts: Counter[str] = Counter()
    for node in nodes(store):
        for name, each in node.info("commandstats").items():
            counts[name.removeprefix("cmdstat_")] += each["calls"]
    return {name: count for name, count in counts.items() if name != "info"}
