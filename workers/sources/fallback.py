"""Several upstreams as one: an ask goes to the first that serves it, and on to the next when that fails."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import structlog

from service.domain.errors import (
    FetchError,
    NoSessionFree,
    Retry,
    UpstreamBlocked,
    UpstreamFailed,
    UpstreamTimeout,
)
from service.domain.operations import STORIES, Ask
from service.domain.targets import named
from service.egress.patience import within
from workers.sources.circuit import Circuit
from workers.sources.contract import Found, GoOn, Source, always

log = structlog.get_logger(__name__)

# What speaks of the upstream and not of what was asked for; all else is an answer.
TROUBLE = (UpstreamBlocked, UpstreamTimeout, UpstreamFailed)
HOPE = (Retry.AGAIN, Retry.ELSEWHERE, Retry.NEVER)
# The name of an account that nobody in particular has: a source that serves it serves any.
ANYBODY = Ask(STORIES, named("instagram"))


class Fallback:
    """A Source over others, in order of preference. Threads may share it.

    Each source has a circuit of its own in this process; it counts where another one can answer as well.
    ``seconds`` is how long each may take for one thing, so that there is time for the next.
    """

    name = "fallback"

    def __init__(
        self, sources: Sequence[Source], circuit: Callable[[], Circuit] = Circuit, seconds: float = math.inf
    ) -> None:
        self._seconds = seconds
        self._links = [(source, circuit()) for source in sources]

    def serves(self, ask: Ask) -> bool:
        """Tell whether any of them may be asked; see `Source.serves`."""
        return any(source.serves(ask) for source, _ in self._links)

    def fetch(self, ask: Ask) -> Found:
        """Ask one after the other until one gives an answer; see `Source.fetch`.

        Raises NoSessionFree when nobody was really asked, else the failure that leaves most hope.
        """
        links = list(self._serving(ask))
        if not links:
            raise UpstreamFailed("No source of this service can answer this.", retry=Retry.NEVER)
        failures: list[FetchError] = []
        for source, circuit in links:
            try:
                with within(self._seconds):
                    return _through(circuit, source, ask, alone=len(links) == 1)
            except TROUBLE as error:
                failures.append(error)
                log.info("source.passed_over", source=source.name, operation=ask.operation, code=error.code)
        raise _worth_most(failures)

    def reels(self, usernames: Sequence[str], go_on: GoOn = always) -> dict[str, Found | FetchError]:
        """Let each name's first source group it; see `Source.reels`.

        What is missing is asked for alone, and reaches the other sources then.
        """
        groups: dict[int, list[str]] = {}
        for name in usernames:
            order = self._first(Ask(STORIES, named(name.lower())))
            if order is not None:
                groups.setdefault(order, []).append(name)
        found: dict[str, Found | FetchError] = {}
        unserved: list[FetchError] = []
        for order, names in groups.items():
            try:
                found |= self._links[order][0].reels(names, go_on)
            except NoSessionFree as error:
                unserved.append(error)
        if unserved and not found and self.unserved() is not None:
            raise _worth_most(unserved)
        return found

    def unserved(self) -> NoSessionFree | None:
        """Tell whether any source of stories can be asked; see `Source.unserved`."""
        why: list[FetchError] = []
        for source, circuit in self._serving(ANYBODY):
            closed = _left_alone(circuit) or source.unserved()
            if closed is None:
                return None
            why.append(closed)
        return _soonest([each for each in why if isinstance(each, NoSessionFree)]) if why else None

    def _serving(self, ask: Ask) -> Iterator[tuple[Source, Circuit]]:
        return ((source, circuit) for source, circuit in self._links if source.serves(ask))

    def _first(self, ask: Ask) -> int | None:
        """Return the place of the first source that may be asked now."""
        may = (order for order, (source, circuit) in enumerate(self._links)
               if source.serves(ask) and not circuit.wait())  # fmt: skip
        return next(may, None)


def _through(circuit: Circuit, source: Source, ask: Ask, *, alone: bool) -> Found:
    """Ask one source through its circuit, which does not hold back one that is ``alone``.

    Raises FetchError; NoSessionFree where the circuit is open.
    """
    number = circuit.enter()
    if number is None:
        if alone:
            return source.fetch(ask).given_by(source.name)
        raise NoSessionFree(circuit.wait())
    failed: bool | None = None
    try:
        found = source.fetch(ask)
        failed = False
    except NoSessionFree:
        raise
    except FetchError as error:
        failed = isinstance(error, TROUBLE)
        raise
    finally:
        circuit.leave(number, failed)
    return found.given_by(source.name)


def _left_alone(circuit: Circuit) -> NoSessionFree | None:
    wait = circuit.wait()
    return NoSessionFree(wait) if wait else None


def _worth_most(failures: Sequence[FetchError]) -> FetchError:
    """Return the failure to end with."""
    made = [error for error in failures if not isinstance(error, NoSessionFree)]
    if made:
        return min(made, key=lambda error: HOPE.index(error.retry))
    return _soonest([error for error in failures if isinstance(error, NoSessionFree)])


def _soonest(waits: Sequence[NoSessionFree]) -> NoSessionFree:
    return min(waits, key=lambda error: float("inf") if error.retry_in is None else error.retry_in)
