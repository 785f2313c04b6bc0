"""Stories of accounts the operator manages, from Instagram's official Graph API.

One documented GET, sent with httpx: ``GET /{ig-user-id}/stories`` lists the active stories of a professional
account for whose Page the token holds ``instagram_basic`` and ``pages_read_engagement``; no live video and no
reshares. https://developers.facebook.com/docs/instagram-platform/instagram-graph-api/reference/ig-user/stories

Other accounts, single stories and highlights are not to be had. Neither is `user`: the API tells ids
of its own (1784...), under which Instagram does not know an account.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx

from service.domain.errors import FetchError, NoSessionFree
from service.domain.operations import STORIES, Ask
from service.domain.targets import USERNAME
from service.upstreams import GRAPH_URL, GraphAccount
from workers.sources import wire
from workers.sources.contract import Found, GoOn, always
from workers.sources.graph_errors import refused
from workers.sources.transport import CONNECT_TIMEOUT, READ_TIMEOUT
from workers.sources.verdicts import drifted

VERSION = "v25.0"
FIELDS = (
    "id,media_type,media_product_type,media_url,thumbnail_url,permalink,timestamp,caption,username,shortcode"
)
PAGE_SIZE = 50
# An account may have a hundred stories.
PAGES_MOST = 10
DAY = 86_400
MEDIA_TYPES = {"IMAGE": 1, "VIDEO": 2}
# +0000 is what the API writes; Python reads it as well.
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:?\d\d")


class GraphSource:
    """A Source over the Graph API, of configured accounts only. Threads may share it; timeouts in seconds.

    ``accounts`` maps lower-case usernames to what the API knows them by.
    """

    name = "graph"

    def __init__(
        self,
        accounts: Mapping[str, GraphAccount],
        base_url: str = GRAPH_URL,
        *,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
    ) -> None:
        self._accounts = accounts
        self._client = wire.open_client(base_url, connect_timeout=connect_timeout, read_timeout=read_timeout)

    def serves(self, ask: Ask) -> bool:
        """Tell whether these are the stories of a configured account; see `Source.serves`."""
        of_name = ask.operation == STORIES and ask.target.kind == USERNAME
        return of_name and ask.target.value in self._accounts

    def fetch(self, ask: Ask) -> Found:
        """Ask the Graph API; see `Source.fetch`."""
        username = ask.target.value
        account = self._accounts[username]
        try:
            nodes = self._nodes(account)
        except Exception as error:
            raise wire.translate(error) from error
        user = {"pk": account.id, "id": account.id, "username": username, "is_private": False}
        items = [_item(node, user) for node in nodes]
        return Found({"id": account.id, "user": user, "items": items}).given_by(self.name)

    def reels(self, usernames: Sequence[str], go_on: GoOn = always) -> dict[str, Found | FetchError]:
        """Know of no call for many accounts; see `Source.reels`."""
        return {}

    def unserved(self) -> NoSessionFree | None:
        """Tell that it may always be asked; see `Source.unserved`."""
        return None

    def _nodes(self, account: GraphAccount) -> list[dict[str, Any]]:
        """Return all IG Media objects, oldest first as Instagram's own reels are."""
        nodes: list[dict[str, Any]] = []
        after = ""
        for _ in range(PAGES_MOST):
            body = self._page(account, after)
            page = body.get("data")
            if not isinstance(page, list) or not all(isinstance(node, dict) for node in page):
                raise drifted()
            nodes += page
            # By the cursor: the address of the next page holds the token, and is the answer's choice.
            after = _next_cursor(body.get("paging"))
            if not after:
                break
        return sorted(nodes, key=lambda node: _epoch(node.get("timestamp")) or 0)

    def _page(self, account: GraphAccount, after: str) -> dict[str, Any]:
        params: dict[str, str | int] = {"fields": FIELDS, "limit": PAGE_SIZE, "access_token": account.token}
        if after:
            params["after"] = after
        response = self._client.get(f"{VERSION}/{account.id}/stories", params=params)
        if response.status_code != httpx.codes.OK:
            raise refused(response)
        body = response.json()
        if not isinstance(body, dict):
            raise drifted()
        if "error" in body:
            raise refused(response)
        return body


def _next_cursor(paging: Any) -> str:
    """Return where the next page begins, "" when there is none."""
    if not isinstance(paging, dict) or not paging.get("next"):
        return ""
    cursors = paging.get("cursors")
    return str(cursors.get("after") or "") if isinstance(cursors, dict) else ""


def _item(node: dict[str, Any], user: dict[str, Any]) -> dict[str, Any]:
    """Return an IG Media object in the form of the mobile API's items; what it has not is left out.

    Media flagged for copyright come without an address.
    """
    pk, taken_at, url = node.get("id"), _epoch(node.get("timestamp")), node.get("media_url")
    media_type = MEDIA_TYPES.get(str(node.get("media_type")))
    if not str(pk).isdecimal() or media_type is None:
        raise drifted()
    picture = node.get("thumbnail_url") or (url if media_type == 1 else None)
    item: dict[str, Any] = {
        "pk": pk,
        "id": pk,
        "code": node.get("shortcode"),
        "media_type": media_type,
        "product_type": "story",
        "caption": node.get("caption"),
        "user": user,
        "image_versions2": {"candidates": [{"url": picture}] if picture else []},
    }
    if taken_at is not None:
        item |= {"taken_at": taken_at, "expiring_at": taken_at + DAY}
    if media_type == 2 and url:
        item["video_versions"] = [{"type": 101, "url": url}]
    return item


def _epoch(timestamp: Any) -> int | None:
    """Return Unix seconds of a time such as ``2026-02-03T04:05:06+0000``."""
    if not isinstance(timestamp, str) or not MOMENT.fullmatch(timestamp):
        return None
    try:
        return int(datetime.fromisoformat(timestamp).astimezone(UTC).timestamp())
    except (ValueError, OverflowError):
        return None
