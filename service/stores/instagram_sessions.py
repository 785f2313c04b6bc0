"""The pool of Instagram sessions in Redis: leases, budgets, rests, quarantine. Secrets are stored encrypted.

All keys share the slot of ``{ig}``; none but the last has a lifetime.

=======================  ======  =================================================================
``{ig}:session:<name>``  hash    state, reason, rested_until (ms), settings and proxy (encrypted),
                                 version, uses, last_used (ms), added_at (ms), failure, failures
``{ig}:sessions``        set     all names
``{ig}:ready``           zset    name -> ms when it may be used next: the end of its rest or lease,
                                 else when it was last used; one without calls left: the end of the
                                 window; names in quarantine are not in it
``{ig}:leases``          hash    name -> the token of who holds it: ``<number>:<ms when taken>:<calls
                                 granted>:<tag of the proxy>:<ms when it ends>``
``{ig}:budget``          hash    ``s:<name>:60``, ``s:<name>:3600``, ``p:<tag>:60``, ``p:<tag>:3600``
                                 -> ``<ms when the window began>:<calls>``; windows that are over are
                                 dropped by the housekeeping; ``o:<name>`` -> until when (ms) it is
                                 put off
``{ig}:proxies``         hash    name -> tag of its proxy: a keyed hash of the URL, which is encrypted
``{ig}:counter``         string  gives versions and tokens that are never used twice
``{ig}:wanted``          string  there while a caller waits for a session
=======================  ======  =================================================================
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
from collections.abc import Sequence
from typing import Any, cast

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from redis import Redis

from service.domain.errors import NotFound, SessionVerdict
from service.domain.instagram import (
    UNLIMITED,
    Leased,
    Pace,
    SessionRecord,
    SessionState,
    Unavailable,
    check_name,
    check_settings,
)
from service.domain.rows import Tell, moment, reading, whole
from service.stores import scripts
from service.stores.connection import store_adapter
from service.stores.rows import log_broken, readable

NAMES = "{ig}:sessions"
READY = "{ig}:ready"
LEASES = "{ig}:leases"
COUNTER = "{ig}:counter"
BUDGET = "{ig}:budget"
PROXIES = "{ig}:proxies"
WANTED = "{ig}:wanted"
LONGEST_WINDOW_MS = 3_600_000
# What a fetch takes that nobody has begun: see `workers.sources`.
LEAST_CALLS = 2
# Callers who wait ask again at least four times a second.
WANTED_MS = 500

UNREADABLE = SessionVerdict("unreadable_secret", quarantine=True)

_SHOWN = (
    "state", "reason", "rested_until", "version", "uses", "last_used", "added_at", "failure", "failures",
    "proxy",
)  # fmt: skip


@store_adapter
class InstagramSessions:
    """The pool. Times come from the server's clock; all changes are single steps there.

    ``tag_key`` keys the hashes that stand for proxies.
    """

    def __init__(
        self, redis: Redis, fernet: Fernet | MultiFernet, tag_key: bytes, pace: Pace = UNLIMITED
    ) -> None:
        self._redis = redis
        self._fernet = fernet
        self._tag_key = tag_key
        self._pace = pace
        self._add = scripts.load(redis, "session_add")
        self._lease = scripts.load(redis, "session_lease")
        self._release = scripts.load(redis, "session_release")
        self._state = scripts.load(redis, "session_state")
        self._prune = scripts.load(redis, "session_prune")

    def add(self, name: str, settings: dict[str, Any], proxy: str | None = None) -> int:
        """Add a session, or replace the secret of one and make it active; return its version.

        ``settings`` are instagrapi's. Raises ValidationFailed for a bad name or settings without
        a login.
        """
        secrets = [self._seal(check_settings(settings)), self._seal(proxy) if proxy else ""]
        keys = [_key(check_name(name)), READY, LEASES, NAMES, COUNTER, PROXIES]
        return int(self._add(keys=keys, args=[name, *secrets, self._tag(proxy)]))

    def remove(self, name: str) -> None:
        """Delete a session with its secrets. Raises NotFound, ValidationFailed."""
        with self._redis.pipeline(transaction=True) as pipe:
            # The lease stays: added again at once, the account must not get a second holder.
            pipe.delete(_key(check_name(name)))
            pipe.zrem(READY, name)
            pipe.srem(NAMES, name)
            # So do the calls it has made: they end with their window.
            pipe.hdel(PROXIES, name)
            if not pipe.execute()[0]:
                raise _unknown(name)

    def get(self, name: str) -> SessionRecord:
        """Return one session's record. Raises NotFound."""
        records = self._records([name], log_broken)
        if not records:
            raise _unknown(name)
        return records[0]

    def list(self, tell: Tell = log_broken) -> Sequence[SessionRecord]:
        """Return all records, by name; ``tell`` hears of those that cannot be read."""
        return self._records(sorted(cast(set[str], self._redis.smembers(NAMES))), tell)

    def lease(
        self, seconds: float, calls: int = 1, least: int = 1, *, gives_way: bool = False
    ) -> Leased | Unavailable:
        """Take the least recently used session that may be used, for at most ``seconds``.

        ``calls`` are what the caller would like to make; it is granted as many of them as the budgets
        have left, and not fewer than ``least`` (where a budget is that large at all). Who ``gives_way`` gets
        none while a caller waits for one; who does not is such a caller.
        """
        while True:
            answer = self._ask(seconds, calls, least, gives_way=gives_way)
            if answer[0] != "leased":
                return _unavailable(answer)
            leased = self._open(*answer[1:])
            if leased is not None:
                return leased

    def free(self) -> Unavailable | None:
        """Return why no session may be used now by somebody who gives way; None when one may."""
        answer = self._ask(0, 0, LEAST_CALLS, gives_way=True)
        return None if answer[0] == "free" else _unavailable(answer)

    def wanted(self) -> bool:
        """Tell whether a caller waits for a session: who works for nobody should let go of theirs."""
        return bool(self._redis.exists(WANTED))

    def _ask(self, seconds: float, calls: int, least: int, *, gives_way: bool) -> Sequence[Any]:
        pace = self._pace
        jitter = random.random()  # noqa: S311 - spreads load
        limits = (pace.session_minute, pace.session_hour, pace.proxy_minute, pace.proxy_hour)
        answer: Sequence[Any] = self._lease(
            keys=[READY, LEASES, COUNTER, BUDGET, PROXIES, WANTED],
            args=[int(seconds * 1000), calls, least, jitter, *limits, int(gives_way), WANTED_MS],
        )
        return answer

    def prune(self) -> int:
        """Forget budgets whose windows are over; return how many."""
        return int(self._prune(keys=[BUDGET], args=[LONGEST_WINDOW_MS]))

    def release(
        self,
        leased: Leased,
        verdict: SessionVerdict | None = None,
        settings: dict[str, Any] | None = None,
        used: int | None = None,
    ) -> int | None:
        """Give a session back with what became of it, and its settings when they changed.

        ``used`` is how many calls were made, None that it is not known: then all that were granted count.

        Returns the version now in force. None says that what was held is not the session any more:
        the lease had run out and another worker took it, or its secret was replaced, or it was
        removed; then neither verdict nor settings are taken over.
        """
        outcome = verdict or SessionVerdict("")
        args: list[str | int] = [
            leased.name,
            leased.token,
            leased.version,
            outcome.reason,
            outcome.rest_seconds * 1000,
            int(outcome.quarantine),
            self._seal(settings) if settings else "",
            "" if used is None else used,
        ]
        return int(self._release(keys=[_key(leased.name), READY, LEASES, COUNTER, BUDGET], args=args)) or None

    def rest(self, name: str, seconds: int, reason: str = "by_hand") -> None:
        """Keep a session from use for a while. Raises NotFound."""
        self._put(name, SessionState.RESTING, reason, seconds)

    def quarantine(self, name: str, reason: str = "by_hand") -> None:
        """Keep a session from use until it is resumed. Raises NotFound."""
        self._put(name, SessionState.QUARANTINED, reason)

    def resume(self, name: str) -> None:
        """End a session's rest or quarantine. Raises NotFound."""
        self._put(name, SessionState.ACTIVE)

    def _put(self, name: str, state: SessionState, reason: str = "", rest_seconds: int = 0) -> None:
        args = [check_name(name), state.value, reason, rest_seconds * 1000]
        if not self._state(keys=[_key(name), READY, LEASES], args=args):
            raise _unknown(name)

    def _open(self, name: str, token: str, granted: int, tag: str) -> Leased | None:
        """Read and decrypt a session just leased; None when it may not be used after all.

        A session without its proxy's tag, from a backup or an older version, gets it here: it counts from
        the next lease on.
        """
        fields = ("state", "version", "settings", "proxy", "failure", "failures")
        state, version, settings, proxy, failure, failures = cast(
            tuple[Any, ...], self._redis.hmget(_key(name), fields)
        )
        if state is None:
            return None  # removed since
        if state == SessionState.QUARANTINED:
            self.release(Leased(name, token, int(version), {}), used=0)
            return None
        try:
            opened = self._unseal(settings), self._unseal(proxy) if proxy else None
        except InvalidToken:
            self.release(Leased(name, token, int(version), {}), UNREADABLE, used=0)
            return None
        if tag != self._tag(opened[1]):
            self._redis.hset(PROXIES, name, self._tag(opened[1]))
        return Leased(name, token, int(version), *opened, failure, int(failures), int(granted))

    def _records(self, names: Sequence[str], tell: Tell) -> Sequence[SessionRecord]:
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.time()
            for name in names:
                pipe.hmget(_key(name), _SHOWN)
                pipe.hget(LEASES, name)
                pipe.hmget(BUDGET, f"s:{name}:60", f"s:{name}:3600")
            (seconds, micros), *answers = pipe.execute()
        now = seconds * 1000 + micros // 1000
        rows = zip(answers[::3], answers[1::3], answers[2::3], [now] * len(names), strict=True)
        found = readable(_record, names, rows, tell)
        return [record for record in found if record is not None]

    def _tag(self, proxy: str | None) -> str:
        """Return what stands for a proxy where its calls are counted, "" for none."""
        return hmac.new(self._tag_key, proxy.encode(), hashlib.sha256).hexdigest()[:32] if proxy else ""

    def _seal(self, value: Any) -> str:
        return self._fernet.encrypt(json.dumps(value).encode()).decode()

    def _unseal(self, token: str) -> Any:
        return json.loads(self._fernet.decrypt(token.encode()))


