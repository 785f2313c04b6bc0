"""Settings: read once, typed, and loud about what is wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from service import config
from service.domain.accounts import Limit
from service.domain.deliveries import DEFAULT_SCHEDULE, longest
from service.domain.errors import ConfigurationError
from service.domain.instagram import Pace
from service.domain.policy import Policy

SECRET = "s" * 32


@pytest.fixture(autouse=True)
def bare_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder without .env, an environment without settings; what a load writes is undone."""
    monkeypatch.chdir(tmp_path)
    with mock.patch.dict(os.environ, {"PATH": os.environ["PATH"], "SECRET_KEY": SECRET}, clear=True):
        yield


def load_with(**environment: str) -> config.Settings:
    os.environ.update(environment)
    return config.load()


def test_a_secret_key_is_all_that_must_be_set() -> None:
    settings = config.load()
    assert settings.is_production
    assert settings.policy.webhook_schedule == DEFAULT_SCHEDULE
    assert settings.policy.rate_limits == (Limit(60, 60), Limit(1000, 3600), Limit(10_000, 86_400))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENVIRONMENT", "staging"), ("PORT", "0"), ("PORT", "65536"), ("PORT", "http"), ("WEB_WORKERS",
        "0"),
        ("SYNC_WAITERS", "0"), ("WORKER_THREADS", "-1"), ("DELIVERER_THREADS", "0"), ("SHARDS", "0"),
        ("SHARDS", "257"), ("SHARDS", "4.5"),
        ("MAX_BODY", "10"), ("LOG_LEVEL", "LOUD"), ("LOG_FORMAT", "xml"), ("TRUSTED_PROXIES", "-1"),
        ("UPSTREAM_CONNECT_TIMEOUT", "0"),
        ("UPSTREAM_READ_TIMEOUT", "soon"), ("UPSTREAM_READ_TIMEOUT", "inf"), ("SESSION_WAIT", "-1"),
        ("ID_TTL", "-1"), ("PRIVACY_TTL", "-1"), ("MISSING_ID_TTL", "x"),
        ("SESSION_CALLS_PER_MINUTE", "2"), ("SESSION_CALLS_PER_HOUR", "-1"), ("PROXY_CALLS_PER_MINUTE", "1"),
        ("PROXY_CALLS_PER_HOUR", "many"), ("UPSTREAM_WAIT", "-1"),
        ("REST_SCALE", "-0.1"), ("WEBHOOK_CONNECT_TIMEOUT", "nan"), ("WEBHOOK_TIMEOUT", "0"),
        ("SYNC_DEADLINE", "-1"),
        ("SYNC_DEADLINE_MAX", "x"), ("RESULT_TTL", "59"), ("LEASE", "0"), ("MAX_ATTEMPTS", "0"),
        ("FETCH_TRIES", "0"), ("REELS_AT_ONCE", "51"), ("PICKUP_GRACE", "0"),
        ("SWEEP_INTERVAL", "0"), ("TOKEN_LIFETIME", "1"), ("ALLOW_SIGNUP", "perhaps"), ("WEBHOOK_SCHEDULE",
        "5,soon"),
        ("PRICES", "not json"), ("PRICES", "[]"), ("PRICES", '{"stories": 1}'),
        ("PRICES", '{"stories": {"found": -1}}'),
        ("PRICES", '{"reels": {}}'), ("WEBHOOK_ALLOW", "10.0.0.0/99"), ("REDIS_URL", "redis://127.0.0.1/one"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        load_with(**{name: value})


DURATIONS = (
    "ARCHIVE_TTL", "ARCHIVE_LINK_TTL", "ARCHIVE_TIMEOUT", "UPSTREAM_CONNECT_TIMEOUT", "UPSTREAM_READ_TIMEOUT",
    "SESSION_WAIT", "ID_TTL", "PRIVACY_TTL", "MISSING_ID_TTL", "WEBHOOK_CONNECT_TIMEOUT", "WEBHOOK_TIMEOUT",
    "SYNC_DEADLINE", "SYNC_DEADLINE_MAX", "RESULT_TTL", "LEASE", "UPSTREAM_WAIT", "PICKUP_GRACE",
    "SWEEP_INTERVAL", "TOKEN_LIFETIME",
)  # fmt: skip
COUNTS = (
    "WEBHOOK_HOST_CONCURRENCY", "MAX_ATTEMPTS", "FETCH_TRIES", "SWEEP_LIMIT", "WATCHES_MOST",
    "SESSION_CALLS_PER_MINUTE", "SESSION_CALLS_PER_HOUR", "PROXY_CALLS_PER_MINUTE", "PROXY_CALLS_PER_HOUR",
)  # fmt: skip


@pytest.mark.parametrize("name", [*DURATIONS, *COUNTS, "REST_SCALE", "ARCHIVE_ITEM_MAX", "WEBHOOK_SCHEDULE"])
@pytest.mark.parametrize("value", [2**53 + 1, 10**30])
def test_a_number_the_store_cannot_count_with_is_refused_by_name(name: str, value: int) -> None:
    with pytest.raises(ConfigurationError, match=name):
        load_with(**{name: str(value)})


@pytest.mark.parametrize("text", [f"{10**30}/minute", f"5/{10**30}s", f"{2**53 + 1}/day", f"1/{2**53 + 1}s"])
def test_a_limit_the_store_cannot_count_with_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="RATE_LIMITS"):
        load_with(RATE_LIMITS=text)


