"""Accounts by name from Instagram's website, without a session, through instagrapi's public calls.

The website shows a profile to anybody. Stories need a session there as well, so this serves `user`
only, and by username only. It limits anonymous callers by address: with more than a few hundred a day it
is worth having as a later source only.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from instagrapi import exceptions as ig
from instagrapi.mixins.public import PUBLIC_WEB_APP_ID, PUBLIC_WEB_ASBD_ID

from service.domain.errors import FetchError, NoSessionFree, Retry, UpstreamBlocked, UserNotFound
from service.domain.operations import USER, Ask
from service.domain.targets import USERNAME
from workers.sources.accounts import ClientFactory
from workers.sources.contract import Found, GoOn, always
from workers.sources.verdicts import drifted, translate

URL = "https://www.instagram.com/api/v1/users/web_profile_info/"
HEADERS = {
    "Accept": "*/*",
    "Accept-Language": "en-US,en;q=0.9",
    "Referer": "https://www.instagram.com/",
    "Sec-Fetch-Dest": "empty",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Site": "same-origin",
    "X-Asbd-Id": PUBLIC_WEB_ASBD_ID,
    "X-Ig-App-Id": PUBLIC_WEB_APP_ID,
    "X-Requested-With": "XMLHttpRequest",
}
# What the mobile API calls what the website calls otherwise; the counts stand inside an object there.
NAMES = {
    "username": "username",
    "full_name": "full_name",
    "biography": "biography",
    "external_url": "external_url",
    "is_private": "is_private",
    "is_verified": "is_verified",
    "is_business": "is_business_account",
    "profile_pic_url": "profile_pic_url",
    "profile_pic_url_hd": "profile_pic_url_hd",
}
COUNTS = {
    "media_count": "edge_owner_to_timeline_media",
    "follower_count": "edge_followed_by",
    "following_count": "edge_follow",
}


class WebSource:
    """A Source over the website. Threads may share it; each has a client of its own, as those have state."""

    name = "web"

    def __init__(self, factory: ClientFactory) -> None:
        self._factory = factory
        self._own = threading.local()

    def serves(self, ask: Ask) -> bool:
        """Tell whether this is an account by name; see `Source.serves`."""
        return ask.operation == USER and ask.target.kind == USERNAME

    def fetch(self, ask: Ask) -> Found:
        """Ask the website; see `Source.fetch`."""
        user = _as_mobile(self._profile(ask.target.value))
        return Found({"id": user["pk"], "user": user}).given_by(self.name)

    def reels(self, usernames: Sequence[str], go_on: GoOn = always) -> dict[str, Found | FetchError]:
        """Find none: it knows no stories; see `Source.reels`."""
        return {}

    def unserved(self) -> NoSessionFree | None:
        """Tell that it may always be asked; see `Source.unserved`."""
        return None

    def _profile(self, username: str) -> dict[str, Any]:
        """Return the raw user object of the website."""
        client = self._client()
        client.last_response_ts = 0  # within a second of the last answer it would sleep a second
        try:
            answer = client.public_request(
                URL, params={"username": username}, headers=HEADERS, update_headers=False, return_json=True
            )
        except ig.ClientNotFoundError as error:
            raise UserNotFound from error
        except Exception as error:
            raise _without_session(translate(error)) from error
        finally:
            client.last_public_response, client.last_public_json = None, {}
        data = answer.get("data") if isinstance(answer, dict) else None
        user = data.get("user") if isinstance(data, dict) else None
        if not isinstance(user, dict) or not str(user.get("id")).isdecimal():
            raise drifted()  # null as well: accounts that are shown to members only look like that
        return user

    def _client(self) -> Any:
        if not hasattr(self._own, "client"):
            self._own.client = self._factory({}, None)
        return self._own.client


def _without_session(error: FetchError) -> FetchError:
    """Return the error for callers without a session: there is no other one to try again with."""
    if isinstance(error, UpstreamBlocked):
        return UpstreamBlocked(error.message, retry=Retry.NEVER, retry_after=error.retry_after)
    return type(error)(error.message, retry=error.retry)


def _as_mobile(user: dict[str, Any]) -> dict[str, Any]:
    """Return the website's user object under the mobile API's names; ids stay strings, as sent."""
    found = {"pk": user["id"], "id": user["id"]}
    found |= {name: user[theirs] for name, theirs in NAMES.items() if theirs in user}
    for name, theirs in COUNTS.items():
        edge = user.get(theirs)
        if isinstance(edge, dict) and isinstance(edge.get("count"), int):
            found[name] = edge["count"]
    return found
