"""The pool of Instagram sessions as a worker sees it: one client at a time, given back with a verdict."""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from instagrapi import Client

from service.domain.errors import FetchError, NoSessionFree, SessionVerdict, StoreUnavailable, UpstreamBlocked
from service.domain.instagram import Leased, Unavailable
from service.domain.ports.instagram import SessionStore
from workers.sources import transport
from workers.sources.verdicts import DEFAULT_RESTS, RestTimes, escalate

log = structlog.get_logger(__name__)

ClientFactory = Callable[[dict[str, Any], str | None], Any]

WAIT_SECONDS = 1.0
# Longer than the calls of one fetch can take together, each at its timeout.
LEASE_SECONDS = 90.0
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25

UNUSABLE = SessionVerdict("unusable_settings", quarantine=True)

# Ours to decide, not a settings file's: it must neither bring instagrapi's sleeps and retries back
# nor turn the check of certificates off.
OURS = frozenset({
    "request_timeout", "public_request_retries_count", "public_request_retries_timeout",
    "session_retry_total", "session_retry_backoff_factor", "session_retry_statuses",
    "public_transport", "private_transport", "public_transport_impersonate", "tls_verify",
})  # fmt: skip
# Renewed by nearly every answer (routing hints), or per start of the app; losing them is harmless.
NOISE = frozenset({"ig_u_rur", "last_login"})
NOISY_COOKIES = frozenset({"rur"})
NOISY_IDS = frozenset({"client_session_id", "request_id", "tray_session_id"})


def client_factory(
    *,
    redirect_to: str | None = None,
    connect_timeout: float = transport.CONNECT_TIMEOUT,
    read_timeout: float = transport.READ_TIMEOUT,
) -> ClientFactory:
    """Return a function (settings, proxy URL) -> instagrapi ``Client`` that neither sleeps nor asks.

    ``redirect_to`` sends its traffic to a simulated Instagram instead; timeouts are in seconds.
    """

    def build(settings: dict[str, Any], proxy: str | None) -> Client:
        kept = {key: value for key, value in settings.items() if key not in OURS}
        client = Client(
            kept,
            proxy=proxy,
            with_challenge_flow=False,  # the default may call input()
            request_timeout=0,  # a sleep before each call, despite its name
            session_retry_total=0,
            public_request_retries_count=1,
        )
        transport.prepare(
            client, redirect_to=redirect_to, connect_timeout=connect_timeout, read_timeout=read_timeout
        )
        return client

    _quieten()
    return build


@dataclass
class Lent:
    """A client in use: how many calls may be made with it, and how many were."""

    client: Any
    granted: int
    used: int = 0

    @property
    def left(self) -> int:
        return self.granted - self.used

    def spend(self) -> None:
        """Count a call that is about to be made.

        Raises UpstreamBlocked when all granted ones were: another lease, of this session or another one,
        may be granted more.
        """
        if not self.left:
            raise UpstreamBlocked
        self.used += 1