def test_a_price_is_a_million_at_most() -> None:
    prices = load_with(PRICES='{"stories": {"found": 1000000}}').policy.prices.prices
    assert prices["stories"]["found"] == 1_000_000
    for price in ("1000001", "9007199254740993", "1" + "0" * 30, "1.5", "true"):
        with pytest.raises(ConfigurationError, match=r"PRICES: stories\.found"):
            load_with(PRICES=f'{{"stories": {{"found": {price}}}}}')


def test_a_pace_holds_unless_it_is_taken_away() -> None:
    assert config.load().pace == Pace(30, 400, 60, 1_000)
    nothing = dict.fromkeys(["SESSION_CALLS_PER_MINUTE", "SESSION_CALLS_PER_HOUR"], "0")
    assert load_with(**nothing, PROXY_CALLS_PER_MINUTE="3").pace == Pace(0, 0, 3, 1_000)


@pytest.mark.parametrize(
    "text",
    [
        "60",
        "60/",
        "/minute",
        "60/week",
        "-1/minute",
        "1.5/minute",
        "60 per minute",
        "5/10",
        "5/s",
        "60/minute;5/day",
    ],
)
def test_a_rate_limit_that_cannot_be_read_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigurationError, match="RATE_LIMITS"):
        load_with(RATE_LIMITS=text)


@pytest.mark.parametrize("text", ["0/minute", "5/0s"])
def test_a_rate_limit_that_would_let_nobody_or_everybody_through_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="RATE_LIMITS"):
        load_with(RATE_LIMITS=text)


def test_two_rate_limits_over_one_window_are_refused_or_become_one() -> None:
    """They would share one counter, and every call would count twice."""
    try:
        limits = load_with(RATE_LIMITS="100/minute,10/60s").policy.rate_limits
    except ConfigurationError as error:
        assert "RATE_LIMITS" in str(error)  # noqa: PT017 - either is fine
    else:
        assert limits == (Limit(10, 60),)


def test_rate_limits_are_read_in_every_spelling() -> None:
    limits = load_with(RATE_LIMITS=" 5/10s , 60/minute,1000 / hour,10000/day").policy.rate_limits
    assert limits == (Limit(5, 10), Limit(60, 60), Limit(1000, 3600), Limit(10_000, 86_400))


def test_an_empty_rate_limit_means_none() -> None:
    assert load_with(RATE_LIMITS="").policy.rate_limits == ()


