"""Files of stories: found through a source, looked at on the CDN before anybody is told of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from service.domain.errors import (
    AccountPrivate,
    FetchError,
    MediaNotFound,
    NoSessionFree,
    Retry,
    StoryNotFound,
    UpstreamFailed,
)
from service.domain.links import media_pk
from service.domain.media import best_image, best_media
from service.domain.operations import DOWNLOAD, STORY, Ask
from service.domain.ports.media import MediaFiles
from service.domain.stories import owner_of
from service.domain.targets import MEDIA_URL, STORY_ID, Target
from service.egress.patience import within
from workers.sources.contract import Found, GoOn, Source, always

# An address alone does not tell whose file it is.
_NOBODYS: dict[str, Any] = {"id": None, "user": None}


class WithFiles:
    """A Source that knows what another one does, and where the files of its stories are.

    ``somebody_opted_out`` tells whether there is anybody whose files are not served: then an address of the
    CDN that tells its story costs a call to learn whose it is. ``seconds`` is how long one fetch may take in
    all, whatever it is made of.
    """

    def __init__(
        self,
        source: Source,
        media: MediaFiles,
        somebody_opted_out: Callable[[], bool] = lambda: False,
        seconds: float = math.inf,
    ) -> None:
        self.name = source.name
        self._source = source
        self._media = media
        self._somebody_opted_out = somebody_opted_out
        self._seconds = seconds

    def serves(self, ask: Ask) -> bool:
        """See `Source.serves`."""
        if ask.operation != DOWNLOAD:
            return self._source.serves(ask)
        return ask.target.kind == MEDIA_URL or self._source.serves(Ask(STORY, ask.target))

    def fetch(self, ask: Ask) -> Found:
        """See `Source.fetch`."""
        if not self.serves(ask):
            raise UpstreamFailed("No source of this service can answer this.", retry=Retry.NEVER)
        with within(self._seconds):
            return self._source.fetch(ask) if ask.operation != DOWNLOAD else self._file(ask.target)

    def reels(self, usernames: Sequence[str], go_on: GoOn = always) -> dict[str, Found | FetchError]:
        """See `Source.reels`."""
        return self._source.reels(usernames, go_on)

    def unserved(self) -> NoSessionFree | None:
        """See `Source.unserved`."""
        return self._source.unserved()

    def _file(self, target: Target) -> Found:
        if target.kind == STORY_ID:
            return self._of_story(target.value, best_media)
        url, pk = target.value, media_pk(target.value)
        if pk is None or not self._source.serves(Ask(STORY, Target(STORY_ID, pk))):
            return self._look_at(url, Found(_NOBODYS, self.name))
        try:
            owner = self._owner_of(pk)
            return self._look_at(url, owner, pk)
        except MediaNotFound:
            # The address has expired; the story it tells of may be shown still. It was that of a picture.
            return self._of_story(pk, best_image)

    def _owner_of(self, pk: str) -> Found:
        """Return whose file it is, where that matters: some accounts are not served."""
        if not self._somebody_opted_out():
            return Found(_NOBODYS, self.name)
        try:
            return self._source.fetch(Ask(STORY, Target(STORY_ID, pk)))
        except (StoryNotFound, AccountPrivate):
            return Found(_NOBODYS, self.name, owner_sought=True)

    def _of_story(self, pk: str, choose: Callable[[dict[str, Any]], str | None]) -> Found:
        story = self._source.fetch(Ask(STORY, Target(STORY_ID, pk)))
        [item] = story.data["items"]
        url = choose(item)
        if url is None:
            raise MediaNotFound("This story has no such photo or video.")
        return self._look_at(url, story, pk)

    def _look_at(self, url: str, story: Found, pk: str | None = None) -> Found:
        file = self._media.probe(url)
        data: dict[str, Any] = {
            "id": story.data["id"],
            "user": story.data["user"],
            "storyId": pk,
            "url": url,
            "contentType": file.content_type,
            "size": file.size,
            "filename": _filename(url, owner_of(story.data)[1], pk),
        }
        return Found(data, story.source, story.owner_sought)


def _filename(url: str, username: str, pk: str | None) -> str:
    last = PurePosixPath(urlsplit(url).path)
    return f"{username or 'story'}_{pk}{last.suffix}" if pk else last.name.lstrip(".") or "story"
