"""Takes away what is kept of requests, and what is shared, in Redis."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from service.domain import ids
from service.domain.requests import RequestRecord
from service.domain.webhooks import host_of
from service.stores import keys, scripts
from service.stores.commands import Command, hashes, pages, together
from service.stores.connection import Client, store_adapter
from service.stores.requests import request_record
from service.stores.rows import readable

SCAN_COUNT = 500
OF_ANY_REQUEST = "{s??}:req:*"


@store_adapter
class Erasures:
    """ErasureStore over Redis. Reads in pages; safe while the service works."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis
        self._erase = scripts.load(redis, "erase")

    def erase(self, record: RequestRecord) -> bool:
        return bool(self.erase_many([record]))

    def erase_many(self, records: Sequence[RequestRecord]) -> int:
        return sum(together(self._redis, [self._erase_of(record) for record in records]))

    def _erase_of(self, record: RequestRecord) -> Command:
        request_id, delivery_id = record.request_id, ids.delivery_of(record.request_id)
        host = host_of(record.webhook_url) if record.webhook_url else ""
        return self._erase.command(
            keys=[
                keys.request(request_id),
                keys.result(request_id),
                keys.account_requests(record.account_id),
                keys.delivery(delivery_id),
                keys.delivery_log(delivery_id),
                keys.account_deliveries(record.account_id),
                keys.due(ids.shard_in(request_id), host),
            ],
            args=[request_id, delivery_id],
        )

    def requests(self) -> Iterator[list[RequestRecord]]:
        for names in pages(self._redis, OF_ANY_REQUEST, SCAN_COUNT):
            found = readable(request_record, map(_id_in, names), hashes(self._redis, names))
            yield [record for record in found if record is not None]

    def drop_shared(self, names: Collection[str], user_ids: Collection[str]) -> int:
        dropped = 0
        for found in pages(self._redis, keys.reel("*"), SCAN_COUNT):
            looks = [Command(("HMGET", name, "owner", "owner_name")) for name in found]
            owners = together(self._redis, looks)
            about = [
                name
                for name, (owner, owner_name) in zip(found, owners, strict=True)
                if owner in user_ids or owner_name in names or _asked(name) in {*names, *user_ids}
            ]
            dropped += sum(self._redis.delete(name) for name in about)
        return dropped


def _id_in(name: str) -> str:
    return name.rpartition(":")[2]


def _asked(name: str) -> str:
    """Return the name or id in the key of a shared result: the last part of its ask."""
    return name.removeprefix("{f:").partition("}")[0].rpartition(":")[2]