@pytest.mark.parametrize(("given", "missing"), [("TLS_CERT", "TLS_KEY"), ("TLS_KEY", "TLS_CERT")])
def test_a_certificate_and_its_key_are_set_together(given: str, missing: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{missing} is not set.*dev-cert"):
        load_with(**{given: "some.pem"})
    settings = load_with(TLS_CERT="cert.pem", TLS_KEY="key.pem")
    assert (settings.tls_cert, settings.tls_key) == ("cert.pem", "key.pem")


def test_a_webhook_schedule_with_a_wait_that_is_no_wait_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="WEBHOOK_SCHEDULE"):
        load_with(WEBHOOK_SCHEDULE="5,-300")


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1:6379/0", "127.0.0.1:6379"])
def test_a_redis_url_that_is_none_is_refused_also_where_the_broker_is_elsewhere(url: str) -> None:
    with pytest.raises(ConfigurationError, match="REDIS_URL"):
        load_with(REDIS_URL=url, BROKER_URL="redis://127.0.0.1/1")


def test_all_wrong_settings_are_named_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_with(PORT="x", SHARDS="0", LOG_LEVEL="LOUD")
    assert all(name in str(caught.value) for name in ("PORT", "SHARDS", "LOG_LEVEL"))


def test_an_empty_secret_key_is_refused_with_the_way_to_make_one() -> None:
    with pytest.raises(ConfigurationError, match=r"SECRET_KEY is not set.*token_urlsafe"):
        load_with(SECRET_KEY="")


@pytest.mark.parametrize("value", [" ", "\t\n", " " * 40])
def test_a_secret_key_of_blanks_is_no_secret_key(value: str) -> None:
    with pytest.raises(ConfigurationError, match="SECRET_KEY"):
        load_with(SECRET_KEY=value)


def test_a_missing_secret_key_is_refused() -> None:
    del os.environ["SECRET_KEY"]
    with pytest.raises(ConfigurationError, match="SECRET_KEY is not set"):
        config.load()


def test_a_short_secret_key_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigurationError, match="SECRET_KEY is too short") as caught:
        load_with(SECRET_KEY="hunter2hunter2")
    assert "hunter2" not in str(caught.value)


def test_a_secret_key_may_stand_in_a_file(tmp_path: Path) -> None:
    del os.environ["SECRET_KEY"]
    (tmp_path / "secret").write_text("f" * 40 + "\n")
    assert load_with(SECRET_KEY_FILE=str(tmp_path / "secret")).secret_key == "f" * 40


def test_a_file_of_a_secret_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    del os.environ["SECRET_KEY"]
    with pytest.raises(ConfigurationError, match="SECRET_KEY"):
        load_with(SECRET_KEY_FILE=str(tmp_path / "none"))


def test_an_empty_file_of_a_secret_is_a_blank_secret(tmp_path: Path) -> None:
    del os.environ["SECRET_KEY"]
    (tmp_path / "secret").write_text("\n")
    with pytest.raises(ConfigurationError, match="SECRET_KEY"):
        load_with(SECRET_KEY_FILE=str(tmp_path / "secret"))


def test_results_must_outlast_the_webhook_retries() -> None:
    needed = int(longest([100, 1000]) + 3600)
    with pytest.raises(ConfigurationError, match=f"RESULT_TTL.*{needed} seconds"):
        load_with(WEBHOOK_SCHEDULE="100,1000", RESULT_TTL=str(needed - 1))
    assert load_with(RESULT_TTL=str(needed)).policy.result_ttl == needed


def test_a_lease_must_outlast_one_try_upstream() -> None:
    timeouts = {"UPSTREAM_CONNECT_TIMEOUT": "2", "UPSTREAM_READ_TIMEOUT": "5", "SESSION_WAIT": "3"}
    with pytest.raises(ConfigurationError, match=r"LEASE.*11 seconds"):
        load_with(LEASE="9", **timeouts)
    assert load_with(LEASE="11", **timeouts).policy.lease == 11


