"""POST /api/instagram/<operation>: every operation of the table, sync or with a webhook."""

from __future__ import annotations

from typing import Any, cast

from flask import Response, request
from flask.views import MethodView
from marshmallow import ValidationError, fields, validate

from service.actions.submit import submit
from service.api.blueprint import ApiBlueprint
from service.api.context import account, require_account, services, wait
from service.api.envelopes import accepted, outcome
from service.api.idempotency import idempotency_key
from service.api.limits import counted
from service.api.preferences import Preference, parse_prefer
from service.api.schemas import EnvelopeSchema, WireSchema
from service.domain.errors import ValidationFailed
from service.domain.inputs import inputs_of, target_of
from service.domain.operations import OPERATIONS, SHAPES, STORY_SHAPE, Operation
from service.domain.options import Options
from service.domain.sharing import MAX_AGE_DEFAULT, MAX_AGE_MOST
from service.domain.stories import MAX_SAFE_INTEGER
from service.domain.targets import Target

blueprint = ApiBlueprint("fetches", __name__, url_prefix="/api/instagram", description="Instagram")
blueprint.before_request(require_account)

AMOUNT_MOST = 200
IDEMPOTENCY_HEADER = {
    "in": "header",
    "name": "Idempotency-Key",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "the same key with the same body within 24 hours is the same request, charged once",
}
HEADERS = [
    IDEMPOTENCY_HEADER,
    {
        "in": "header",
        "name": "Prefer",
        "schema": {"type": "string", "example": "wait=10"},
        "description": "respond-async, or wait=N seconds (RFC 7240)",
    },
]
HOW = (
    "Without `webhookUrl` the call waits for the result, up to the sync deadline; past it the answer is 202 "
    "and the result is polled. With `webhookUrl`, or `Prefer: respond-async`, the answer is 202 at once. "
    "`Prefer: wait=N` sets how many seconds to wait."
)


class FetchSchema(WireSchema):
    """What every operation takes: where to send the result, how old it may be."""

    webhook_url = fields.Str(
        allow_none=True,
        metadata={"format": "uri", "description": "given: the answer is 202 and the result is POSTed here"},
    )
    max_age = fields.Int(
        strict=True,
        load_default=MAX_AGE_DEFAULT,
        validate=validate.Range(0, MAX_AGE_MOST),
        metadata={
            "description": "how old a result fetched for somebody else may be, seconds; 0 fetches anew"
        },
    )
    idempotency_key = fields.Str(
        allow_none=True, metadata={"description": "for tools that cannot set the header Idempotency-Key"}
    )


def amount_field() -> fields.Int:
    return fields.Int(
        strict=True,
        load_default=0,
        validate=validate.Range(0, AMOUNT_MOST),
        metadata={"description": "at most so many of them; 0: all"},
    )


def shape_field() -> fields.Str:
    return fields.Str(
        load_default=SHAPES[0],
        validate=validate.OneOf(SHAPES),
        metadata={"description": f"{SHAPES[0]}: as Instagram sends it; {STORY_SHAPE}: HikerAPI's v1 form"},
    )


def archive_field() -> fields.Bool:
    return fields.Bool(
        load_default=False,
        truthy={True},
        falsy={False},
        metadata={"description": "keep the media: each item gets an archiveUrl"},
    )


def options_in(body: dict[str, Any]) -> Options:
    """Return the options of a body with some of these fields.

    Raises ValidationFailed where media are to be kept and this service keeps none.
    """
    if body.get("archive") and not services().archive.enabled:
        raise ValidationFailed(details={"archive": ["This service keeps no media: leave it out."]})
    chosen = {name: body[name] for name in ("amount", "shape", "archive") if name in body}
    return Options(**chosen)


class IdField(fields.Str):
    """An id, as text; it may come as a number that JavaScript does not round."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        if isinstance(value, int) and not isinstance(value, bool):
            if value > MAX_SAFE_INTEGER:
                raise ValidationError("Send it as text, in quotes: so long a number may have been rounded.")
            value = str(value)
        return str(super()._deserialize(value, *args, **kwargs))


def target_fields(operation: Operation) -> dict[str, Any]:
    """Return the fields of which exactly one names what is asked for."""
    return {
        each.field: (IdField if each.is_id else fields.Str)(
            validate=validate.Length(1, each.longest),
            metadata={"description": each.description, "example": each.example},
        )
        for each in inputs_of(operation)
    }


def _schema(operation: Operation) -> type[FetchSchema]:
    """Return the schema of an operation's body."""
    made: dict[str, Any] = target_fields(operation)
    made["one_of"] = list(made)
    if operation.counted and not operation.single:
        made["amount"] = amount_field()
    if operation.shaped:
        made["shape"] = shape_field()
    if operation.has_media:
        made["archive"] = archive_field()
    name = f"Fetch{operation.name.title()}Schema"
    return cast(type[FetchSchema], type(name, (FetchSchema,), {"__doc__": operation.summary, **made}))


def _view(operation: Operation) -> type[MethodView]:
    """Return the view of an operation."""
    schema = _schema(operation)()

    class Fetch(MethodView):
        @blueprint.doc(
            parameters=HEADERS,
            summary=operation.summary,
            description=f"`data` is {operation.data}. {HOW}",
        )
        @blueprint.arguments(schema)
        @blueprint.response(200, EnvelopeSchema, description="The result")
        @blueprint.alt_response(
            202, schema=EnvelopeSchema, description="Queued; poll Location or wait for the webhook"
        )
        def post(self, body: dict[str, Any]) -> Response:
            return _answer(operation, target_of(operation, body), body)

    return Fetch


def _answer(operation: Operation, target: Target, body: dict[str, Any]) -> Response:
    webhook_url = body.get("webhook_url")
    policy = services().policy
    preference = parse_prefer(request.headers.get("Prefer", ""))
    patience = preference.patience(policy.sync_deadline, policy.sync_deadline_max)
    if webhook_url is not None:
        preference, patience = Preference(), 0.0  # the result goes there, nobody waits
    record, replayed = submit(
        services(),
        account().account_id,
        operation.name,
        target,
        webhook_url=webhook_url,
        waited_for=patience > 0,
        idempotency_key=idempotency_key(body.get("idempotency_key")),
        max_age=body["max_age"],
        options=options_in(body),
        counted=counted,
    )
    record = wait(record, patience)
    # Who did not wait gets the 202 of the first time again, also when the request has ended since.
    response = outcome(record) if record.is_final and patience > 0 else accepted(record)
    if applied := preference.applied(policy.sync_deadline_max):
        response.headers["Preference-Applied"] = applied
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return response


for _operation in OPERATIONS.values():
    blueprint.route(f"/{_operation.name}", endpoint=_operation.name)(_view(_operation))
