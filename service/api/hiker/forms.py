"""The forms of HikerAPI's results, made of the ``data`` of our envelopes."""

from __future__ import annotations

from typing import Any

from service.domain.operations import STORY_SHAPE
from service.domain.renditions import highlight, stories, story
from service.domain.shapes import shaped

Data = dict[str, Any]


def stories_v1(data: Data) -> Any:
    return stories(data["items"], data.get("user"))


def story_v1(data: Data) -> Any:
    return story(data["items"][0], data.get("user"))


def highlights_v1(data: Data) -> Any:
    return shaped(data, STORY_SHAPE)["tray"]


def highlight_v1(data: Data) -> Any:
    return highlight(data)


def reel_v2(data: Data) -> Any:
    """The body of the mobile API's story feed; ``reel`` is null where there is no story."""
    reel = data if data["items"] else None
    return {"broadcast": None, "reel": reel, "unviewable_authors_info": None, "status": "ok"}


def highlights_v2(data: Data) -> Any:
    return {
        "response": {"tray": [_entry(each) for each in data["tray"]], "status": "ok"},
        "next_page_id": None,
    }


def _entry(raw: Data) -> Data:
    """Return an entry of the tray with its bare number as ``pk``, without one where Instagram names none."""
    number = raw.get("id") or raw.get("pk")
    told = {"pk": str(number).removeprefix("highlight:")} if number else {}
    return {**raw, **told, "items": []}


def highlight_v2(data: Data) -> Any:
    """The raw envelope with items in v1 form, as HikerAPI has it."""
    items = stories(data["items"], data.get("user"))
    return {"response": {"reels": {str(data["id"]): {**data, "items": items}}, "status": "ok"}}


def user_v1(data: Data) -> Any:
    return data["user"]


def user_v2(data: Data) -> Any:
    return {"user": data["user"], "status": "ok"}


# Whose ids are integers where Instagram sends integers, unless the caller wants ``safe_int``.
AS_SENT = (reel_v2, user_v2)
