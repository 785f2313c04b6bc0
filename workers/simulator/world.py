"""The simulated people and what they post: a pure function of the user id and the clock.

Each person posts at fixed seconds of the day, one item in each equal slice of it. Item ``k`` is the latest
one of its slot, so between two slots every call sees the same ids; each item lives 86400 seconds, and as it
expires its successor (a new pk) takes its place.
"""

from __future__ import annotations

from dataclasses import dataclass

from .ids import (
    digest,
    highlight_id,
    media_pk,
    scene_of_id,
    split_highlight_id,
    split_media_pk,
    user_id_of,
)
from .scenes import Scene

DAY = 86_400
HUGE_REEL = 100
VIDEO_SECONDS = (3, 6)
# Names a first-time visitor tries; they always have a fair number of stories.
DEMO_ITEMS = {user_id_of(name): count for name, count in {"instagram": 4, "nasa": 5, "natgeo": 6}.items()}

_REELS_WITHOUT_ITEMS = {"private", "missing", "empty"}
_SIZED_REELS = {"huge": HUGE_REEL, "stickers": 2, "drift": 6}
# Indices 100..123 of a media pk belong to highlights, 0..99 to stories.
_HIGHLIGHT_INDEX, _HIGHLIGHT_ITEMS, _MOST_HIGHLIGHTS = 100, 8, 3
_HIGHLIGHTS_SINCE = 1_735_689_600
_TITLES = ("Travel", "Food", "Studio", "Behind it", "Favourites", "Weekend", "Questions", "Garden")


@dataclass(frozen=True)
class Person:
    """Whoever a username or an id stands for."""

    id: int
    username: str
    scene: Scene

    @property
    def full_name(self) -> str:
        return " ".join(part.capitalize() for part in self.username.replace(".", "_").split("_") if part)

    @property
    def is_private(self) -> bool:
        return self.scene.name == "private"

    @property
    def is_verified(self) -> bool:
        return self.id in DEMO_ITEMS or digest("verified", self.id) % 8 == 0

    def number(self, what: str, low: int, high: int) -> int:
        """A stable number of this person, for example how many followers there are."""
        return low + digest(what, self.id) % (high - low + 1)


@dataclass(frozen=True)
class Item:
    """One photo or video."""

    pk: int
    owner_id: int
    index: int
    taken_at: int
    is_video: bool

    @property
    def id(self) -> str:
        return f"{self.pk}_{self.owner_id}"

    @property
    def seconds(self) -> int:
        return video_seconds(self.pk)


@dataclass(frozen=True)
class Highlight:
    """A highlight reel: old items kept under a title."""

    number: int
    title: str
    created_at: int
    items: list[Item]

    @property
    def id(self) -> str:
        return f"highlight:{self.number}"


def video_seconds(pk: int) -> int:
    """How long the video of a pk plays; also asked by the CDN, which knows nothing but the pk."""
    low, high = VIDEO_SECONDS
    return low + digest("seconds", pk) % (high - low + 1)


def stories(person: Person, now: float) -> list[Item]:
    """The live items of a person, oldest first."""
    count = _item_count(person)
    items = [_story(person.id, index, count, int(now)) for index in range(count)]
    return sorted(items, key=lambda item: item.pk)


def highlights(person: Person) -> list[Highlight]:
    """The highlights of a person; the same for ever."""
    if person.scene.name in ("missing", "empty") or scene_of_id(person.id) is None:
        return []
    count = 2 if person.id in DEMO_ITEMS else digest("highlights", person.id) % (_MOST_HIGHLIGHTS + 1)
    return [_highlight(person.id, index) for index in range(count)]


def posted(person: Person, pk: int) -> bool:
    """Whether a pk is one of this person's, of any time and whoever may see it."""
    _, index, taken_at = split_media_pk(pk)
    return media_pk(person.id, index, taken_at) == pk


def highlight_owner(number: int) -> int:
    """The user id inside a highlight's number."""
    return split_highlight_id(number)[0]


def _item_count(person: Person) -> int:
    if person.scene.name in _REELS_WITHOUT_ITEMS:
        return 0
    if person.scene.name in _SIZED_REELS:
        return _SIZED_REELS[person.scene.name]
    return DEMO_ITEMS.get(person.id) or 1 + digest("items", person.id) % 6


def _story(owner_id: int, index: int, count: int, now: int) -> Item:
    slice_length = DAY // count
    second_of_day = index * slice_length + digest("slot", owner_id, index) % slice_length
    taken_at = now - (now - second_of_day) % DAY
    # A photo first and a video second, so that whoever has two items shows both kinds.
    is_video = index == 1 if index < 2 else digest("kind", owner_id, index) % 2 == 0
    return Item(media_pk(owner_id, index, taken_at), owner_id, index, taken_at, is_video)


def _highlight(owner_id: int, index: int) -> Highlight:
    number = highlight_id(owner_id, index)
    first = _HIGHLIGHTS_SINCE + digest("highlight", number) % (200 * DAY)
    items = []
    for position in range(2 + digest("size", number) % (_HIGHLIGHT_ITEMS - 1)):
        place, taken_at = _HIGHLIGHT_INDEX + index * _HIGHLIGHT_ITEMS + position, first + position * 5400
        items.append(Item(media_pk(owner_id, place, taken_at), owner_id, place, taken_at, position % 2 == 1))
    title = _TITLES[digest("title", number) % len(_TITLES)]
    return Highlight(number, title, items[-1].taken_at + DAY // 2, items)
