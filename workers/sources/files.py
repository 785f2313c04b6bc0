"""Files of stories: found through a source, looked at on the CDN before anybody is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from service.domain.errors import FetchError, MediaNotFound, NoSessionFree, Retry, UpstreamFailed
from service.domain.links import media_pk
from service.domain.media import best_media
from service.domain.operations import DOWNLOAD, STORY, Ask
from service.domain.ports.media import MediaFiles
from service.domain.stories import owner_of
from service.domain.targets import MEDIA_URL, STORY_ID, Target
from workers.sources.contract import Found, GoOn, Source, always


class WithFiles:
    """A Source that knows what another one does, and where the files of its stories are."""

    def __init__(self, source: Source, media: MediaFiles) -> None:
        self.name = source.name
        self._source = source
        self._media = media

    def serves(self, ask: Ask) -> bool:
        """See `Source.serves`."""
        if ask.operation != DOWNLOAD:
            return self._source.serves(ask)
        return ask.target.kind == MEDIA_URL or self._source.serves(Ask(STORY, ask.target))

    def fetch(self, ask: Ask) -> Found:
        """See `Source.fetch`."""
        if not self.serves(ask):
            raise UpstreamFailed("No source of this service can answer this.", retry=Retry.NEVER)
        return self._source.fetch(ask) if ask.operation != DOWNLOAD else self._file(ask.target)

    def reels(self, usernames: Sequence[str], go_on: GoOn = always) -> dict[str, Found | FetchError]:
        """See `Source.reels`."""
        return self._source.reels(usernames, go_on)

    def unserved(self) -> NoSessionFree | None:
        """See `Source.unserved`."""
        return self._source.unserved()

    def _file(self, target: Target) -> Found:
        if target.kind == STORY_ID:
            return self._of_story(target.value)
        try:
            return self._look_at(target.value, Found({"id": "", "user": {}}, self.name))
        except MediaNotFound:
            # An address that has expired may tell which story it was of, and that may be shown still.
            pk = media_pk(target.value)
            if pk is None or not self._source.serves(Ask(STORY, Target(STORY_ID, pk))):
                raise
            return self._of_story(pk)

    def _of_story(self, pk: str) -> Found:
        story = self._source.fetch(Ask(STORY, Target(STORY_ID, pk)))
        [item] = story.data["items"]
        url = best_media(item)
        if url is None:
            raise MediaNotFound("This story has no photo and no video.")
        return self._look_at(url, story, pk)

    def _look_at(self, url: str, story: Found, pk: str = "") -> Found:
        file = self._media.probe(url)
        data: dict[str, Any] = {
            "id": story.data["id"],
            "user": story.data["user"],
            "storyId": pk or media_pk(url) or "",
            "url": url,
            "contentType": file.content_type,
            "size": file.size,
            "filename": _filename(url, owner_of(story.data)[1], pk),
        }
        return Found(data, story.source)


def _filename(url: str, username: str, pk: str) -> str:
    last = PurePosixPath(urlsplit(url).path)
    return f"{username or 'story'}_{pk}{last.suffix}" if pk else last.name.lstrip(".") or "story"