def _unavailable(answer: Sequence[Any]) -> Unavailable:
    retry_in = None if answer[1] < 0 else answer[1] / 1000
    return Unavailable(retry_in, busy=int(answer[2]), paced=bool(answer[3]))


def _record(name: str, row: tuple[Any, ...]) -> SessionRecord | None:
    """Turn what is stored of a session into its record, None when there is none. Raises BrokenRow."""
    values, token, budget, now = row
    if not any(values):
        return None
    with reading("session", name):
        fields = {field: value for field, value in zip(_SHOWN, values, strict=True) if value is not None}
        return _session(name, fields, token, budget, now)


def _session(
    name: str, fields: dict[str, str], token: str | None, budget: list[str | None], now: int
) -> SessionRecord:
    state, rested_until = SessionState(fields["state"]), moment(fields, "rested_until", 0)
    # The stored state is only rewritten by the next release; the rest itself ends on time.
    rested = state is SessionState.RESTING and rested_until <= now
    return SessionRecord(
        name=name,
        state=SessionState.ACTIVE if rested else state,
        reason="" if rested else fields.get("reason", ""),
        rested_until=0 if rested else rested_until,
        leased=token is not None and int(token.rpartition(":")[2]) > now,
        has_proxy=bool(fields.get("proxy")),
        version=whole(fields, "version", 0),
        uses=whole(fields, "uses", 0),
        last_used=moment(fields, "last_used", 0),
        added_at=moment(fields, "added_at", 0),
        failure=fields.get("failure", ""),
        failures=whole(fields, "failures", 0),
        calls_minute=_calls(budget[0], 60, now),
        calls_hour=_calls(budget[1], 3_600, now),
    )


def _calls(window: str | None, seconds: int, now: int) -> int:
    """Return the calls counted in a window, 0 when it is over."""
    start, _, count = (window or "0:0").partition(":")
    return int(count) if abs(now - int(start)) < seconds * 1000 else 0


def _key(name: str) -> str:
    return f"{{ig}}:session:{name}"


def _unknown(name: str) -> NotFound:
    return NotFound(f"There is no Instagram session '{name}'.")
