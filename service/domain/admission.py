"""Who may go on now: so many places of a kind in a process, shared among those who ask.

A share is what one holder - an account, or the address of a stranger - may have while others are there.
Beyond it a holder gets more only while half of everything is free, so nobody is refused because of one
who takes all there is, and one who is alone is not held back much.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from hashlib import blake2b
from threading import Lock

from service.domain.errors import RateLimited, TooBusy

SHARES = 4  # one holder's share is a quarter
QUEUED_MOST = 1_024
QUEUED_MOST_EACH = QUEUED_MOST // 2
RETRY_AFTER = 2


class Places:
    """So many places (or bytes), shared. Thread-safe."""

    def __init__(self, name: str, total: int) -> None:
        self.name = name
        self.total = total
        self._share = max(total // SHARES, 1)
        self._held: Counter[str] = Counter()
        self._lock = Lock()

    @property
    def free(self) -> int:
        return self.total - self._held.total()

    def take(self, holder: str, count: int = 1) -> bool:
        """Take ``count`` places at once, or none of them."""
        with self._lock:
            fits = self._fits(holder, count)
            if fits:
                self._held[holder] += count
            return fits

    def add(self, holder: str, count: int) -> None:
        """Count what is there already, whether it fits or not: what comes next is refused then."""
        with self._lock:
            self._held[holder] += count

    def check(self, holder: str) -> None:
        """Raises RateLimited, TooBusy where ``holder`` has some and could take no more.

        Whoever has none is let in, whatever others have.
        """
        with self._lock:
            fits = not self._held[holder] or self._fits(holder, 1)
        if not fits:
            raise self.refusal(holder)

    def give(self, holder: str, count: int = 1) -> None:
        """Give back what was taken."""
        with self._lock:
            self._drop(holder, count)

    def refusal(self, holder: str) -> RateLimited | TooBusy:
        """Return the error for a holder who gets no place: it says whether its own calls fill them."""
        if self._held[holder] >= self._share:
            return RateLimited(
                f"Too many of your calls are under way at a time (limit: {self.name}). Try again shortly.",
                retry_after=RETRY_AFTER,
            )
        return TooBusy(
            f"Too many calls are under way at a time (limit: {self.name}). Try again shortly.",
            retry_after=RETRY_AFTER,
        )

    def _fits(self, holder: str, count: int) -> bool:
        free = self.free
        if count > free:
            return False
        return self._held[holder] + count <= self._share or free - count >= self.total // 2

    def _drop(self, holder: str, count: int) -> None:
        self._held[holder] -= count
        if self._held[holder] <= 0:
            del self._held[holder]


class Gate(Places):
    """Places for which callers wait shortly, without a thread. Waiting belongs to one event loop.

    The next one is of the holder with the fewest places, and of several the one that came first.
    """

    def __init__(self, name: str, total: int, patience: float) -> None:
        super().__init__(name, total)
        self._patience = patience
        self._queue: dict[str, deque[asyncio.Future[None]]] = {}
        self._queued = 0

    async def enter(self, holder: str, *, patiently: bool = False) -> None:
        """Take a place; waits up to ``patience`` seconds, or ``patiently``. Raises RateLimited, TooBusy."""
        turn = self._queue_up(holder)
        if turn is None:
            return
        try:
            async with asyncio.timeout(None if patiently else self._patience):
                await turn
        except BaseException as error:
            if not self._withdraw(holder, turn):
                self.give(holder)  # granted meanwhile, and nobody is there any more
            if isinstance(error, TimeoutError):
                raise self.refusal(holder) from None
            raise

    def give(self, holder: str, count: int = 1) -> None:
        with self._lock:
            self._drop(holder, count)
            while self._grant_next():
                pass

    def _queue_up(self, holder: str) -> asyncio.Future[None] | None:
        """Return None for a place at once, else what is done when there is one. Raises as `enter`."""
        with self._lock:
            if holder not in self._queue and self._fits(holder, 1):
                self._held[holder] += 1
                return None
            queue = self._queue.get(holder, ())
            if self._queued >= QUEUED_MOST or len(queue) >= QUEUED_MOST_EACH:
                raise self.refusal(holder)
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._queue.setdefault(holder, deque()).append(turn)
            self._queued += 1
            return turn

    def _withdraw(self, holder: str, turn: asyncio.Future[None]) -> bool:
        """Leave the queue; False when the place was granted already."""
        with self._lock:
            queue = self._queue.get(holder)
            if queue is None or turn not in queue:
                return False
            queue.remove(turn)
            self._forget(holder)
            return True

    def _grant_next(self) -> bool:
        """Give a free place to whose turn it is; False when there is none, or nobody."""
        waiting = [holder for holder in self._queue if self._fits(holder, 1)]
        if not waiting:
            return False
        holder = min(waiting, key=lambda each: self._held[each])
        turn = self._queue[holder].popleft()
        self._held[holder] += 1
        # To the end: of holders with as many places the one that had its turn longest ago comes first.
        self._queue[holder] = self._queue.pop(holder)
        self._forget(holder)
        turn.get_loop().call_soon_threadsafe(_wake, turn)
        return True

    def _forget(self, holder: str) -> None:
        self._queued -= 1
        if not self._queue[holder]:
            del self._queue[holder]


def _wake(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


# Keys of a call's environment (PEP 3333), between the front door and the app.
PLACE = "storyhook.place"  # which the call holds; whoever waits gives it back before
REFUSAL = "storyhook.refusal"  # the error to answer with, and nothing else
PIECES = "storyhook.pieces"  # set by the app: its body is to be sent as it comes; each piece costs this

# What a call costs, by its route.
FREE = "free"  # answers at once
LOOK = "looks"
WORK = "calls that start work"
HEAVY = "heavy calls"  # scans, unpacks or parses a lot
HASH = "sign-ins"  # a hash that needs much memory
LINK = "files"
STRANGER = "calls without a valid key"

# Seconds a caller waits for a place.
PATIENCE = {LOOK: 5.0, WORK: 5.0, HEAVY: 10.0, HASH: 2.0, LINK: 10.0, STRANGER: 5.0}
# More threads than this at a time would only wait for the interpreter's lock.
PLACES = {LOOK: 4, WORK: 4, HEAVY: 1, HASH: min(os.cpu_count() or 1, 4), LINK: 12, STRANGER: 4}
SPARE_THREADS = 4
PIECE = 65_536  # bytes of a body that are a step to send or to read
BODIES_MOST = 32 * 1024 * 1024  # bytes of the bodies of calls and answers under way, small ones aside
KNOWN_MOST = 10_000
REFUSED_SECONDS = 0.02  # for which the place of a call is kept that was answered 401 or 429


class Place:
    """A place at a gate that was entered. Whoever leaves first gives it back, on any thread."""

    def __init__(self, gate: Gate, holder: str) -> None:
        self._gate = gate
        self._holder = holder
        self._lock = Lock()
        self._left = False

    def leave(self) -> None:
        with self._lock:
            left, self._left = self._left, True
        if not left:
            self._gate.give(self._holder)


class Told:
    """Who was told to come back later, and until when nothing large of theirs is read.

    For a few seconds at most: what they were over was one limit, and the next call may be about another.
    """

    MOST = 10.0  # seconds

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: OrderedDict[str, float] = OrderedDict()

    def tell(self, holder: str, seconds: float) -> None:
        self._until[holder] = self._clock() + min(seconds, self.MOST)
        self._until.move_to_end(holder)
        if len(self._until) > KNOWN_MOST:
            self._until.popitem(last=False)

    def check(self, holder: str) -> None:
        """Raises RateLimited."""
        remaining = self._until.get(holder, 0.0) - self._clock()
        if remaining > 0:
            raise RateLimited(
                "A limit of your calls was reached a moment ago; the body was not read. Try again later.",
                retry_after=math.ceil(remaining),
            )


class Callers:
    """The accounts of keys and tokens that were valid in this process, so that each holds one share.

    It only says whose share a call takes: every call is authenticated all the same.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, str] = OrderedDict()
        self._lock = Lock()

    def remember(self, credential: str, account_id: str) -> None:
        digest = _digest(credential)
        with self._lock:
            self._known[digest] = account_id
            self._known.move_to_end(digest)
            if len(self._known) > KNOWN_MOST:
                self._known.popitem(last=False)

    def account_of(self, credential: str) -> str | None:
        return self._known.get(_digest(credential)) if credential else None


def _digest(credential: str) -> bytes:
    return blake2b(credential.encode("utf-8", "surrogateescape"), digest_size=16).digest()


class Admission:
    """All that a process may have under way at a time: the one place that admits work."""

    def __init__(self, waiters: int) -> None:
        self.gates = {cost: Gate(cost, places, PATIENCE[cost]) for cost, places in PLACES.items()}
        # Each caller who waits for a result, or whom a file is handed through, holds a thread meanwhile.
        self.waits = Places("calls that wait", waiters)
        self.bodies = Places("bytes of bodies", BODIES_MOST)
        self.callers = Callers()
        self.told = Told()

    @property
    def threads(self) -> int:
        """How many threads there have to be, so that whoever has a place has one."""
        return sum(gate.total for gate in self.gates.values()) + self.waits.total + SPARE_THREADS
