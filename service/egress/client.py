"""Sends requests to addresses that others chose."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import certifi
import urllib3

from service.domain.addresses import AddressPolicy
from service.domain.deliveries import BAD_ANSWER
from service.egress.deadline import Deadline
from service.egress.dialler import Dialler
from service.egress.errors import EgressError, in_our_words
from service.egress.lookups import OWNER_MOST, Lookups, Resolver, system_resolver
from service.egress.patience import capped
from service.egress.pool import ANSWER_MAX, Bounded, BoundedHead, pool_manager
from service.egress.stream import Stream

# Nothing is followed, repeated, read ahead or unpacked.
_PLAIN: dict[str, Any] = {
    "redirect": False,
    "retries": False,
    "preload_content": False,
    "decode_content": False,
}


@dataclass(frozen=True)
class Answer:
    """What came back: the status, the headers, and at most ANSWER_MAX bytes of the body, as sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Egress:
    """Sends requests to addresses others chose. Threads may share it.

    Durations are seconds: to connect, without a byte of a stream (by default as long as all of it may
    take), and for the whole of an exchange or stream. ``lookups_each`` bounds the look-ups of names of one
    owner, see `Lookups`.
    """

    def __init__(
        self,
        policy: AddressPolicy,
        *,
        connect_timeout: float,
        total_timeout: float,
        idle_timeout: float | None = None,
        ca_file: str | None = None,
        resolver: Resolver = system_resolver,
        lookups_each: int = OWNER_MOST,
    ) -> None:
        idle = total_timeout if idle_timeout is None else idle_timeout
        self._total_timeout = total_timeout
        self._whole = urllib3.Timeout(connect=connect_timeout, read=total_timeout)
        self._piecewise = urllib3.Timeout(connect=connect_timeout, read=idle)
        context = ssl.create_default_context(cafile=certifi.where())
        if ca_file:
            context.load_verify_locations(ca_file)
        dialler = Dialler(policy, Lookups(resolver, lookups_each), connect_timeout)
        self._exchanges = pool_manager(dialler, context, Bounded, total_timeout)
        self._streams = pool_manager(dialler, context, BoundedHead, idle)

    def post(self, url: str, body: bytes, headers: Mapping[str, str], owner: str | None = None) -> Answer:
        """POST ``body`` on behalf of ``owner`` and return the answer, whatever its status.

        Raises EgressError.
        """
        with Deadline(capped(self._total_timeout), owner) as deadline, in_our_words(deadline):
            response = self._exchanges.request(
                "POST", url, body=body, headers=headers, timeout=self._whole, **_PLAIN
            )
            try:
                content = response.read(ANSWER_MAX, decode_content=False)
            finally:
                # A body that was read to its end has given its connection back; any other goes.
                response.close()
            return Answer(response.status, response.headers, content)

    def get(self, url: str, headers: Mapping[str, str]) -> Stream:
        """GET ``url`` and return the answer, its body still to come; to be closed.

        Raises EgressError, also for a redirect.
        """
        deadline = Deadline(capped(self._total_timeout))
        with ExitStack() as undone:
            undone.callback(deadline.cancel)
            with deadline.outlasting(), in_our_words(deadline):
                response = self._streams.request(
                    "GET", url, headers=headers, timeout=self._piecewise, **_PLAIN
                )
                undone.callback(response.close)
                if response.status // 100 == 3:
                    raise EgressError(BAD_ANSWER, "it leads elsewhere")
            undone.pop_all()
        return Stream(response, deadline)
