"""What goes in and out of batches."""

from __future__ import annotations

from typing import Any

from marshmallow import fields, validate

from service.api.fetches import shape_field
from service.api.schemas import EnvelopeSchema, PageQuerySchema, WireSchema
from service.domain import namelists
from service.domain.batches import (
    BATCH_STATES,
    BOTH,
    CLAMP,
    EACH,
    ON_INSUFFICIENT_CREDITS,
    REJECT,
    SUMMARY,
    WEBHOOK_MODES,
)
from service.domain.policy import POLL_WAIT_MAX
from service.domain.sharing import MAX_AGE_DEFAULT, MAX_AGE_MOST

MOST = f"{namelists.NAMES_MOST:,}"


class OptionsSchema(WireSchema):
    """What may be said about a batch beside the names: in the query when the body is no JSON."""

    webhook_url = fields.Str(allow_none=True, metadata={"format": "uri"})
    webhook_mode = fields.Str(
        load_default=EACH,
        validate=validate.OneOf(WEBHOOK_MODES),
        metadata={"description": f"{EACH}: every result; {SUMMARY}: counts at the end; {BOTH}"},
    )
    max_age = fields.Int(load_default=MAX_AGE_DEFAULT, validate=validate.Range(0, MAX_AGE_MOST))
    on_insufficient_credits = fields.Str(
        load_default=REJECT,
        validate=validate.OneOf(ON_INSUFFICIENT_CREDITS),
        metadata={"description": f"{CLAMP} accepts as many as the balance pays for"},
    )
    shape = shape_field()
    archive = fields.Bool(load_default=False, metadata={"description": "keep the media of each story"})
    strict = fields.Bool(load_default=False, metadata={"description": "refuse all when one name is invalid"})
    idempotency_key = fields.Str(
        allow_none=True, metadata={"description": "for tools that cannot set the header Idempotency-Key"}
    )


class NamesField(fields.List):
    """A list whose items are looked at later: what is wrong with one of them is told by its place."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list):
            raise self.make_error("invalid")
        return value


class BatchSchema(OptionsSchema):
    """Whose stories, and where to send them."""

    usernames = NamesField(
        fields.Str(),
        required=True,
        metadata={"description": f"1 to {MOST} names, @names or profile URLs", "example": ["instagram"]},
    )
    max_age = fields.Int(strict=True, load_default=MAX_AGE_DEFAULT, validate=validate.Range(0, MAX_AGE_MOST))


class LineSchema(WireSchema):
    """A line of the list."""

    line = fields.Int()
    username = fields.Str()
    external_id = fields.Str()


class InvalidSchema(WireSchema):
    """A line that is no name."""

    line = fields.Int()
    value = fields.Str()
    error = fields.Str()


class AcceptedSchema(WireSchema):
    """A batch as accepted."""

    success = fields.Bool()
    batch_id = fields.Str()
    status = fields.Str(validate=validate.OneOf(BATCH_STATES))
    accepted = fields.Int()
    credits_held = fields.Int()
    duplicates = fields.List(fields.Nested(LineSchema), metadata={"description": "names that came before"})
    invalid = fields.List(fields.Nested(InvalidSchema))
    unpaid = fields.List(fields.Str(), metadata={"description": "with clamp: what the balance did not pay"})
    created_at = fields.DateTime()
    results = fields.Str(metadata={"description": "where the results are"})


class BatchStatusSchema(WireSchema):
    """A batch: how far it is, what came of it. Its webhook carries the same."""

    success = fields.Bool()
    batch_id = fields.Str()
    status = fields.Str(validate=validate.OneOf(BATCH_STATES))
    total = fields.Int()
    states = fields.Dict(keys=fields.Str(), values=fields.Int())
    outcomes = fields.Dict(keys=fields.Str(), values=fields.Int())
    cached = fields.Int(metadata={"description": "how many were fetched for an earlier request"})
    progress = fields.Float(metadata={"description": "0 to 1"})
    item_count = fields.Int(metadata={"description": "stories found"})
    credits_held = fields.Int()
    credits_charged = fields.Int()
    webhook_url = fields.Str(allow_none=True)
    webhook_mode = fields.Str()
    max_age = fields.Int()
    created_at = fields.DateTime()
    started_at = fields.DateTime(allow_none=True)
    finished_at = fields.DateTime(allow_none=True)
    eta = fields.DateTime(allow_none=True, metadata={"description": "when it ends at its speed so far"})
    results = fields.Str()


class BatchListSchema(WireSchema):
    """A page of batches."""

    batches = fields.List(fields.Nested(BatchStatusSchema))
    next_cursor = fields.Str(allow_none=True)


class WaitSchema(WireSchema):
    """How to look at a batch."""

    wait = fields.Float(
        load_default=0.0, validate=validate.Range(0, POLL_WAIT_MAX), metadata={"description": "long-poll"}
    )


class ResultsQuerySchema(PageQuerySchema):
    """Which results, and how."""

    data = fields.Bool(load_default=True, metadata={"description": "false leaves `data` out"})
    format = fields.Str(
        validate=validate.OneOf(["json", "ndjson"]),
        metadata={"description": "ndjson streams all from the cursor on, a line each; or by Accept"},
    )


class ResultsSchema(WireSchema):
    """A page of envelopes, in the order of the names."""

    results = fields.List(fields.Nested(EnvelopeSchema))
    next_cursor = fields.Str(allow_none=True)
