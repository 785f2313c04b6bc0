"""The keyspace: every key, its type and its lifetime.

Accounts are spread over shards. All keys of an account carry the shard's hash tag ``{s07}``, so a
Lua script touches one slot and the store runs on Redis Cluster unchanged. An id names its shard. What was
cancelled stays for 10 minutes where RESULT_TTL stands here, and is in none of the account's lists.

===============================  ======  ===========================  =====================================
key                              type    lifetime                     holds
===============================  ======  ===========================  =====================================
``{s07}:acct:<id>``              hash    for good                     the account
``{s07}:acct:<id>:credits``      hash    for good                     ``balance``, ``held``, ``tidied`` ...
``{s07}:acct:<id>:ledger``       stream  for good, see `tidying`      ledger entries, oldest first
``{s07}:acct:<id>:requests``     zset    entries: RESULT_TTL          request ids, all scored 0, so by age
``{s07}:acct:<id>:batches``      zset    entries: RESULT_TTL          batch ids, all scored 0, so by age
``{s07}:acct:<id>:deliveries``   zset    entries: RESULT_TTL          delivery ids, all scored 0, so by age
``{s07}:acct:<id>:watches``      zset    until deleted                watch ids, all scored 0, so by age
``{s07}:acct:<id>:keys``         set     for good                     ids of API keys
``{s07}:acct:<id>:idem:<hash>``  hash    24 h                         what an idempotency key stands for
``{s07}:acct:<id>:rate:<secs>``  string  the window                   calls counted in this window
``{s07}:acct:<id>:names:<secs>``  string  the window                   names of batches in this window
``{s07}:acct:<id>:free``         string  what it stands for           1; its life is what free endings weigh
``{s07}:req:<id>``               hash    RESULT_TTL after the end     a request
``{s07}:batch:<id>``             hash    RESULT_TTL after the end     a batch, its counts
``{s07}:res:<id>``               string  RESULT_TTL                   its final envelope, gzip of JSON
``{s07}:msg:<id>``               hash    RESULT_TTL after the end     a delivery
``{s07}:msg:<id>:log``           list    RESULT_TTL                   its attempts, JSON, oldest first
``{s07}:watch:<id>``             hash    until deleted                a watch
``{s07}:watch:<id>:seen``        zset    entries: hours, days         items seen, by when to forget them (s)
``{s07}:watch:<id>:owed``        zset    entries: some days           runs whose webhook may have failed
``{s07}:watching``               zset    for good                     active watches by the sweep's look (ms)
``{s07}:open``                   zset    for good                     open request ids by next look (ms)
``{s07}:due``                    zset    for good                     hosts owed something, by next look (ms)
``{s07}:due:<host>``             zset    while pending                delivery ids of a host by next look (ms)
``{s07}:stats``                  hash    for good                     counters for /metrics
``{s07}:done:<request id>``      channel                              says that a request ended
``g:meta``                       hash    for good                     ``format``, ``shards``, ``key`` ...
``g:accounts``                   set     for good                     account ids
``g:email:<address>``            string  for good                     account id
``g:key:<id>``                   hash    until revoked                an API key
``g:workers``                    zset    for good                     worker processes by their last beat
``{beat}:...``                                                        celery-redbeat: the schedule, who leads
``{login}:from:<network>``       hash    15 min                       tries to log in from there, by account
``{login}:at:<bucket>``          string  15 min                       the same by account, in 65,536 buckets
``{login}:made:<network>``       string  1 h                          accounts made from there
``g:circuits``                   zset    minutes                      hosts whose circuit is open
``{h:<host>}:inflight``          zset    one lease                    places by end of lease (ms)
``{h:<host>}:health``            hash    10 min                       attempts and failures by minute, circuit
``{bulk}:queue``                 zset    while they wait              request ids by virtual time of turn
``{bulk}:clock``                 hash    while they wait              ``virtual`` time, next turns
``{bulk}:called``                string  1 s                          a worker was called and has not come yet
``{f:<ask>}:reel``               hash    up to 1 h                    a result that others may be shown
``{f:<ask>}:flight``             string  one lease                    who fetches it right now
``{f:<ask>}:waiting``            set     two leases                   ids of requests that wait for it
``{archive}:object:<digest>``    hash    while kept                   a file: ``suffix``, ``counted`` bytes,
                                                                      if there ``size``
``{archive}:expiry``             zset    entries: ARCHIVE_TTL         kept files by the end of their life (s)
``{archive}:owners:<digest>``    set     while kept                   Instagram user ids a file belongs to
``{archive}:of:<user id>``       set     while kept                   kept files of an Instagram user
``{archive}:names``              zset    while kept                   ``<name> <user id>`` of users with kept
                                                                      files, all scored 0, so by name
``{archive}:names:<user id>``    set     while kept                   names such a user was seen under
``{archive}:media:<pk>``         string  ARCHIVE_TTL                  the kept file of an item's media
``{archive}:used``               string  while any is kept            ``counted`` bytes of all files
``{archive}:reserved``           zset    entries: minutes             ``<token>|<account>|<size>|<in all>`` of
                                                                      files on their way
``{archive}:asked:<digest>``     set     while kept                   accounts that asked to keep a file
``{archive}:account:<id>``       zset    ARCHIVE_TTL and a day        ``<digest>:<size>`` of what an account
                                                                      asked to keep, by end of life (s)
``{archive}:account:<id>:used``  string  the same                     bytes of these
``{archive}:lock:<what>``        string  one lease                    who writes or deletes, or fetches it
``{ig}:optout:names``            hash    for good                     usernames not served: JSON of since when
``{ig}:optout:ids``              hash    for good                     the same by user id
``{ig}:...``                                                          Instagram sessions and ids, see
                                                                      `instagram_sessions`, `instagram_ids`
===============================  ======  ===========================  =====================================
"""

