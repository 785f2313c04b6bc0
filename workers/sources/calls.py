"""The calls of one fetch to Instagram's mobile API, with one client; each answer is checked for its shape."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any, TypeGuard, cast

from instagrapi import config
from instagrapi import exceptions as ig

from service.domain.errors import FetchError, HighlightNotFound, StoryNotFound, UserNotFound
from workers.sources.accounts import Lent
from workers.sources.verdicts import RestTimes, drifted, translate

CAPABILITIES = {"supported_capabilities_new": json.dumps(config.SUPPORTED_CAPABILITIES)}
# How Instagram says that what was asked for is not there: by the library's class, or in words.
NO_USER = (ig.ClientNotFoundError,), ("User not found",)
NO_MEDIA = (
    (ig.ClientNotFoundError, ig.NotFoundError, ig.MediaUnavailable, ig.InvalidMediaId),
    ("Media not found",),
)
NO_HIGHLIGHT = (ig.NotFoundError, ig.MediaUnavailable, ig.InvalidMediaId), ("Invalid reel id",)
# What a post is called that is no story.
POSTS = frozenset({"feed", "clips", "carousel_container", "igtv"})


class Calls:
    """What may be asked with one client; a call spends one of those it is lent for.

    All raise FetchError: UpstreamFailed for an answer of another shape, and else what the table of
    `verdicts` says.
    """

    def __init__(self, lent: Lent, rests: RestTimes) -> None:
        self._lent = lent
        self._rests = rests

    @property
    def left(self) -> int:
        """How many calls may still be made."""
        return self._lent.left

    def user_named(self, username: str) -> dict[str, Any]:
        """Return the raw user object of a name. Raises UserNotFound."""
        return self._user(f"users/{username}/usernameinfo/")

    def user(self, user_id: str) -> dict[str, Any]:
        """Return the raw user object of an id. Raises UserNotFound."""
        asked_as = {
            "is_prefetch": "false",
            "entry_point": "self_profile",
            "from_module": "self_profile",
            "is_app_start": False,
        }
        user = self._user(f"users/{user_id}/info/", asked_as)
        if id_of(user) != user_id:
            raise drifted()
        return user

    def stories(self, user_id: str) -> dict[str, Any]:
        """Return an account's raw reel, one without items where there is none."""
        answer = self._ask(f"feed/user/{user_id}/story/", CAPABILITIES)
        if "reel" not in answer:
            raise drifted()
        return reel_in(answer["reel"], user_id)

    def reels(self, user_ids: Sequence[str]) -> dict[str, Any]:
        """Return raw reels by user id, of those who have one; each is to be read by `reel_in`."""
        return self._reels({"user_ids": list(user_ids), "source": "feed_timeline", **CAPABILITIES})

    def highlights(self, user_id: str) -> dict[str, Any]:
        """Return ``{"tray": [...]}``, an account's raw highlights without their items."""
        asked_as = {
            **CAPABILITIES,
            "phone_id": self._lent.client.phone_id,
            "battery_level": _any_of(25, 100),
            "panavision_mode": "",
            "is_charging": _any_of(0, 1),
            "is_dark_mode": _any_of(0, 1),
            "will_sound_on": _any_of(0, 1),
        }
        tray = self._ask(f"highlights/{user_id}/highlights_tray/", asked_as).get("tray")
        if not _are_objects(tray):
            raise drifted()
        # Some entries come with the first of their items.
        return {"tray": [{key: entry[key] for key in entry if key != "items"} for entry in tray]}

    def highlight(self, highlight_id: str) -> dict[str, Any]:
        """Return a raw highlight with its items. Raises HighlightNotFound."""
        name, client = f"highlight:{highlight_id}", self._lent.client
        asked_as = {
            "exclude_media_ids": "[]",
            **CAPABILITIES,
            "source": "profile",
            "_uid": str(client.user_id),
            "_uuid": client.uuid,
            "user_ids": [name],
        }
        try:
            reel = self._reels(asked_as).get(name)
        except FetchError as error:
            if not _says(error, *NO_HIGHLIGHT):
                raise
            raise HighlightNotFound from error
        if reel is None:
            raise HighlightNotFound
        return {"id": name, **reel_in(reel, name)}

    def media(self, pk: str) -> dict[str, Any]:
        """Return the raw item of a story. Raises StoryNotFound, for a post too."""
        try:
            items = self._ask(f"media/{pk}/info/").get("items")
        except FetchError as error:
            if not _says(error, *NO_MEDIA):
                raise
            raise StoryNotFound from error
        if not _are_objects(items):
            raise drifted()
        if not items:
            raise StoryNotFound
        item = items[0]
        if str(item.get("pk")) != pk:
            raise drifted()  # somebody else's
        if item.get("product_type") in POSTS:
            raise StoryNotFound("This is the id of a post, not of a story.")
        return item

    def _user(self, endpoint: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            user = self._ask(endpoint, params).get("user")
        except FetchError as error:
            if not _says(error, *NO_USER):
                raise
            raise UserNotFound from error
        if not id_of(user).isdecimal():
            raise drifted()
        return cast(dict[str, Any], user)

    def _reels(self, data: dict[str, Any]) -> dict[str, Any]:
        reels = self._ask("feed/reels_media/", data=data).get("reels")
        if not isinstance(reels, dict):
            raise drifted()
        return reels

    def _ask(
        self, endpoint: str, params: dict[str, Any] | None = None, data: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        client = self._lent.client
        self._lent.spend()
        try:
            answer = client.private_request(endpoint, data=data, params=params)
        except Exception as error:
            status = getattr(client.last_response, "status_code", None)
            raise translate(error, self._rests, status=status) from error
        if not isinstance(answer, dict):
            raise drifted()
        return answer


def reel_in(reel: Any, asked: str) -> dict[str, Any]:
    """Return the raw reel of an answer, one without items where there is none; ``asked`` is its id.

    Raises UpstreamFailed for what is no reel, or somebody else's.
    """
    if reel is None:
        return {"items": []}
    if not isinstance(reel, dict) or not _are_objects(reel.get("items", [])):
        raise drifted()
    user = reel.get("user")
    mine = str(reel.get("id", asked)) == asked
    if asked.isdecimal() and isinstance(user, dict):
        mine = str(user.get("pk", asked)) == asked
    if not mine:
        raise drifted()
    return {**reel, "items": reel.get("items", [])}


def id_of(user: Any) -> str:
    """Return the id in a raw user object, "" where there is none."""
    return str(user.get("pk") or user.get("id") or "") if isinstance(user, dict) else ""


def _says(error: FetchError, kinds: tuple[type[BaseException], ...], words: Sequence[str]) -> bool:
    """Tell whether Instagram answered one of these."""
    cause = error.__cause__
    if isinstance(cause, kinds):
        return True
    return isinstance(cause, ig.ClientError) and any(word in str(cause.message) for word in words)


def _are_objects(value: Any) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _any_of(low: int, high: int) -> int:
    return random.randint(low, high)  # noqa: S311 - the state of a phone nobody holds
