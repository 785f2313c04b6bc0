"""Photos and videos of Instagram's CDN, passed through as they come.

The guard of `service.egress` decides where a connection may go; here it is decided whose files are
fetched, and that what comes back is a photo or a video.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Self
from urllib.parse import SplitResult, urlsplit, urlunsplit

from service import __version__
from service.domain.addresses import AddressPolicy
from service.domain.deliveries import CONNECT_TIMEOUT, CONNECTION_FAILED, TIMEOUT
from service.domain.errors import (
    FetchError,
    MediaNotFound,
    RangeNotSatisfiable,
    UpstreamFailed,
    UpstreamTimeout,
)
from service.domain.links import CDN_HOSTS, is_media_url
from service.domain.policy import BODY_LIMIT
from service.domain.ports.media import MediaFile
from service.egress import Egress, EgressError, Resolver, Stream, system_resolver
from service.egress.patience import within

USER_AGENT = f"Storyhook/{__version__}"

# 403 is what an address with an expired or a wrong signature gets.
_GONE = frozenset({403, 404, 410})
_RANGE = re.compile(r"bytes=(\d{1,19}-\d{0,19}|-\d{1,19})", re.ASCII)
_CONTENT_RANGE = re.compile(r"bytes \d{1,19}-\d{1,19}/(\d{1,19}|\*)", re.ASCII)
# SVG is a document that can hold scripts; whoever shows what we pass on would run them.
_MEDIA = re.compile(r"(?:image|video)/(?!svg)[a-z0-9.+-]{1,60}")


class Media:
    """Fetches files by https from ``hosts`` and what is below them. Threads may share it.

    ``redirect_to`` (``http://host:port``) gets what is meant for the CDN instead, as the simulated
    Instagram does; it is then the one address that may be reached. Durations are seconds.
    """

    def __init__(
        self,
        *,
        hosts: Sequence[str] = CDN_HOSTS,
        redirect_to: str | None = None,
        connect_timeout: float,
        idle_timeout: float,
        total_timeout: float = BODY_LIMIT,
        resolver: Resolver = system_resolver,
    ) -> None:
        self._hosts = tuple(hosts)
        self._redirect_to = urlsplit(redirect_to) if redirect_to else None
        self._connect_timeout = connect_timeout
        self._idle_timeout = idle_timeout
        self._total_timeout = total_timeout
        self._resolver = resolver

    def probe(self, url: str) -> MediaFile:
        """Return what is known of a file: its first byte is asked for. As `MediaFiles.probe`."""
        # What is streamed may take minutes; that much is a matter of one answer.
        with within(self._connect_timeout + self._idle_timeout), self.open(url, "bytes=0-0") as file:
            if file.content_length == 1:  # a connection that was read to its end is kept
                for _ in file.chunks():
                    pass
            return MediaFile(url, file.content_type, file.size)

    def open(self, url: str, range: str | None = None) -> OpenFile:
        """Begin to fetch a file, or a range of it. As `MediaFiles.open`."""
        asked = range if range and _RANGE.fullmatch(range) else None
        if not is_media_url(url, self._hosts):  # callers have looked already; who builds on this may not
            raise UpstreamFailed("This is no address of a file on Instagram's CDN.")
        target, headers = self._route(urlsplit(url))
        if asked:
            headers["Range"] = asked
        stream = self._asked(target, headers)
        try:
            _check(stream, asked)
            return OpenFile(stream)
        except FetchError:
            stream.close()
            raise

    def _route(self, meant: SplitResult) -> tuple[str, dict[str, str]]:
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
        if self._redirect_to is None:
            return urlunsplit(meant), headers
        there = meant._replace(scheme=self._redirect_to.scheme, netloc=self._redirect_to.netloc)
        return urlunsplit(there), {**headers, "Host": meant.netloc}

    def _asked(self, url: str, headers: Mapping[str, str]) -> Stream:
        try:
            try:
                return self._way_out.get(url, headers)
            except EgressError as error:
                if error.code != CONNECTION_FAILED:
                    raise
            # Most likely a kept connection that the CDN had closed.
            return self._way_out.get(url, headers)
        except EgressError as error:
            raise _failure(error) from error

    @cached_property
    def _way_out(self) -> Egress:
        """Opened when it is needed: reading the list of authorities takes a while."""
        there = self._redirect_to
        return Egress(
            AddressPolicy(hosts=frozenset({there.hostname or ""})) if there else AddressPolicy(),
            connect_timeout=self._connect_timeout,
            idle_timeout=self._idle_timeout,
            total_timeout=self._total_timeout,
            resolver=self._resolver,
        )


class OpenFile:
    """A file on its way, as `MediaStream`; ``size`` is that of the whole file, None when not told."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.status = stream.status
        self.content_type = _content_type(stream.headers)
        self.content_length = _number(stream.headers.get("Content-Length", ""))
        self.content_range: str | None = None
        self.size = self.content_length
        if self.status == 206:
            self.content_range = stream.headers.get("Content-Range", "")
            match = _CONTENT_RANGE.fullmatch(self.content_range)
            if match is None:
                raise UpstreamFailed("Instagram's CDN does not say which part of the file it sends.")
            self.size = _number(match[1])

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes as they come. Raises UpstreamTimeout, UpstreamFailed when they stop coming."""
        try:
            yield from self._stream.chunks()
        except EgressError as error:
            raise _failure(error) from error

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check(stream: Stream, asked: str | None) -> None:
    """Raise the FetchError of an answer that is not the file that was asked for."""
    if stream.status in _GONE:
        raise MediaNotFound
    if stream.status == 416 and asked:
        raise RangeNotSatisfiable
    if stream.status != 200 and not (stream.status == 206 and asked):
        raise UpstreamFailed(f"Instagram's CDN answered {stream.status}.")
    if stream.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UpstreamFailed("Instagram's CDN sent the file packed, which was not asked for.")


def _content_type(headers: Mapping[str, str]) -> str:
    """Return the type of a photo or video, without parameters. Raises UpstreamFailed for any other."""
    content_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if not _MEDIA.fullmatch(content_type):
        raise UpstreamFailed("Instagram's CDN sent something that is neither photo nor video.")
    return content_type


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,19}", text) else None


def _failure(error: EgressError) -> FetchError:
    if error.code in {TIMEOUT, CONNECT_TIMEOUT}:
        return UpstreamTimeout("Instagram's CDN did not send the file in time.")
    return UpstreamFailed(f"The file could not be fetched from Instagram's CDN ({error.code}).")
