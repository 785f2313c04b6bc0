"""What the service can do: one table, from which prices, routes, documentation and sources follow.

A new operation is an entry here and a method of the same name in each source that serves it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from service.domain.targets import HIGHLIGHT_ID, MEDIA_URL, STORY_ID, USER_ID, USERNAME, Target

STORIES = "stories"
STORY = "story"
HIGHLIGHTS = "highlights"
HIGHLIGHT = "highlight"
USER = "user"
DOWNLOAD = "download"

FOUND = "found"
EMPTY = "empty"
CACHED = "cached"  # found or empty, and fetched for somebody else
NOTHING_NEW = "nothing_new"  # a watch found only what it had delivered before

RAW = "raw"  # as Instagram sends it
STORY_SHAPE = "story"  # HikerAPI's v1 `Story` and `Highlight`
SHAPES = (RAW, STORY_SHAPE)

_ITEMS = "items"
_TRAY = "tray"

# What an upstream may end any operation with; by default it costs nothing.
_TROUBLE = ("upstream_blocked", "upstream_timeout", "upstream_error", "opted_out")


@dataclass(frozen=True)
class Operation:
    """One thing the service does.

    ``name`` is the source's method and the last part of the native route. ``targets`` are the kinds of
    things it may be asked about, ``counted`` the list in ``data`` that ``itemCount`` counts ("" counts
    one), ``endings`` the codes it can end with besides `FOUND` and what upstreams do to all of them, and
    ``reqs`` what a HikerAPI-compatible call costs, by kind of target. ``shaped`` tells that results come
    in other shapes than the raw one as well, ``listed`` that it may find nothing and be ``empty``, ``single``
    that there is always one of them.
    """

    name: str
    summary: str
    targets: tuple[str, ...]
    data: str
    counted: str = ""
    listed: bool = False
    shaped: bool = False
    single: bool = False
    endings: tuple[str, ...] = ()
    reqs: Mapping[str, int] = field(default_factory=dict)

    @property
    def has_media(self) -> bool:
        """Whether its results hold stories, whose media may be kept."""
        return self.counted == _ITEMS

    @property
    def prices(self) -> dict[str, int]:
        """The default price of every way it can end."""
        paid = [FOUND, *([EMPTY] if self.listed else []), CACHED]
        return dict.fromkeys(paid, 1) | dict.fromkeys((*self.endings, *_TROUBLE), 0)


_ACCOUNT = ("account_private", "user_not_found")

OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        each.name: each
        for each in (
            Operation(
                STORIES,
                "Fetch the stories of an account",
                (USERNAME, USER_ID),
                "the raw reel: id, user, items[]",
                counted=_ITEMS,
                listed=True,
                shaped=True,
                endings=(NOTHING_NEW, *_ACCOUNT),
                reqs={USERNAME: 3, USER_ID: 2},
            ),
            Operation(
                STORY,
                "Fetch one story",
                (STORY_ID,),
                "id and user of its owner, items[] with the one story",
                counted=_ITEMS,
                shaped=True,
                single=True,
                endings=("story_not_found", "account_private"),
                reqs={STORY_ID: 1},
            ),
            Operation(
                HIGHLIGHTS,
                "List the highlights of an account",
                (USERNAME, USER_ID),
                "id and user of the account, tray[] of raw highlights without items",
                counted=_TRAY,
                listed=True,
                shaped=True,
                endings=_ACCOUNT,
                reqs={USERNAME: 3, USER_ID: 2},
            ),
            Operation(
                HIGHLIGHT,
                "Fetch one highlight with its stories",
                (HIGHLIGHT_ID,),
                "the raw highlight: id, user, title, items[]",
                counted=_ITEMS,
                shaped=True,
                endings=("highlight_not_found", "account_private"),
                reqs={HIGHLIGHT_ID: 1},
            ),
            Operation(
                USER,
                "Look an account up",
                (USERNAME, USER_ID),
                "id, and user: the raw user object",
                endings=("user_not_found",),
                reqs={USERNAME: 1, USER_ID: 1},
            ),
            Operation(
                DOWNLOAD,
                "Find the media file of a story",
                (STORY_ID, MEDIA_URL),
                "url, contentType, size and filename of the file",
                endings=("story_not_found", "media_not_found", "account_private", "range_not_satisfiable"),
                reqs={STORY_ID: 1, MEDIA_URL: 1},
            ),
        )
    }
)


@dataclass(frozen=True)
class Ask:
    """What an upstream is asked. ``force`` does without the question whether an account is private."""

    operation: str
    target: Target
    force: bool = False

    @property
    def key(self) -> str:
        """A text that two asks share exactly when one answer does for both."""
        if self.operation == STORIES and self.target.kind == USERNAME and not self.force:
            return self.target.value
        return f"{self.operation}{'!' if self.force else ''}:{self.target.text}"
