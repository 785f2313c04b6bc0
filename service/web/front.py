"""The front door, an ASGI app: reads a body, admits the call, runs the WSGI app, sends the answer.

Threads do nothing but the work: who sends or reads slowly, or waits to be admitted, holds none.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from service.domain.admission import (
    FREE,
    LINK,
    PIECES,
    PLACE,
    REFUSAL,
    REFUSED_SECONDS,
    RETRY_AFTER,
    STRANGER,
    Admission,
    Gate,
    Place,
)
from service.domain.errors import StoryhookError, TooBusy
from service.web.bodies import SMALL, Body, Gone, Receive, Send, send_in_time
from service.web.connections import LINE, Line
from service.web.starting import Starting
from service.web.wsgi import Answer, App, Environ, call, environ_of

log = structlog.get_logger(__name__)
T = TypeVar("T")

REFUSED = (401, 429)


@dataclass(frozen=True)
class House:
    """What the front door has to know of the app behind it."""

    cost_of: Callable[[str, str], str]
    is_public: Callable[[str], bool]
    credential_of: Callable[[Environ], str]
    address_of: Callable[[Environ], str]
    body_most: Callable[[str], int]


@dataclass
class Call:
    """A call under way: whose share it takes, and what it holds."""

    environ: Environ
    line: Line
    holder: str
    cost: str
    place: Place | None = None


class Front:
    """The ASGI app. Until it has ``app`` it says what it waits for."""

    def __init__(self, admission: Admission, house: House) -> None:
        self._admission = admission
        self._house = house
        self._pool = ThreadPoolExecutor(admission.threads, thread_name_prefix="call")
        self.starting = Starting()
        self.app: App = self.starting
        # Remembers whose the call is. Raises Unauthorized, Forbidden, StoreUnavailable.
        self.authenticate: Callable[[Environ], object] = _nobody

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        environ = environ_of(scope)
        one = Call(environ, scope["extensions"][LINE], *self._share_of(environ))
        try:
            await self._send(send, await self._answer(one, receive), one)
        except Gone:
            return
        finally:
            self._leave(one)

    def _share_of(self, environ: Environ) -> tuple[str, str]:
        """Return whose share a call takes - an account's, or else an address's - and what it costs."""
        path = environ["PATH_INFO"]
        cost = self._house.cost_of(environ["REQUEST_METHOD"], path)
        credential = self._house.credential_of(environ)
        account = self._admission.callers.account_of(credential)
        if account is not None:
            return account, cost
        address = self._house.address_of(environ)
        if cost == FREE or self._house.is_public(path):
            return address, cost
        # Who has a key that is new here does not queue behind those who have none.
        return address if credential else f"{address}, without a key", STRANGER

    async def _answer(self, one: Call, receive: Receive) -> Answer:
        """Return the answer; one that is given before the whole body was read ends the connection."""
        most = self._house.body_most(one.environ["PATH_INFO"])
        body = Body(receive, self._admission.bodies, one.holder, most)
        try:
            answer = await self._admitted(one, body)
        except StoryhookError as refusal:
            one.environ[REFUSAL] = refusal  # touches neither store nor key: answered right here
            answer = call(self.app, one.environ, _in_pieces)
        finally:
            body.release()
        if _has_body(one.environ) and not body.whole:
            answer.headers.append((b"connection", b"close"))
        if answer.status == 429 and _has_large_body(one.environ):
            self._admission.told.tell(one.holder, answer.retry_after)
        if one.cost != LINK:
            self._leave(one, refused=answer.status in REFUSED)
        return answer

    async def _admitted(self, one: Call, body: Body) -> Answer:
        """Return what the app answers. Raises why it is not asked."""
        self._check(one)
        if _has_large_body(one.environ):
            await self._introduce(one)
            self._admission.told.check(one.holder)
        if _has_body(one.environ):
            one.environ["wsgi.input"] = io.BytesIO(await body.read())
        await self._enter(one)
        self._check(one)  # what it had to wait for may have been its own
        return await self._in_thread(lambda: call(self.app, one.environ, _in_pieces))

    async def _introduce(self, one: Call) -> None:
        """Find out whose the call of a stranger is, before much is read for it.

        Raises what authenticating it does, RateLimited, TooBusy.
        """
        if one.cost == STRANGER:
            await self._enter(one)
            await self._in_thread(lambda: self.authenticate(one.environ))
            self._leave(one)
            one.holder, one.cost = self._share_of(one.environ)

    def _check(self, one: Call) -> None:
        """Raise RateLimited, TooBusy where answers nobody reads, or bodies, are too many already."""
        if one.cost != FREE:
            self._admission.bodies.check(one.holder)

    async def _enter(self, one: Call) -> None:
        if one.cost != FREE:
            gate = self._admission.gates[one.cost]
            await gate.enter(one.holder)
            one.place = one.environ[PLACE] = Place(gate, one.holder)

    def _leave(self, one: Call, *, refused: bool = False) -> None:
        place, one.place = one.place, None
        if place is None:
            return
        if refused:  # or whoever asks again at once would keep the process busy
            asyncio.get_running_loop().call_later(REFUSED_SECONDS, place.leave)
        else:
            place.leave()

    async def _send(self, send: Send, answer: Answer, one: Call) -> None:
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        try:
            if answer.pieces is None:
                await self._send_whole(send, answer.body, one)
            else:
                await self._send_pieces(send, answer, one)
        except TimeoutError:
            one.line.hang_up(at_once=True)

    async def _send_whole(self, send: Send, body: bytes, one: Call) -> None:
        large = max(len(body) - SMALL, 0)
        self._admission.bodies.add(one.holder, large)
        try:
            await send_in_time(send, body, more=False)
        finally:
            self._admission.bodies.give(one.holder, large)

    async def _send_pieces(self, send: Send, answer: Answer, one: Call) -> None:
        pieces = answer.pieces or iter(())
        gate = self._admission.gates.get(one.environ[PIECES])
        try:
            while not one.line.gone and (piece := await self._next(pieces, gate, one.holder)) is not None:
                await send_in_time(send, piece, more=True)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except StoryhookError as error:
            log.info("http.cut_off", path=one.environ["PATH_INFO"], code=error.code)
            one.line.hang_up(at_once=False)
        finally:
            await self._in_thread(answer.close)

    async def _next(self, pieces: Iterator[bytes], gate: Gate | None, holder: str) -> bytes | None:
        """Return the next piece, None at the end; it is made under a place of ``gate``."""
        if gate is None:
            return await self._in_thread(lambda: next(pieces, None))
        await gate.enter(holder, patiently=True)  # it has begun, and is to come to its end
        try:
            return await self._in_thread(lambda: next(pieces, None))
        finally:
            gate.give(holder)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def _nobody(environ: Environ) -> object:
    raise TooBusy("The service is starting. Try again shortly.", retry_after=RETRY_AFTER)


def _has_large_body(environ: Environ) -> bool:
    return "HTTP_TRANSFER_ENCODING" in environ or _length(environ) > SMALL


def _has_body(environ: Environ) -> bool:
    return "HTTP_TRANSFER_ENCODING" in environ or _length(environ) > 0


def _length(environ: Environ) -> int:
    return int(environ.get("CONTENT_LENGTH", 0))  # digits: else the server refuses the call itself


def _in_pieces(environ: Environ) -> bool:
    return PIECES in environ
