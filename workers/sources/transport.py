"""How instagrapi's requests reach the wire: with limits always, to another address on demand.

instagrapi passes no timeout, takes answers of any size and sleeps a minute on a 408. This is put right by
adapters mounted on Instagram's own addresses: ``requests`` picks the longest matching prefix, so they outlast
the ``https://`` adapter that instagrapi mounts anew in ``init()`` and ``set_settings()``.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit, urlunsplit

import orjson
import requests
from curl_cffi import CurlECode, CurlOpt
from requests.adapters import BaseAdapter, HTTPAdapter

from service.domain.errors import ConfigurationError
from service.egress.patience import time_left, within
from workers.sources import bounds

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
    """Sends through what the session itself mounted for ``https://``, within limits of time and size.

    One of requests' own, which knows none, is left for ours.
    """

    def __init__(self, session: requests.Session, timeout: tuple[float, float]) -> None:
        super().__init__()
        self._session = session
        self._timeout = timeout
        self._own = bounds.BoundedAdapter()

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        """Raises requests.ReadTimeout for a 408, besides what the session's adapter raises."""
        kwargs |= {"timeout": kwargs.get("timeout") or self._timeout, "stream": True}
        mounted = self._session.adapters["https://"]
        sender = self._own if type(mounted) is HTTPAdapter else _of_bounded_size(mounted)
        return _quick_to_parse(_sent(sender, request, **kwargs))

    def close(self) -> None:
        self._own.close()


class RedirectAdapter(bounds.BoundedAdapter):
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
        sender = super()
        response = _sent(sender, rewritten, stream=True, timeout=timeout or self._timeout, proxies={})
        response.url, response.request = str(request.url), request
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


def _sent(sender: Any, request: requests.PreparedRequest, **options: Any) -> requests.Response:
    """Send a request and read all of its answer, within what both timeouts allow together.

    Raises UpstreamFailed for an answer that is too large, and what requests raises.
    """
    timeout = options["timeout"]
    connect, read = timeout if isinstance(timeout, tuple) else (0, timeout)
    try:
        whole = time_left(connect + read) or 0
        if isinstance(timeout, tuple):
            # curl takes the sum of both for the whole.
            options["timeout"] = (min(connect, whole), max(whole - connect, 0.001))
        with within(whole):
            return bounds.read_whole(_refuse_408(sender.send(request, **options)))
    except TimeoutError as error:
        raise requests.ReadTimeout(str(error), request=request) from error
    except requests.RequestException as error:
        if getattr(error.__cause__, "code", None) == CurlECode.FILESIZE_EXCEEDED:
            raise bounds.too_large() from error
        raise


def _of_bounded_size(adapter: Any) -> Any:
    """Have curl, which keeps what comes before anybody can count it, take no more than is wanted."""
    options = getattr(getattr(adapter, "client", None), "curl_options", None)
    if options is not None:
        options[CurlOpt.MAXFILESIZE_LARGE] = bounds.ANSWER_MAX
    return adapter


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
