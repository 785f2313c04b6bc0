"""Settings: typed, validated, read once from the environment.

Every setting stands in ``.env.example`` with its default. ``NAME_FILE`` names a file that holds the
value, for secrets. Durations are seconds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from dotenv import dotenv_values
from environs import EnvError, FileAwareEnv, ValidationError
from marshmallow.validate import OneOf, Range

from service import masking
from service.domain.accounts import Limit
from service.domain.addresses import parse_policy
from service.domain.credits import price_list
from service.domain.deliveries import DEFAULT_SCHEDULE, longest
from service.domain.errors import ConfigurationError
from service.domain.instagram import Pace
from service.domain.policy import Policy
from service.stores import topology
from service.upstreams import Upstreams, is_loopback
from service.upstreams import read as read_upstreams

LOG_LEVELS = ("INFO", "DEBUG", "WARNING", "ERROR")
LOG_FORMATS = ("json", "console")

PRODUCTION = "production"
DEVELOPMENT = "development"
SECRET_MIN = 32
# What the store and its scripts can count with: seconds that become milliseconds, and numbers of things.
LONGEST = 10 * 366 * 86_400
MANY = 1_000_000
LARGEST = 2**40  # bytes, or calls in a window
# One fetch may take as many: it looks by a remembered id, finds that outdated, and starts over.
BUDGET_MIN = 3
# Of a lease, for fetching; the rest is for telling what came.
LEASE_SHARE = 0.9

# What a running `make run` tells the `storyhook` command of the same folder.
LOCAL_ENVIRONMENT = Path("var") / "run.env"

_LIMIT = re.compile(r"^\s*(\d+)\s*/\s*(minute|hour|day|(\d+)s)\s*$")
_WINDOWS = {"minute": 60, "hour": 3_600, "day": 86_400}


@dataclass(frozen=True)
class Settings:
    """How this installation is set up. What the rules of the business need is in ``policy``."""

    environment: str
    secret_key: str = field(repr=False)
    redis_url: str = field(repr=False)
    broker_url: str = field(repr=False)
    host: str
    port: int
    tls_cert: str
    tls_key: str
    web_workers: int
    sync_waiters: int
    worker_threads: int
    deliverer_threads: int
    shards: int
    max_body: int
    max_batch_body: int
    log_level: str
    log_format: str
    metrics_token: str = field(repr=False)
    trusted_proxies: int
    simulated_instagram_url: str = field(repr=False)
    public_url: str = field(repr=False)
    archive_url: str = field(repr=False)
    archive_s3_endpoint: str = field(repr=False)
    archive_ttl: int
    archive_link_ttl: int
    archive_item_max: int
    archive_max: int
    archive_account_max: int
    archive_timeout: float
    upstreams: Upstreams
    upstream_connect_timeout: float
    upstream_read_timeout: float
    session_wait: float
    id_ttl: int
    privacy_ttl: int
    missing_id_ttl: int
    rest_scale: float
    pace: Pace
    policy: Policy

    @property
    def fetch_seconds(self) -> float:
        """How long a worker may take to fetch one thing, all calls to all SOURCES together.

        It ends before the lease does, or another worker would fetch it as well, but one whole answer of
        each source fits in.
        """
        return max(self.policy.lease * LEASE_SHARE, self.slowest_try)

    @property
    def slowest_try(self) -> float:
        """How long one call to each of SOURCES takes at most, seconds."""
        one = self.upstream_connect_timeout + self.upstream_read_timeout + self.session_wait
        return one * len(self.upstreams.sources)

    @property
    def is_production(self) -> bool:
        return self.environment == PRODUCTION


def load(*, local: bool = False) -> Settings:
    """Read the environment, ``.env`` and, for ``local`` commands, what a running ``make run`` left.

    Earlier ones win. Raises ConfigurationError naming every setting that is missing or wrong.
    """
    env = FileAwareEnv(eager=False, strip_whitespace=True)
    for path in [Path(".env"), *([LOCAL_ENVIRONMENT] if local else [])]:
        if path.is_file():
            env.read_env(str(path.resolve()), recurse=False)
    masking.learn()
    try:
        return _settings(env)
    # A file that NAME_FILE names and is not there is a ValueError, one that may not be read an OSError.
    except (EnvError, ValueError, OSError) as error:
        raise ConfigurationError(f"Wrong settings: {masking.masked(str(error))}") from error


def log_form() -> tuple[str, str]:
    """Return LOG_LEVEL and LOG_FORMAT before anything is checked; what is wrong of them is as if not set.

    Learns the secrets there are as well: from here on a process may log that it cannot start.
    """
    given = {**_dotenv(), **os.environ}
    masking.learn(given)
    level = given.get("LOG_LEVEL", "").strip().upper()
    style = given.get("LOG_FORMAT", "").strip().lower()
    return (
        level if level in LOG_LEVELS else LOG_LEVELS[0],
        style if style in LOG_FORMATS else LOG_FORMATS[0],
    )


def _dotenv() -> dict[str, str]:
    with suppress(OSError, ValueError):
        return {name: value for name, value in dotenv_values(".env").items() if value is not None}
    return {}


def _one_of(words: tuple[str, ...]) -> Callable[[str], None]:
    """Return a check for one of ``words``, in letters of any case."""

    def check(word: str) -> None:
        if word.casefold() not in map(str.casefold, words):
            raise ValidationError(f"Give one of {', '.join(words)}.")

    return check


def _settings(env: FileAwareEnv) -> Settings:
    redis_url = env.str("REDIS_URL", "redis://127.0.0.1:6390/0", validate=_check_store_url)
    values: dict[str, Any] = {
        "environment": env.str("ENVIRONMENT", PRODUCTION, validate=OneOf([PRODUCTION, DEVELOPMENT])),
        "secret_key": env.str("SECRET_KEY", "").strip(),
        "redis_url": redis_url,
        "broker_url": env.str("BROKER_URL", "", validate=_check_broker_url)
        or _next_database(redis_url or ""),
        "host": env.str("HOST", "127.0.0.1"),
        "port": env.int("PORT", 3222, validate=Range(1, 65_535)),
        "tls_cert": env.str("TLS_CERT", ""),
        "tls_key": env.str("TLS_KEY", ""),
        "web_workers": env.int("WEB_WORKERS", 1, validate=Range(min=1)),
        "sync_waiters": env.int("SYNC_WAITERS", 64, validate=Range(min=1)),
        "worker_threads": env.int("WORKER_THREADS", 16, validate=Range(min=1)),
        "deliverer_threads": env.int("DELIVERER_THREADS", 32, validate=Range(min=1)),
        "shards": env.int("SHARDS", 16, validate=Range(1, 256)),
        "max_body": env.int("MAX_BODY", 65_536, validate=Range(min=1_024)),
        "max_batch_body": env.int("MAX_BATCH_BODY", 2_097_152, validate=Range(min=1_024)),
        "log_level": (env.str("LOG_LEVEL", "INFO", validate=_one_of(LOG_LEVELS)) or "").upper(),
        "log_format": (env.str("LOG_FORMAT", LOG_FORMATS[0], validate=_one_of(LOG_FORMATS)) or "").lower(),
        "metrics_token": env.str("METRICS_TOKEN", ""),
        "trusted_proxies": env.int("TRUSTED_PROXIES", 0, validate=Range(0, 10)),
        "simulated_instagram_url": env.str("SIMULATED_INSTAGRAM_URL", ""),
        "public_url": env.str("PUBLIC_URL", "", validate=_check_web_url),
        **_archive(env),
        "upstream_connect_timeout": env.float("UPSTREAM_CONNECT_TIMEOUT", 5.0, validate=Range(0.1, LONGEST)),
        "upstream_read_timeout": env.float("UPSTREAM_READ_TIMEOUT", 15.0, validate=Range(0.1, LONGEST)),
        "session_wait": env.float("SESSION_WAIT", 1.0, validate=Range(0, LONGEST)),
        "id_ttl": env.int("ID_TTL", 3 * 86_400, validate=Range(0, LONGEST)),
        "privacy_ttl": env.int("PRIVACY_TTL", 6 * 3_600, validate=Range(0, LONGEST)),
        "missing_id_ttl": env.int("MISSING_ID_TTL", 300, validate=Range(0, LONGEST)),
        "rest_scale": env.float("REST_SCALE", 1.0, validate=Range(0, 1_000)),
    }
    pace, policy = _pace(env), _policy(env)
    upstreams = read_upstreams(env, values["simulated_instagram_url"] or "")
    env.seal()
    settings = Settings(**values, pace=Pace(**pace), policy=policy(), upstreams=upstreams())
    _check(settings)
    return settings


def _archive(env: FileAwareEnv) -> dict[str, Any]:
    most = env.int("ARCHIVE_MAX", 20 * 1024**3, validate=Range(0, LARGEST))
    return {
        "archive_url": env.str("ARCHIVE_URL", "var/archive", validate=_check_archive_url),
        "archive_s3_endpoint": env.str("ARCHIVE_S3_ENDPOINT", "", validate=_check_web_url),
        "archive_ttl": env.int("ARCHIVE_TTL", 30 * 86_400, validate=Range(60, LONGEST)),
        "archive_link_ttl": env.int("ARCHIVE_LINK_TTL", 7 * 86_400, validate=Range(1, LONGEST)),
        "archive_item_max": env.int("ARCHIVE_ITEM_MAX", 100 * 1024 * 1024, validate=Range(1, LARGEST)),
        "archive_max": most,
        # None when ARCHIVE_MAX is no number, which is told with all that is wrong.
        "archive_account_max": env.int("ARCHIVE_ACCOUNT_MAX", (most or 0) // 4, validate=Range(0, LARGEST)),
        "archive_timeout": env.float("ARCHIVE_TIMEOUT", 120.0, validate=Range(0.1, LONGEST)),
    }


def _pace(env: FileAwareEnv) -> dict[str, Any]:
    return {
        "session_minute": env.int("SESSION_CALLS_PER_MINUTE", 30, validate=_check_budget),
        "session_hour": env.int("SESSION_CALLS_PER_HOUR", 400, validate=_check_budget),
        "proxy_minute": env.int("PROXY_CALLS_PER_MINUTE", 60, validate=_check_budget),
        "proxy_hour": env.int("PROXY_CALLS_PER_HOUR", 1_000, validate=_check_budget),
    }


def _check_budget(calls: int) -> None:
    if calls and not BUDGET_MIN <= calls <= MANY:
        raise ValidationError(
            f"From {BUDGET_MIN} calls, which one fetch may take, to {MANY}; or 0 for no limit."
        )


def _policy(env: FileAwareEnv) -> Callable[[], Policy]:
    """Read what the policy is made of; the rest is parsed once env.seal() found no error."""
    prices = env.json("PRICES", {})
    limits = env.list("RATE_LIMITS", ["60/minute", "1000/hour", "10000/day"])
    names = env.list("NAMES_LIMITS", ["20000/hour", "100000/day"])
    free = env.str("FREE_LIMIT", "1000/hour")
    allow: list[str] = env.list("WEBHOOK_ALLOW", [])
    deny: list[str] = env.list("WEBHOOK_DENY", [])
    schedule = env.list("WEBHOOK_SCHEDULE", list(DEFAULT_SCHEDULE), subcast=int, validate=_check_waits)
    numbers: dict[str, Any] = {
        "webhook_connect_timeout": env.float("WEBHOOK_CONNECT_TIMEOUT", 3.0, validate=Range(0.1, LONGEST)),
        "webhook_timeout": env.float("WEBHOOK_TIMEOUT", 15.0, validate=Range(0.1, LONGEST)),
        "webhook_host_concurrency": env.int("WEBHOOK_HOST_CONCURRENCY", 10, validate=Range(1, MANY)),
        "webhook_ca_file": env.str("WEBHOOK_CA_FILE", "") or None,
        "sync_deadline": env.float("SYNC_DEADLINE", 25.0, validate=Range(0, LONGEST)),
        "sync_deadline_max": env.float("SYNC_DEADLINE_MAX", 60.0, validate=Range(0, LONGEST)),
        "result_ttl": env.int("RESULT_TTL", 8 * 86_400, validate=Range(60, LONGEST)),
        "lease": env.int("LEASE", 90, validate=Range(1, LONGEST)),
        "max_attempts": env.int("MAX_ATTEMPTS", 5, validate=Range(1, MANY)),
        "fetch_tries": env.int("FETCH_TRIES", 3, validate=Range(1, MANY)),
        "reels_at_once": env.int("REELS_AT_ONCE", 30, validate=Range(1, 50)),
        "upstream_wait": env.float("UPSTREAM_WAIT", 300.0, validate=Range(0, LONGEST)),
        "pickup_grace": env.int("PICKUP_GRACE", 5, validate=Range(1, LONGEST)),
        "sweep_interval": env.int("SWEEP_INTERVAL", 30, validate=Range(1, LONGEST)),
        "sweep_limit": env.int("SWEEP_LIMIT", 10, validate=Range(1, MANY)),
        "token_lifetime": env.int("TOKEN_LIFETIME", 86_400, validate=Range(60, LONGEST)),
        "watch_every_least": env.int("WATCH_EVERY_LEAST", 300, validate=Range(1, 86_400)),
        "watches_most": env.int("WATCHES_MOST", 100, validate=Range(0, MANY)),
        "signup_allowed": env.bool("ALLOW_SIGNUP", False),
    }
    return lambda: Policy(
        prices=price_list(_mapping("PRICES", prices)),
        rate_limits=_limits("RATE_LIMITS", limits),
        names_limits=_limits("NAMES_LIMITS", names),
        free_limit=_limit("FREE_LIMIT", free) if free.strip() else None,
        webhook_addresses=parse_policy(allow, deny),
        webhook_schedule=tuple(schedule),
        **numbers,
    )


def _check_waits(schedule: list[int]) -> None:
    if any(not 1 <= wait <= LONGEST for wait in schedule):
        raise ValidationError(f"Every wait is from 1 to {LONGEST} seconds.")


def _check(settings: Settings) -> None:
    if not settings.secret_key:
        raise ConfigurationError(
            "SECRET_KEY is not set. Make one with: "
            "python3 -c 'import secrets; print(secrets.token_urlsafe(48))' and keep it: "
            "it signs tokens and encrypts stored secrets. (`make run` makes its own in var/.)"
        )
    if len(settings.secret_key) < SECRET_MIN:
        raise ConfigurationError(f"SECRET_KEY is too short: at least {SECRET_MIN} characters.")
    if not settings.broker_url:
        raise ConfigurationError(
            "BROKER_URL is not set. REDIS_URL is a cluster, which has one database, and Celery's messages "
            f"cannot be in it. {topology.BROKERS}"
        )
    if bool(settings.tls_cert) != bool(settings.tls_key):
        missing = "TLS_KEY" if settings.tls_cert else "TLS_CERT"
        raise ConfigurationError(
            f"{missing} is not set: https needs both TLS_CERT and TLS_KEY. `storyhook dev-cert` makes both."
        )
    needed = longest(settings.policy.webhook_schedule) + 3_600
    if settings.policy.result_ttl < needed:
        raise ConfigurationError(
            f"RESULT_TTL must outlast the webhook retries: at least {int(needed)} seconds with this schedule."
        )
    simulated = settings.simulated_instagram_url
    if simulated and not is_loopback(simulated):
        raise ConfigurationError(
            "SIMULATED_INSTAGRAM_URL must be on loopback: sessions are sent there without encryption."
        )
    slowest = settings.slowest_try
    if settings.policy.lease < slowest:
        raise ConfigurationError(
            f"LEASE must outlast one try of each of SOURCES: at least {int(slowest) + 1} seconds "
            "with these timeouts."
        )


def _limits(name: str, texts: list[str]) -> tuple[Limit, ...]:
    limits = tuple(_limit(name, text) for text in texts if text.strip())
    if len({limit.seconds for limit in limits}) < len(limits):
        raise ConfigurationError(f"{name}: give one limit a window")
    return limits


def _limit(name: str, text: str) -> Limit:
    match = _LIMIT.match(text)
    if match is None:
        raise ConfigurationError(f"{name}: {text!r} is not like '60/minute', '1000/hour' or '5/10s'")
    seconds = int(match.group(3)) if match.group(3) else _WINDOWS[match.group(2)]
    count = int(match.group(1))
    if not 1 <= count <= LARGEST or not 1 <= seconds <= LONGEST:
        raise ConfigurationError(f"{name}: {text!r}: 1 to {LARGEST} in a window of 1 to {LONGEST} seconds")
    return Limit(count, seconds)


def _mapping(name: str, value: object) -> Mapping[str, Mapping[str, int]]:
    if not isinstance(value, dict) or not all(isinstance(inner, dict) for inner in value.values()):
        raise ConfigurationError(f'{name} must be JSON such as {{"stories": {{"found": 1}}}}')
    return value


def _check_store_url(url: str) -> None:
    try:
        topology.parse(url)
    except ValueError as error:
        raise ValidationError(str(error)) from None


def _check_broker_url(url: str) -> None:
    if topology.is_of_a_store(url):
        _check_store_url(url)
        if topology.parse(url).kind == topology.CLUSTER:
            raise ValidationError(f"Celery has no messages in a cluster. {topology.BROKERS}")


def _check_web_url(url: str) -> None:
    parts = urlsplit(url)
    if url and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment):
        raise ValidationError("Give a URL such as https://storyhook.example.org, or nothing.")


def _check_archive_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "s3" and not parts.netloc:
        raise ValidationError("Name a bucket: s3://bucket/prefix.")
    if parts.scheme not in {"", "file", "s3"} or (
        parts.scheme == "file" and (parts.netloc or not parts.path)
    ):
        raise ValidationError("Give a folder, file:///folder, s3://bucket/prefix, or nothing.")


def _next_database(url: str) -> str:
    """Return ``url`` with the database one up: where Celery's messages go by default; "" for a cluster."""
    if topology.is_of_a_store(url) and (where := topology.parse(url)).kind != topology.SINGLE:
        return where.next_database() if where.kind == topology.SENTINEL else ""
    parts = urlsplit(url)
    database = parts.path.strip("/")
    return urlunsplit(parts._replace(path=f"/{int(database) + 1 if database.isdigit() else 1}"))
