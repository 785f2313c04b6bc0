"""The numbers the rules of the business run on; `service.config` fills them from the environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.domain.accounts import Limit
from service.domain.addresses import AddressPolicy
from service.domain.credits import PriceList, price_list
from service.domain.deliveries import DEFAULT_SCHEDULE

LEASE_MARGIN = 15  # seconds
FREE_LIMIT = Limit(1_000, 3_600)
# What was cancelled is told for so long, seconds: it costs nothing, so it must not stay for days.
CANCELLED_TTL = 600
SILENT_TTL = 86_400  # seconds; of a watch's run that cost nothing and told nobody
POLL_WAIT_MAX = 60  # seconds; the longest long-poll
BODY_LIMIT = 600.0  # seconds for a body that is sent in pieces, also to a caller who reads slowly


@dataclass(frozen=True)
class Policy:
    """Durations in seconds, sizes in bytes."""

    prices: PriceList = field(default_factory=lambda: price_list({}))
    rate_limits: tuple[Limit, ...] = (Limit(60, 60), Limit(1_000, 3_600), Limit(10_000, 86_400))
    names_limits: tuple[Limit, ...] = (Limit(20_000, 3_600), Limit(100_000, 86_400))
    free_limit: Limit | None = FREE_LIMIT
    webhook_addresses: AddressPolicy = field(default_factory=AddressPolicy)
    webhook_schedule: tuple[int, ...] = DEFAULT_SCHEDULE
    webhook_connect_timeout: float = 3.0
    webhook_timeout: float = 15.0
    webhook_host_concurrency: int = 10
    webhook_ca_file: str | None = None
    sync_deadline: float = 25.0
    sync_deadline_max: float = 60.0
    body_limit: float = BODY_LIMIT
    result_ttl: int = 8 * 86_400
    lease: int = 90
    max_attempts: int = 5
    fetch_tries: int = 3
    reels_at_once: int = 30
    upstream_wait: float = 300.0
    pickup_grace: int = 5
    sweep_interval: int = 30
    sweep_limit: int = 10
    signup_allowed: bool = False
    token_lifetime: int = 86_400
    watch_every_least: int = 300
    watches_most: int = 100

    @property
    def cancelled_ttl(self) -> int:
        """How long what was cancelled is kept, seconds."""
        return min(self.result_ttl, CANCELLED_TTL)

    @property
    def free_weight_ms(self) -> int:
        """By how long one free ending puts off the end of all that count, milliseconds; 0 without a limit."""
        return max(self.free_limit.seconds * 1000 // self.free_limit.count, 1) if self.free_limit else 0

    @property
    def delivery_lease_ms(self) -> int:
        """How long a deliverer holds a delivery and its place at the host, milliseconds.

        An attempt ends within the webhook timeout; the rest is for a slow machine to write it down.
        """
        return int((self.webhook_timeout + LEASE_MARGIN) * 1000)
