"""How instagrapi's requests reach the wire: with a timeout always, to another address on demand.

instagrapi passes no timeout and sleeps a minute on a 408. Both are put right by adapters mounted on
Instagram's own addresses: ``requests`` picks the longest matching prefix, so they outlast the
``https://`` adapter that instagrapi mounts anew in ``init()`` and ``set_settings()``.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit, urlunsplit

import orjson
import requests
from requests.adapters import BaseAdapter, HTTPAdapter

from service.domain.errors import ConfigurationError

ADDRESSES = (
    "https://i.instagram.com/",
    "https://b.i.instagram.com/",
    "https://www.instagram.com/",
    "https://graph.instagram.com",
    "https://scontent",
)
CONNECT_TIMEOUT = 3.05
READ_TIMEOUT = 20.0


class TimedAdapter(BaseAdapter):
    """Sends through whatever the session itself mounted for ``https://``, with a timeout."""

    def __init__(self, session: requests.Session, timeout: tuple[float, float]) -> None:
        super().__init__()
        self._session = session
        self._timeout = timeout

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Raises requests.ReadTimeout for a 408, besides what the session's adapter raises."""
        kwargs["timeout"] = kwargs.get("timeout") or self._timeout
        return _quick_to_parse(_refuse_408(self._session.adapters["https://"].send(request, *args, **kwargs)))

    def close(self) -> None:
        """Nothing of its own to close."""


class RedirectAdapter(HTTPAdapter):
    """Sends to ``base_url`` what was meant for Instagram, over plain pooled HTTP without a proxy."""

    def __init__(self, base_url: str, timeout: tuple[float, float]) -> None:
        super().__init__(pool_connections=1)
        base = urlsplit(base_url)
        if base.scheme != "http" or not base.netloc:
            raise ConfigurationError(
                "The address to redirect Instagram's traffic to must be http://host:port."
            )
        self._netloc = base.netloc
        self._timeout = timeout

    def send(
        self, request: requests.PreparedRequest, stream: bool = False, timeout: Any = None, *_: Any, **__: Any
    ) -> requests.Response:
        """Raises requests.ReadTimeout for a 408 and requests.ConnectionError for a body cut short."""
        meant = urlsplit(str(request.url))
        rewritten = request.copy()
        rewritten.url = urlunsplit(meant._replace(scheme="http", netloc=self._netloc))
        rewritten.headers.setdefault("Host", meant.netloc)
        response = super().send(rewritten, stream=stream, timeout=timeout or self._timeout, proxies={})
        response.url, response.request = str(request.url), request
        _refuse_408(response)
        if not stream:
            _read_whole(response)
        return _quick_to_parse(response)


def prepare(client: Any, *, redirect_to: str | None, connect_timeout: float, read_timeout: float) -> None:
    """Mount the adapters on an instagrapi ``Client``; timeouts are in seconds.

    ``redirect_to`` (``http://host:port``) sends everything there instead of to Instagram, session
    secrets included: it is for a simulated Instagram. Raises ConfigurationError for another scheme.
    """
    timeout = (connect_timeout, read_timeout)
    redirection = RedirectAdapter(redirect_to, timeout) if redirect_to else None
    for session in (client.private, client.public, client.graphql):
        adapter = redirection or TimedAdapter(session, timeout)
        for address in ADDRESSES:
            session.mount(address, adapter)


def redirect(client: Any, base_url: str) -> None:
    """Send all of a client's traffic to ``base_url``, with the default timeouts."""
    prepare(client, redirect_to=base_url, connect_timeout=CONNECT_TIMEOUT, read_timeout=READ_TIMEOUT)


def _refuse_408(response: requests.Response) -> requests.Response:
    """Make a 408 the timeout it says it is; instagrapi would sleep 60 s and send again."""
    if response.status_code == requests.codes.request_timeout:
        response.close()
        raise requests.ReadTimeout("HTTP 408", request=response.request, response=response)
    return response


def _quick_to_parse(response: requests.Response) -> requests.Response:
    """Let ``json()`` parse with orjson; whatever that refuses the standard library is asked about.

    Parsing was a quarter of a worker's CPU. Integers of 64 bits stay exact, which all of Instagram's are.
    """
    if type(response) is requests.Response:
        response.__class__ = _Quick
    return response


class _Quick(requests.Response):
    def json(self, **options: Any) -> Any:
        try:
            return orjson.loads(self.content)
        except orjson.JSONDecodeError:
            # NaN is no JSON: nobody who gets it from us could read it.
            return super().json(**{"parse_constant": lambda _: None, **options})


def _read_whole(response: requests.Response) -> None:
    """Read the body now; cut short, instagrapi would sleep 2 s and send again, as curl's does not."""
    try:
        response.content  # noqa: B018 - reading it is the point
    except requests.exceptions.ChunkedEncodingError as error:
        raise requests.ConnectionError("the body was cut short", request=response.request) from error
