"""The composition root: the only place where clients are opened."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from threading import Event

import structlog

from service.archive.files import Files
from service.archive.keeper import Keeper
from service.archive.links import Links
from service.archive.off import NoArchive
from service.auth.api_keys import ApiKeys
from service.auth.passwords import Passwords
from service.auth.tokens import JwtTokens
from service.broker import make_celery
from service.config import Settings
from service.domain.archive import Room
from service.domain.errors import ConfigurationError
from service.domain.ports import Services
from service.domain.ports.archive import Archive
from service.domain.ports.media import MediaFiles
from service.masking import masked
from service.media import Media
from service.queue import CeleryQueue
from service.schedules import BeatSchedules
from service.sealing import Sealing
from service.secrets import at_rest, derive
from service.stores import meta, topology
from service.stores.accounts import Accounts
from service.stores.archive import ArchiveEntries
from service.stores.backups import Backups
from service.stores.batches import Batches
from service.stores.books import Books
from service.stores.bulk import Bulk
from service.stores.connection import Client, open_store
from service.stores.credits import Credits
from service.stores.deliveries import Deliveries
from service.stores.erasures import Erasures
from service.stores.hosts import Hosts
from service.stores.instagram_ids import InstagramIds
from service.stores.instagram_sessions import InstagramSessions
from service.stores.limits import Limits
from service.stores.optouts import OptOuts
from service.stores.reels import Reels
from service.stores.requests import Requests
from service.stores.stats import Stats
from service.stores.watches import Watches

log = structlog.get_logger(__name__)

# A command waits so long for its store, seconds; a process of the service without end.
STARTUP_WAIT = 30.0
ENDLESS = math.inf

Waiting = Callable[[str, float], None]


def build(
    settings: Settings,
    *,
    wait: float = STARTUP_WAIT,
    waiting: Waiting | None = None,
    stop: Event | None = None,
) -> Services:
    """Open the store, check it, and put the services together.

    Waits up to ``wait`` seconds for a store that is starting. ``waiting`` is told at once and every 10 s
    what is waited for and for how many seconds it has been; ``stop`` ends it (SystemExit).
    Raises ConfigurationError when the store does not answer by then, turns us away, is of another kind than
    REDIS_URL says, forgets what it is told, holds data of a newer version or of another SECRET_KEY, or is
    half restored.
    """
    patience = _patience(settings.redis_url, "the store", wait, waiting, stop)
    redis = _looked_at(settings, patience)
    shards = meta.patiently(lambda: meta.fix_shards(redis, settings.shards), patience)
    meta.patiently(lambda: meta.fix_key(redis, _key_check(settings)), patience)
    return assemble(settings, redis, shards)


def build_for_restore(settings: Settings, *, wait: float = STARTUP_WAIT) -> Services:
    """As `build`, but writes nothing, and takes a store that is half restored."""
    patience = _patience(settings.redis_url, "the store", wait, None, None)
    redis = _looked_at(settings, patience)
    meta.patiently(lambda: meta.check_format(redis), patience)
    return assemble(settings, redis, settings.shards)


def _looked_at(settings: Settings, patience: meta.Patience) -> Client:
    """Return a client of the store, once it answers and is one that may be used."""
    production = settings.is_production
    meta.check_database(settings.redis_url, "REDIS_URL", patience, hint="Give a smaller number.")
    redis = open_store(settings.redis_url)
    meta.patiently(lambda: meta.check_kind(redis), patience)
    meta.patiently(lambda: meta.check_durability(redis, production=production), patience)
    return redis


def check_broker(
    settings: Settings, *, needed: bool, waiting: Waiting | None = None, stop: Event | None = None
) -> None:
    """Wait for a broker that is a Redis or Valkey. Raises ConfigurationError when it cannot be used.

    What is out for a while is waited for where the broker is ``needed``, and where it is on the servers of
    the store; else it is looked at once. RabbitMQ is left to Celery, which waits for it.
    """
    if not topology.is_of_a_store(settings.broker_url):
        return
    same = topology.parse(settings.broker_url).nodes == topology.parse(settings.redis_url).nodes
    wait = ENDLESS if needed or same else 0.0
    patience = _patience(settings.broker_url, "the broker", wait, waiting, stop)
    try:
        meta.check_database(settings.broker_url, "BROKER_URL", patience, hint=_ON_BROKERS)
    except ConfigurationError as error:
        if not meta.is_out_of_reach(error):
            raise
        log.warning("start.no_broker", error=str(error))


_ON_BROKERS = (
    "Where BROKER_URL is not set it is REDIS_URL with the number of the database one up: set BROKER_URL, "
    "or a smaller number in REDIS_URL."
)


def _patience(url: str, what: str, wait: float, waiting: Waiting | None, stop: Event | None) -> meta.Patience:
    where = f"{what} at {topology.parse(url).shown}"

    def tell(reason: str, seconds: float) -> None:
        if waiting is not None:
            waiting(f"{where} ({masked(reason)})", seconds)

    return meta.Patience(wait, tell, stop or Event())


def _key_check(settings: Settings) -> str:
    """Return what tells one SECRET_KEY from another, and nothing else of it."""
    return derive(settings.secret_key, "backup-check").hex()[:32]


def assemble(settings: Settings, redis: Client, shards: int) -> Services:
    """Put the services together over an open store; sends nothing."""
    policy = settings.policy
    fernet = at_rest(settings.secret_key)
    celery = make_celery(settings.broker_url)
    media = Media(
        redirect_to=settings.simulated_instagram_url or None,
        connect_timeout=settings.upstream_connect_timeout,
        idle_timeout=settings.upstream_read_timeout,
    )
    return Services(
        policy=policy,
        requests=Requests(redis, policy, shards),
        watches=Watches(redis, policy, shards),
        schedules=BeatSchedules(celery, redis, settings.redis_url),
        reels=Reels(redis, policy),
        bulk=Bulk(redis),
        batches=Batches(redis, policy),
        credits=Credits(redis),
        books=Books(redis),
        backups=Backups(redis, key_check=_key_check(settings)),
        sealing=Sealing(derive(settings.secret_key, "backups"), bytes.fromhex(_key_check(settings))),
        accounts=Accounts(redis, fernet, shards),
        limits=Limits(redis, policy),
        deliveries=Deliveries(redis, policy, shards),
        hosts=Hosts(redis, policy),
        sessions=InstagramSessions(redis, fernet, derive(settings.secret_key, "proxy-tags"), settings.pace),
        instagram_ids=InstagramIds(
            redis,
            days=settings.id_ttl / 86_400,
            seen_seconds=settings.privacy_ttl,
            missing_seconds=settings.missing_id_ttl,
        ),
        archive=_archive(settings, redis, media),
        optouts=OptOuts(redis),
        erasures=Erasures(redis),
        media=media,
        stats=Stats(redis, shards),
        queue=CeleryQueue(celery),
        passwords=Passwords(),
        tokens=JwtTokens(derive(settings.secret_key, "tokens"), policy.token_lifetime),
        keys=ApiKeys(derive(settings.secret_key, "api-keys")),
        clock=now_ms,
    )


def _archive(settings: Settings, redis: Client, media: MediaFiles) -> Archive:
    if not settings.archive_url:
        return NoArchive()
    key = derive(settings.secret_key, "archive-urls")
    return Keeper(
        Files(settings.archive_url, settings.archive_s3_endpoint),
        ArchiveEntries(redis, settings.archive_ttl, Room(settings.archive_max, settings.archive_account_max)),
        media,
        Links(key, settings.public_url, settings.archive_link_ttl, now_ms),
        most=settings.archive_item_max,
        seconds=settings.archive_timeout,
    )


def now_ms() -> int:
    """Return Unix milliseconds."""
    return int(time.time() * 1000)
