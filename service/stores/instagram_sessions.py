"""The pool of Instagram sessions in Redis: leases, rests, quarantine. Secrets are stored encrypted.

All keys share the slot of ``{ig}``; none has a lifetime.

=======================  ======  =================================================================
``{ig}:session:<name>``  hash    state, reason, rested_until (ms), settings and proxy (encrypted),
                                 version, uses, last_used (ms), added_at (ms), failure, failures
``{ig}:sessions``        set     all names
``{ig}:ready``           zset    name -> ms when it may be used next: the end of its rest or lease,
                                 else when it was last used; names in quarantine are not in it
``{ig}:leases``          hash    name -> ``<number>:<ms when it ends>``, the token of who holds it
``{ig}:counter``         string  gives versions and tokens that are never used twice
=======================  ======  =================================================================
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from redis import Redis

from service.domain.errors import NotFound, SessionVerdict
from service.domain.instagram import (
    Leased,
    SessionRecord,
    SessionState,
    Unavailable,
    check_name,
    check_settings,
)
from service.stores import scripts
from service.stores.connection import store_adapter

NAMES = "{ig}:sessions"
READY = "{ig}:ready"
LEASES = "{ig}:leases"
COUNTER = "{ig}:counter"
UNREADABLE = SessionVerdict("unreadable_secret", quarantine=True)

_SHOWN = (
    "state", "reason", "rested_until", "version", "uses", "last_used", "added_at", "failure", "failures",
    "proxy",
)  # fmt: skip


@store_adapter
class InstagramSessions:
    """The pool. Times come from the server's clock; all changes are single steps there."""

    def __init__(self, redis: Redis, fernet: Fernet | MultiFernet) -> None:
        self._redis = redis
        self._fernet = fernet
        self._add = scripts.load(redis, "session_add")
        self._lease = scripts.load(redis, "session_lease")
        self._release = scripts.load(redis, "session_release")
        self._state = scripts.load(redis, "session_state")

    def add(self, name: str, settings: dict[str, Any], proxy: str | None = None) -> int:
        """Add a session, or replace the secret of one and make it active; return its version.

        ``settings`` are instagrapi's. Raises ValidationFailed for a bad name or settings without
        a login.
        """
        secrets = [self._seal(check_settings(settings)), self._seal(proxy) if proxy else ""]
        keys = [_key(check_name(name)), READY, LEASES, NAMES, COUNTER]
        return int(self._add(keys=keys, args=[name, *secrets]))

    def remove(self, name: str) -> None:
        """Delete a session with its secrets. Raises NotFound."""
        with self._redis.pipeline(transaction=True) as pipe:
            # The lease stays: added again at once, the account must not get a second holder.
            pipe.delete(_key(name))
            pipe.zrem(READY, name)
            pipe.srem(NAMES, name)
            if not pipe.execute()[0]:
                raise _unknown(name)

    def get(self, name: str) -> SessionRecord:
        """Return one session's record. Raises NotFound."""
        records = self._records([name])
        if not records:
            raise _unknown(name)
        return records[0]

    def list(self) -> Sequence[SessionRecord]:
        """Return all records, by name."""
        return self._records(sorted(cast(set[str], self._redis.smembers(NAMES))))

    def lease(self, seconds: float) -> Leased | Unavailable:
        """Take the least recently used session that may be used, for at most ``seconds``."""
        while True:
            answer = self._lease(keys=[READY, LEASES, COUNTER], args=[int(seconds * 1000)])
            if answer[0] != "leased":
                return Unavailable(retry_in=None if answer[1] < 0 else answer[1] / 1000, busy=int(answer[2]))
            leased = self._open(answer[1], answer[2])
            if leased is not None:
                return leased

    def release(
        self, leased: Leased, verdict: SessionVerdict | None = None, settings: dict[str, Any] | None = None
    ) -> int | None:
        """Give a session back with what became of it, and its settings when they changed.

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
        ]
        return int(self._release(keys=[_key(leased.name), READY, LEASES, COUNTER], args=args)) or None

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
        args = [name, state.value, reason, rest_seconds * 1000]
        if not self._state(keys=[_key(name), READY, LEASES], args=args):
            raise _unknown(name)

    def _open(self, name: str, token: str) -> Leased | None:
        """Read and decrypt a session just leased; None when it may not be used after all."""
        fields = ("state", "version", "settings", "proxy", "failure", "failures")
        state, version, settings, proxy, failure, failures = cast(
            tuple[Any, ...], self._redis.hmget(_key(name), fields)
        )
        if state is None:
            return None  # removed since
        if state == SessionState.QUARANTINED:
            self.release(Leased(name, token, int(version), {}))
            return None
        try:
            opened = self._unseal(settings), self._unseal(proxy) if proxy else None
        except InvalidToken:
            self.release(Leased(name, token, int(version), {}), UNREADABLE)
            return None
        return Leased(name, token, int(version), *opened, failure=failure, failures=int(failures))

    def _records(self, names: Sequence[str]) -> Sequence[SessionRecord]:
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.time()
            for name in names:
                pipe.hmget(_key(name), _SHOWN)
                pipe.hget(LEASES, name)
            (seconds, micros), *answers = pipe.execute()
        now = seconds * 1000 + micros // 1000
        rows = zip(names, answers[::2], answers[1::2], strict=True)
        return [_record(name, dict(zip(_SHOWN, values, strict=True)), token, now)
                for name, values, token in rows if values[0] is not None]  # fmt: skip

    def _seal(self, value: Any) -> str:
        return self._fernet.encrypt(json.dumps(value).encode()).decode()

    def _unseal(self, token: str) -> Any:
        return json.loads(self._fernet.decrypt(token.encode()))


def _record(name: str, fields: dict[str, str | None], token: str | None, now: int) -> SessionRecord:
    state, rested_until = SessionState(str(fields["state"])), int(fields["rested_until"] or 0)
    # The stored state is only rewritten by the next release; the rest itself ends on time.
    rested = state is SessionState.RESTING and rested_until <= now
    return SessionRecord(
        name=name,
        state=SessionState.ACTIVE if rested else state,
        reason="" if rested else fields["reason"] or "",
        rested_until=0 if rested else rested_until,
        leased=token is not None and int(token.rpartition(":")[2]) > now,
        has_proxy=bool(fields["proxy"]),
        version=int(fields["version"] or 0),
        uses=int(fields["uses"] or 0),
        last_used=int(fields["last_used"] or 0),
        added_at=int(fields["added_at"] or 0),
        failure=fields["failure"] or "",
        failures=int(fields["failures"] or 0),
    )


def _key(name: str) -> str:
    return f"{{ig}}:session:{name}"


def _unknown(name: str) -> NotFound:
    return NotFound(f"There is no Instagram session '{name}'.")
