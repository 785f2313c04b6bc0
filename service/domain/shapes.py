"""The forms in which a result may be had: as Instagram sends it, or as HikerAPI's v1 renders it."""

from __future__ import annotations

from typing import Any

from service.domain.operations import RAW
from service.domain.renditions import highlight, stories

Json = dict[str, Any]

# What the archive adds to items; it is ours, whatever the form.
KEPT = ("archiveUrl", "archive", "archiveError")


def shaped(data: Json, shape: str) -> Json:
    """Return the ``data`` of an envelope in one of `service.domain.operations.SHAPES`.

    A highlight becomes HikerAPI's ``Highlight``; ``items`` become ``Story`` objects and ``tray`` a list of
    ``Highlight`` objects without items, beside ``id`` and ``user``.
    """
    if shape == RAW:
        return data
    if "tray" in data:
        return {"id": data["id"], "user": data["user"], "tray": [highlight(each) for each in data["tray"]]}
    if str(data["id"]).startswith("highlight:"):
        made = highlight(data)
        return {**made, "items": _kept(data["items"], made["items"])}
    items = _kept(data["items"], stories(data["items"], data.get("user")))
    return {"id": data["id"], "user": data["user"], "items": items}


def _kept(raw: list[Json], rendered: list[Json]) -> list[Json]:
    return [
        made | {name: item[name] for name in KEPT if name in item}
        for item, made in zip(raw, rendered, strict=True)
    ]
