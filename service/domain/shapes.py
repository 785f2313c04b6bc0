"""The forms in which a result may be had: as Instagram sends it, or as HikerAPI's v1 renders it."""

from __future__ import annotations

from typing import Any

from service.domain.operations import RAW
from service.domain.renditions import highlight, stories
from service.domain.stories import with_string_ids

Json = dict[str, Any]

# What the archive adds to items; it is ours, whatever the form.
KEPT = ("archiveUrl", "archive", "archiveError")


def shaped(data: Json, shape: str) -> Json:
    """Return the ``data`` of an envelope in one of `service.domain.operations.SHAPES`.

    A highlight becomes HikerAPI's ``Highlight``; ``items`` become ``Story`` objects and ``tray`` a list of
    ``Highlight`` objects without items, beside ``id`` and ``user``. What is no object is left out of them.
    """
    return with_string_ids(_rendered(data)) if shape != RAW else data


def _rendered(data: Json) -> Json:
    if "tray" in data:
        tray = [highlight(each) for each in _objects(data["tray"])]
        return {"id": data["id"], "user": data["user"], "tray": tray}
    raw = _objects(data["items"])
    if str(data["id"]).startswith("highlight:"):
        made = highlight(data)
        return {**made, "items": _kept(raw, made["items"])}
    items = _kept(raw, stories(raw, data.get("user")))
    return {"id": data["id"], "user": data["user"], "items": items}


def _objects(listed: list[Any]) -> list[Json]:
    return [each for each in listed if isinstance(each, dict)]


def _kept(raw: list[Json], rendered: list[Json]) -> list[Json]:
    return [
        made | {name: item[name] for name in KEPT if name in item}
        for item, made in zip(raw, rendered, strict=True)
    ]