class SessionPool:
    """Leases sessions and keeps their clients; any number of threads may share one pool.

    A client is taken out of the cache while it is used, and the lease in the store keeps other
    processes away, so nobody ever shares one.
    """

    def __init__(
        self,
        sessions: SessionStore,
        factory: ClientFactory,
        *,
        wait_seconds: float = WAIT_SECONDS,
        lease_seconds: float = LEASE_SECONDS,
        rests: RestTimes = DEFAULT_RESTS,
    ) -> None:
        self.rests = rests
        self._sessions = sessions
        self._factory = factory
        self._wait_seconds = wait_seconds
        self.lease_seconds = lease_seconds
        self._cache: dict[str, tuple[int, Any]] = {}
        # What an outage of the store kept from being given back; sooner than its lease ends it.
        self._unreturned: list[_Return] = []
        self._lock = threading.Lock()

    @contextmanager
    def client(self, calls: int = 1, least: int = 1, *, gives_way: bool = False) -> Iterator[Lent]:
        """Lend an instagrapi ``Client`` for ``calls`` calls.

        A FetchError raised inside decides on its session. Fewer calls are granted where the budgets have no
        more, but ``least`` of them; what is not used goes back. Who ``gives_way`` to callers looks at
        `wanted` between calls. Raises NoSessionFree when no session becomes free within ``wait_seconds``.
        """
        leased = self._lease(calls, least, gives_way)
        lent = Lent(self._take(leased), leased.granted)
        try:
            yield lent
        except FetchError as error:
            self._give_back(leased, lent, error.verdict)
            raise
        except BaseException:
            # Not a fetch's end: the client's state is unknown, the session's is not in doubt.
            self._return(_Return(leased, used=lent.used))
            raise
        self._give_back(leased, lent, None)

    def free(self) -> Unavailable | None:
        """Return why nobody who gives way may use a session now, None when one is free."""
        return self._sessions.free()

    def wanted(self) -> bool:
        """Tell whether a caller waits for a session."""
        return self._sessions.wanted()

    def _lease(self, calls: int, least: int, gives_way: bool) -> Leased:
        self._return_late()
        deadline = time.monotonic() + self._wait_seconds
        pause = FIRST_PAUSE
        while True:
            answer = self._sessions.lease(self.lease_seconds, calls, least, gives_way=gives_way)
            if isinstance(answer, Leased):
                return answer
            left = deadline - time.monotonic()
            soon = answer.retry_in is not None and answer.retry_in <= left
            if left <= 0 or not (answer.busy or soon):
                raise NoSessionFree(answer.wait, paced=answer.paced)
            # Jitter, so that waiting threads do not all ask at once.
            time.sleep(min(left, pause * random.uniform(0.5, 1)))  # noqa: S311
            pause = min(pause * 2, LONGEST_PAUSE)

    def _take(self, leased: Leased) -> Any:
        with self._lock:
            version, client = self._cache.pop(leased.name, (0, None))
        if version == leased.version:
            return client
        try:
            return self._factory(leased.settings, leased.proxy)
        except Exception as error:
            self._return(_Return(leased, UNUSABLE, used=0))
            log.warning("instagram_session_unusable", session=leased.name, error=type(error).__name__)
            raise UpstreamBlocked(verdict=UNUSABLE) from error

    def _give_back(self, leased: Leased, lent: Lent, verdict: SessionVerdict | None) -> None:
        client = lent.client
        if verdict is not None:
            verdict = escalate(verdict, leased.failure, leased.failures, self.rests)
            log.warning("instagram_session_failed", session=leased.name, reason=verdict.reason,
                        rest_seconds=verdict.rest_seconds, quarantine=verdict.quarantine)  # fmt: skip
        out = verdict is not None and verdict.quarantine
        # What Instagram takes away when it throws a session out is not worth keeping.
        changed = None if out else changed_settings(leased.settings, client)
        version = self._return(_Return(leased, verdict, changed, lent.used))
        if version is None or out:
            return  # lost, replaced or thrown out: the client goes
        client.last_response, client.last_json = None, {}  # a reel may be megabytes
        with self._lock:
            self._cache[leased.name] = (version, client)

    def _return(self, held: _Return) -> int | None:
        """Give a session back, now or when the store is there again; what was fetched with it is good."""
        try:
            return self._sessions.release(held.leased, held.verdict, held.changed, held.used)
        except StoreUnavailable:
            with self._lock:
                self._unreturned.append(held)
            return None

    def _return_late(self) -> None:
        """Give back what could not be given back before. A lease that ended meanwhile changes nothing."""
        with self._lock:
            late, self._unreturned = self._unreturned, []
        for held in late:
            self._return(held)


@dataclass(frozen=True)
class _Return:
    """A session on its way back, with what became of it."""

    leased: Leased
    verdict: SessionVerdict | None = None
    changed: dict[str, Any] | None = None
    used: int | None = None


def changed_settings(stored: dict[str, Any], client: Any) -> dict[str, Any] | None:
    """Return a client's settings if they differ from the stored ones in more than noise."""
    settings = {key: value for key, value in client.get_settings().items() if key not in OURS}
    return None if _lasting(settings) == _lasting(stored) else settings


def _lasting(settings: dict[str, Any]) -> str:
    """Return the part of settings that is worth a write, in a form that compares."""
    kept = {key: value for key, value in settings.items() if key not in OURS | NOISE}
    for part, noisy in (("cookies", NOISY_COOKIES), ("uuids", NOISY_IDS)):
        if isinstance(kept.get(part), dict):
            kept[part] = {key: value for key, value in kept[part].items() if key not in noisy}
    return json.dumps(kept, sort_keys=True)


def _quieten() -> None:
    """Keep instagrapi's chatter out of our logs: it names proxies and quotes answers."""
    for name in ("instagrapi", "private_request", "public_request", "graphql_request"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
