"""The composition root: the only place where clients are opened."""

from __future__ import annotations

import time

from service.archive.files import Files
from service.archive.keeper import Keeper
from service.archive.links import Links
from service.archive.off import NoArchive
from service.auth.api_keys import ApiKeys
from service.auth.passwords import Passwords
from service.auth.tokens import JwtTokens
from service.broker import make_celery
from service.config import Settings
from service.domain.ports import Services
from service.domain.ports.archive import Archive
from service.domain.ports.media import MediaFiles
from service.media import Media
from service.queue import CeleryQueue
from service.schedules import BeatSchedules
from service.sealing import Sealing
from service.secrets import at_rest, derive
from service.stores import meta
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

STARTUP_WAIT = 30.0


def build(settings: Settings, *, wait: float = STARTUP_WAIT) -> Services:
    """Open the store, check it, and put the services together.

    Waits up to ``wait`` seconds for a store that is starting. Raises ConfigurationError when it
    does not answer, is of another kind than REDIS_URL says, forgets what it is told, holds data of a
    newer version or of another SECRET_KEY, or is half restored.
    """
    redis = open_store(settings.redis_url)
    meta.wait_until_ready(redis, wait)
    meta.check_kind(redis)
    meta.check_durability(redis, production=settings.is_production)
    shards = meta.patiently(lambda: meta.fix_shards(redis, settings.shards), wait)
    meta.patiently(lambda: meta.fix_key(redis, _key_check(settings)), wait)
    return assemble(settings, redis, shards)


def build_for_restore(settings: Settings, *, wait: float = STARTUP_WAIT) -> Services:
    """As `build`, but writes nothing, and takes a store that is half restored."""
    redis = open_store(settings.redis_url)
    meta.wait_until_ready(redis, wait)
    meta.check_kind(redis)
    meta.check_durability(redis, production=settings.is_production)
    meta.check_format(redis)
    return assemble(settings, redis, settings.shards)


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
        ArchiveEntries(redis, settings.archive_ttl),
        media,
        Links(key, settings.public_url, settings.archive_link_ttl, now_ms),
        most=settings.archive_item_max,
        seconds=settings.archive_timeout,
    )


def now_ms() -> int:
    """Return Unix milliseconds."""
    return int(time.time() * 1000)