@pytest.mark.parametrize(
    ("redis_url", "broker"),
    [
        ("redis://store:6379/0", "redis://store:6379/1"), ("redis://store:6379", "redis://store:6379/1"),
        ("redis://:pw@store/3", "redis://:pw@store/4"), ("rediss://store/0?ssl_cert_reqs=none",
        "rediss://store/1?ssl_cert_reqs=none"),
    ],
)  # fmt: skip
def test_messages_go_to_the_next_database_of_the_store(redis_url: str, broker: str) -> None:
    assert load_with(REDIS_URL=redis_url).broker_url == broker


def test_messages_go_to_the_next_database_of_the_same_sentinels() -> None:
    settings = load_with(REDIS_URL="redis+sentinel://:pw@one:26379,two:26379/main")
    assert settings.broker_url == "redis+sentinel://:pw@one:26379,two:26379/main/1"


def test_a_cluster_wants_a_broker_beside_it() -> None:
    with pytest.raises(ConfigurationError, match=r"BROKER_URL is not set.*one database.*amqp://"):
        load_with(REDIS_URL="redis+cluster://one,two,three")
    with pytest.raises(ConfigurationError, match=r"BROKER_URL.*cluster"):
        load_with(BROKER_URL="redis+cluster://one,two,three")
    os.environ["BROKER_URL"] = "redis://four/0"
    assert config.load().broker_url == "redis://four/0"


@pytest.mark.parametrize("url", ["redis+sentinel://one,two", "redis+cluster://one/3", "redis://one,two/0"])
def test_a_store_of_several_machines_that_cannot_be_read_is_refused_in_a_line(url: str) -> None:
    with pytest.raises(ConfigurationError, match="REDIS_URL") as caught:
        load_with(REDIS_URL=url)
    assert "\n" not in str(caught.value)
    assert "redis+" in str(caught.value)


def test_a_broker_of_its_own_is_taken_as_it_is() -> None:
    assert load_with(BROKER_URL="amqp://rabbit//").broker_url == "amqp://rabbit//"


def test_the_environment_wins_over_dotenv_and_dotenv_over_what_a_local_run_left(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=4001\nHOST=10.0.0.1\n")
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "run.env").write_text("PORT=4002\nHOST=10.0.0.2\nLOG_LEVEL=DEBUG\n")
    os.environ["PORT"] = "4000"
    settings = config.load(local=True)
    assert (settings.port, settings.host, settings.log_level) == (4000, "10.0.0.1", "DEBUG")


def test_what_a_local_run_left_is_read_by_local_commands_only(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "run.env").write_text("PORT=4002\n")
    assert config.load().port == 3222


def test_no_dotenv_of_a_folder_above_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("PORT=4001\n")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert config.load().port == 3222


def test_names_and_free_endings_have_limits_of_their_own() -> None:
    policy = load_with(NAMES_LIMITS="500/hour", FREE_LIMIT="7/10s").policy
    assert (policy.names_limits, policy.free_limit) == ((Limit(500, 3_600),), Limit(7, 10))
    policy = load_with(NAMES_LIMITS="", FREE_LIMIT="").policy
    assert (policy.names_limits, policy.free_limit, policy.free_weight_ms) == ((), None, 0)


def test_their_defaults_are_those_of_the_policy() -> None:
    policy = config.load().policy
    assert policy.names_limits == Policy().names_limits
    assert policy.free_limit == Policy().free_limit
    assert policy.free_weight_ms == 3_600


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("NAMES_LIMITS", "many"),
        ("NAMES_LIMITS", "0/hour"),
        ("FREE_LIMIT", "1000"),
        ("FREE_LIMIT", "1/hour,2/day"),
    ],
)
def test_a_limit_that_is_none_is_named(name: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}: "):
        load_with(**{name: text})
