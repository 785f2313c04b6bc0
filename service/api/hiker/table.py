"""HikerAPI's routes, a table: what each is about, and in which form it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from service.api.hiker import forms
from service.domain import links
from service.domain.operations import DOWNLOAD, HIGHLIGHT, HIGHLIGHTS, OPERATIONS, STORIES, STORY, USER
from service.domain.requests import parse_username
from service.domain.targets import HIGHLIGHT_ID, MEDIA_URL, STORY_ID, USER_ID, USERNAME

AMOUNT_MOST = 10_000

Parse = Callable[[str, str], str]


@dataclass(frozen=True)
class Parameter:
    """What a call is about: the name of the parameter, the kind of target its text gives."""

    name: str
    kind: str
    parse: Parse
    example: str


def _username(text: str, field: str) -> str:
    del field  # it is called so here as well
    return parse_username(text)


BY_USER_ID = Parameter("user_id", USER_ID, links.parse_user_id, "787132")
BY_USERNAME = Parameter("username", USERNAME, _username, "instagram")
USER_BY_ID = Parameter("id", USER_ID, links.parse_user_id, "787132")
BY_STORY_ID = Parameter("id", STORY_ID, links.parse_story_id, "3870193736105885141")
BY_STORY_URL = Parameter(
    "url", STORY_ID, links.parse_story_url, "https://www.instagram.com/stories/instagram/3870193736105885141/"
)
BY_HIGHLIGHT_ID = Parameter("id", HIGHLIGHT_ID, links.parse_highlight_id, "17983616051768088")
BY_HIGHLIGHT_URL = Parameter(
    "url",
    HIGHLIGHT_ID,
    links.parse_highlight_url,
    "https://www.instagram.com/stories/highlights/17983616051768088/",
)
BY_MEDIA_URL = Parameter(
    "url",
    MEDIA_URL,
    lambda text, field: links.parse_media_url(text, field=field),
    "https://scontent.cdninstagram.com/...",
)


@dataclass(frozen=True)
class Route:
    """One of HikerAPI's routes. ``form`` makes its body of our data; None streams the file itself."""

    path: str
    operation: str
    by: Parameter
    form: Callable[[forms.Data], Any] | None
    about: str
    lists: bool = False

    @property
    def is_raw(self) -> bool:
        return self.path.startswith("/v2/")

    @property
    def reqs(self) -> int:
        """What a call costs."""
        return OPERATIONS[self.operation].reqs[self.by.kind]


def _routes(path: str, operation: str, v1: Any, v2: Any, about: str) -> list[Route]:
    """Return the four routes of a list about an account."""
    return [
        Route(f"{version}{path}{suffix}", operation, by, form, about, lists=True)
        for version, form in (("/v1", v1), ("/v2", v2))
        for suffix, by in (("", BY_USER_ID), ("/by/username", BY_USERNAME))
    ]


ROUTES = [
    *_routes("/user/stories", STORIES, forms.stories_v1, forms.reel_v2, "Stories of an account"),
    *_routes(
        "/user/highlights", HIGHLIGHTS, forms.highlights_v1, forms.highlights_v2, "Highlights of an account"
    ),
    Route("/v1/story/by/id", STORY, BY_STORY_ID, forms.story_v1, "A story"),
    Route("/v1/story/by/url", STORY, BY_STORY_URL, forms.story_v1, "A story"),
    Route("/v2/story/by/id", STORY, BY_STORY_ID, forms.reel_v2, "A story, raw"),
    Route("/v2/story/by/url", STORY, BY_STORY_URL, forms.reel_v2, "A story, raw"),
    Route("/v1/story/download", DOWNLOAD, BY_STORY_ID, None, "The file of a story"),
    Route("/v1/story/download/by/story/url", DOWNLOAD, BY_STORY_URL, None, "The file of a story"),
    Route("/v1/story/download/by/url", DOWNLOAD, BY_MEDIA_URL, None, "A file of Instagram's CDN"),
    Route("/v1/highlight/by/id", HIGHLIGHT, BY_HIGHLIGHT_ID, forms.highlight_v1, "A highlight"),
    Route("/v1/highlight/by/url", HIGHLIGHT, BY_HIGHLIGHT_URL, forms.highlight_v1, "A highlight"),
    Route("/v2/highlight/by/id", HIGHLIGHT, BY_HIGHLIGHT_ID, forms.highlight_v2, "A highlight, raw"),
    Route("/v1/user/by/id", USER, USER_BY_ID, forms.user_v1, "An account"),
    Route("/v1/user/by/username", USER, BY_USERNAME, forms.user_v1, "An account"),
    Route("/v2/user/by/id", USER, USER_BY_ID, forms.user_v2, "An account, raw"),
    Route("/v2/user/by/username", USER, BY_USERNAME, forms.user_v2, "An account, raw"),
]
