"""How callers name what they ask for: one field of several, each of which gives a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from service.domain import links
from service.domain.errors import ValidationFailed
from service.domain.operations import DOWNLOAD, HIGHLIGHT, STORY, Operation
from service.domain.requests import parse_username
from service.domain.targets import HIGHLIGHT_ID, MEDIA_URL, STORY_ID, USER_ID, USERNAME, Target


@dataclass(frozen=True)
class Input:
    """A field of a request: its name on the wire, the target its text gives, and what it is for.

    ``read`` raises ValidationFailed naming the field.
    """

    field: str
    read: Callable[[str], Target]
    description: str
    example: str
    longest: int = links.URL_MAX

    @property
    def is_id(self) -> bool:
        return self.field.endswith("Id")


def _reader(kind: str, parse: Callable[[str], str]) -> Callable[[str], Target]:
    return lambda text: Target(kind, parse(text))


def _file_or_story(url: str) -> Target:
    """A story's page is told from a file by its host."""
    try:
        story = links.is_instagram(links.split_url(url.strip()))
    except ValueError:
        story = False
    if story:
        return Target(STORY_ID, links.parse_story_url(url))
    return Target(MEDIA_URL, links.parse_media_url(url))


_BY_KIND = {
    USERNAME: Input(
        "username", _reader(USERNAME, parse_username), "name, @name or profile URL", "instagram", 300
    ),
    USER_ID: Input(
        "userId", _reader(USER_ID, links.parse_user_id), "numeric id of the account", "787132", 64
    ),
    STORY_ID: Input(
        "storyId",
        _reader(STORY_ID, links.parse_story_id),
        "numeric id (pk) of the story, also as pk_ownerid",
        "3870193736105885141",
        64,
    ),
    HIGHLIGHT_ID: Input(
        "highlightId",
        _reader(HIGHLIGHT_ID, links.parse_highlight_id),
        "numeric id of the highlight, also as highlight:id",
        "17983616051768088",
        64,
    ),
}
_URLS = {
    STORY: Input(
        "url",
        _reader(STORY_ID, links.parse_story_url),
        "URL of the story, also a share link (/s/...)",
        "https://www.instagram.com/stories/instagram/3870193736105885141/",
    ),
    HIGHLIGHT: Input(
        "url",
        _reader(HIGHLIGHT_ID, links.parse_highlight_url),
        "URL of the highlight, also a share link (/s/...)",
        "https://www.instagram.com/stories/highlights/17983616051768088/",
    ),
    DOWNLOAD: Input(
        "url",
        _file_or_story,
        "URL of the story, or of its file on Instagram's CDN",
        "https://www.instagram.com/stories/instagram/3870193736105885141/",
        links.MEDIA_URL_MAX,
    ),
}


def inputs_of(operation: Operation) -> list[Input]:
    """Return the fields that may name what is asked for; a call gives exactly one of them."""
    found = [_BY_KIND[kind] for kind in operation.targets if kind in _BY_KIND]
    return [*found, *([_URLS[operation.name]] if operation.name in _URLS else [])]


def target_of(operation: Operation, given: Mapping[str, str | None]) -> Target:
    """Return what a call asks for; ``given`` holds texts by field. Raises ValidationFailed."""
    inputs = inputs_of(operation)
    named = [each for each in inputs if given.get(each.field) is not None]
    if len(named) == 1:
        return named[0].read(given[named[0].field] or "")
    fields = " or ".join(each.field for each in inputs)
    sentence = f"Give {fields}." if not named else f"Give {fields}, one of them only."
    raise ValidationFailed(details={each.field: [sentence] for each in named or inputs[:1]})
