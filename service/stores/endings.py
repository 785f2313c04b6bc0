"""What `finish.lua` is given."""

from __future__ import annotations

import gzip
from typing import Any

from service.domain import ids
from service.domain.policy import SILENT_TTL, Policy
from service.domain.requests import CANCELLED, Ending, RequestRecord
from service.domain.webhooks import host_of
from service.stores import keys

# Level 1 costs a fraction of level 6 and loses little on JSON; a reel shrinks about tenfold.
COMPRESSION_LEVEL = 1


def of_the_end(
    request: RequestRecord, fence: str, ending: Ending, policy: Policy, floor: str
) -> tuple[list[Any], list[Any]]:
    """Return keys and arguments of the script that ends a request.

    ``fence`` is "" for one that is queued, ``floor`` the id below which the list of deliveries is trimmed.
    """
    shard = ids.shard_in(request.request_id)
    delivery_id = ids.delivery_of(request.request_id)
    host = host_of(request.webhook_url) if request.webhook_url else ""
    # Keys that are not used are named all the same.
    batch_id, watch_id = request.batch_id or request.request_id, request.watch_id or request.request_id
    summary_id = ids.delivery_of(batch_id)
    names = [
        keys.request(request.request_id),
        keys.result(request.request_id),
        keys.credits(request.account_id),
        keys.ledger(request.account_id),
        keys.open_requests(shard),
        keys.stats(shard),
        keys.delivery(delivery_id),
        keys.due_hosts(shard),
        keys.due(shard, host),
        keys.account_deliveries(request.account_id),
        keys.batch(batch_id),
        keys.delivery(summary_id),
        keys.due(shard, request.batch_host or ""),
        keys.watch(watch_id),
        keys.watch_seen(watch_id),
        keys.watch_owed(watch_id),
        keys.account_requests(request.account_id),
        keys.free_endings(request.account_id),
        keys.account_batches(request.account_id),
    ]
    values: list[Any] = [
        request.request_id,
        fence,
        ending.status,
        ending.outcome,
        ending.code,
        ending.charge,
        ending.item_count,
        ending.retry_after,
        gzip.compress(ending.envelope, COMPRESSION_LEVEL, mtime=0),
        _lifetime(ending, policy),
        keys.done(request.request_id),
        delivery_id,
        host,
        policy.pickup_grace * 1000,
        floor,
        int(ending.cached),
        summary_id,
        request.batch_id or "",
        keys.done(batch_id),
        int(ending.silent),
        " ".join(f"{item} {until}" for item, until in ending.remember.items()),
        ending.source,
        ending.owner,
        ending.owner_name,
        _burden(ending, policy),
        policy.result_ttl,
    ]
    return names, values


def _lifetime(ending: Ending, policy: Policy) -> int:
    """Return for how long the request is kept, seconds: briefly what nobody paid for and nobody is told."""
    if ending.status == CANCELLED:
        return policy.cancelled_ttl
    return min(policy.result_ttl, SILENT_TTL) if ending.silent and not ending.charge else policy.result_ttl


def _burden(ending: Ending, policy: Policy) -> int:
    """Return by how much the account's free endings weigh more: one that is paid for takes one off."""
    if ending.charge:
        return -policy.free_weight_ms
    return policy.free_weight_ms if ending.burdens else 0
