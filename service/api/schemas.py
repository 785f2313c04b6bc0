"""What goes in and out, shared by several resources. camelCase on the wire, snake_case here."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields, validate

EXAMPLE_ID = "req_0701jd5hx2kq8m3v9w4t6z1y0c7b"
EXAMPLE_WATCH_ID = "wat_0701jd5hx2kq8m3v9w4t6z1y0c7b"


def camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.title() for part in rest)


class WireSchema(Schema):
    """Base schema: every field is camelCase on the wire."""

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        field_obj.data_key = camel(field_obj.data_key or field_name)


class AboutSchema(WireSchema):
    """What a request is about, one of them, and what was asked for."""

    operation = fields.Str(metadata={"example": "stories"})
    username = fields.Str(metadata={"example": "instagram"})
    user_id = fields.Str()
    story_id = fields.Str()
    highlight_id = fields.Str()
    media_url = fields.Str()


class EnvelopeSchema(AboutSchema):
    """The envelope: a sync answer, a polled request and a webhook carry the same JSON."""

    success = fields.Bool(required=True)
    request_id = fields.Str(required=True, metadata={"example": EXAMPLE_ID})
    watch_id = fields.Str(metadata={"description": "whose run it is, if any", "example": EXAMPLE_WATCH_ID})
    status = fields.Str(validate=validate.OneOf(["queued", "processing", "succeeded", "failed", "cancelled"]))
    outcome = fields.Str(
        metadata={"description": "found, empty or nothing_new, once succeeded", "example": "found"}
    )
    batch_id = fields.Str(metadata={"description": "of an item of a batch"})
    external_id = fields.Str(metadata={"description": "your own id of the item, if you gave one"})
    message = fields.Str(metadata={"description": "while it is under way"})
    data = fields.Dict(metadata={"description": "what was found, by operation; every id a string"})
    item_count = fields.Int()
    source = fields.Str(metadata={"description": "which upstream gave it"})
    cached = fields.Bool(metadata={"description": "whether it was fetched for an earlier request"})
    age = fields.Int(metadata={"description": "how old the result was when it was taken, seconds"})
    credits_charged = fields.Int()
    error = fields.Str(metadata={"description": "a sentence for a person"})
    code = fields.Str(metadata={"description": "a stable machine word"})
    created_at = fields.DateTime()
    finished_at = fields.DateTime()


class ErrorSchema(WireSchema):
    """An error: the envelope of an exchange that created no request."""

    success = fields.Bool(required=True, metadata={"example": False})
    request_id = fields.Str(required=True)
    status = fields.Str(metadata={"example": "failed"})
    error = fields.Str(required=True)
    code = fields.Str(required=True, metadata={"example": "validation_error"})
    details = fields.Dict(
        keys=fields.Str(), values=fields.List(fields.Str()), metadata={"description": "per field"}
    )


class PageQuerySchema(WireSchema):
    """Paging, the same for every list: newest first."""

    cursor = fields.Str(metadata={"description": "nextCursor of the page before"})
    limit = fields.Int(load_default=50, validate=validate.Range(1, 200))