from __future__ import annotations

import hashlib

from service.domain.ids import shard_in

META = "g:meta"
ACCOUNTS = "g:accounts"
WORKERS = "g:workers"
CIRCUITS = "g:circuits"
BULK_QUEUE = "{bulk}:queue"
BULK_CLOCK = "{bulk}:clock"
BULK_CALLED = "{bulk}:called"
ARCHIVE_EXPIRY = "{archive}:expiry"
ARCHIVE_NAMES = "{archive}:names"
ARCHIVE_USED = "{archive}:used"
ARCHIVE_RESERVED = "{archive}:reserved"
OPTOUT_NAMES = "{ig}:optout:names"
OPTOUT_IDS = "{ig}:optout:ids"
BEAT_LEADER = "{beat}::lock"  # celery-redbeat appends its own colon to the prefix


def tag(shard: int) -> str:
    return f"{{s{shard:02x}}}"


def _in_shard(identifier: str, key: str) -> str:
    return f"{tag(shard_in(identifier))}:{key}"


def account(account_id: str) -> str:
    return _in_shard(account_id, f"acct:{account_id}")


def credits(account_id: str) -> str:
    return f"{account(account_id)}:credits"


def ledger(account_id: str) -> str:
    return f"{account(account_id)}:ledger"


def account_requests(account_id: str) -> str:
    return f"{account(account_id)}:requests"


def account_batches(account_id: str) -> str:
    return f"{account(account_id)}:batches"


def account_deliveries(account_id: str) -> str:
    return f"{account(account_id)}:deliveries"


def account_watches(account_id: str) -> str:
    return f"{account(account_id)}:watches"


def account_keys(account_id: str) -> str:
    return f"{account(account_id)}:keys"


def idempotency(account_id: str, key: str) -> str:
    """The key is a caller's text of up to 255 characters: its hash stands for it."""
    return f"{account(account_id)}:idem:{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def rate(account_id: str, seconds: int) -> str:
    return f"{account(account_id)}:rate:{seconds}"


def names(account_id: str, seconds: int) -> str:
    return f"{account(account_id)}:names:{seconds}"


def free_endings(account_id: str) -> str:
    return f"{account(account_id)}:free"


def request(request_id: str) -> str:
    return _in_shard(request_id, f"req:{request_id}")


def batch(batch_id: str) -> str:
    return _in_shard(batch_id, f"batch:{batch_id}")


def result(request_id: str) -> str:
    return _in_shard(request_id, f"res:{request_id}")


def done(request_id: str) -> str:
    return _in_shard(request_id, f"done:{request_id}")


def delivery(delivery_id: str) -> str:
    return _in_shard(delivery_id, f"msg:{delivery_id}")


def delivery_log(delivery_id: str) -> str:
    return f"{delivery(delivery_id)}:log"


def watch(watch_id: str) -> str:
    return _in_shard(watch_id, f"watch:{watch_id}")


def watch_seen(watch_id: str) -> str:
    return f"{watch(watch_id)}:seen"


def watch_owed(watch_id: str) -> str:
    return f"{watch(watch_id)}:owed"


def watching(shard: int) -> str:
    return f"{tag(shard)}:watching"


def open_requests(shard: int) -> str:
    return f"{tag(shard)}:open"


def due_hosts(shard: int) -> str:
    return f"{tag(shard)}:due"


def due(shard: int, host: str) -> str:
    return f"{tag(shard)}:due:{host}"


def host_inflight(host: str) -> str:
    return f"{{h:{host}}}:inflight"


def host_health(host: str) -> str:
    return f"{{h:{host}}}:health"


def stats(shard: int) -> str:
    return f"{tag(shard)}:stats"


def reel(ask: str) -> str:
    return f"{{f:{ask}}}:reel"


def flight(ask: str) -> str:
    return f"{{f:{ask}}}:flight"


def flight_waiting(ask: str) -> str:
    return f"{{f:{ask}}}:waiting"


def archive_object(digest: str) -> str:
    return f"{{archive}}:object:{digest}"


def archive_owners(digest: str) -> str:
    return f"{{archive}}:owners:{digest}"


def archive_of(owner: str) -> str:
    return f"{{archive}}:of:{owner}"


def archive_names_of(owner: str) -> str:
    return f"{ARCHIVE_NAMES}:{owner}"


def archive_media(media_id: str) -> str:
    return f"{{archive}}:media:{media_id}"


def archive_asked(digest: str) -> str:
    return f"{{archive}}:asked:{digest}"


def archive_account(account_id: str) -> str:
    return f"{{archive}}:account:{account_id}"


def archive_account_used(account_id: str) -> str:
    return f"{{archive}}:account:{account_id}:used"


def archive_lock(what: str) -> str:
    return f"{{archive}}:lock:{what}"


def email(address: str) -> str:
    return f"g:email:{address}"


def api_key(key_id: str) -> str:
    return f"g:key:{key_id}"


# Of one slot: a try to log in is counted by address and by account in one step.
def login_from(network: str) -> str:
    return f"{{login}}:from:{network}"


def login_at(bucket: int) -> str:
    return f"{{login}}:at:{bucket:04x}"


def signups(network: str) -> str:
    return f"{{login}}:made:{network}"
