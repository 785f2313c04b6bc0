"""POST /api/instagram/stories: sync, or with a webhook."""

from __future__ import annotations

from typing import Any

from flask import Response, request
from flask.views import MethodView
from marshmallow import fields, validate

from service.actions.submit import submit
from service.api.blueprint import ApiBlueprint
from service.api.context import account, require_account, services, wait
from service.api.envelopes import accepted, outcome
from service.api.idempotency import idempotency_key
from service.api.limits import count_call
from service.api.preferences import Preference, parse_prefer
from service.api.schemas import EnvelopeSchema, WireSchema
from service.domain.operations import STORIES
from service.domain.requests import parse_username
from service.domain.sharing import MAX_AGE_DEFAULT, MAX_AGE_MOST
from service.domain.targets import named

blueprint = ApiBlueprint("stories", __name__, url_prefix="/api/instagram", description="Instagram stories")
blueprint.before_request(require_account)


class StoriesSchema(WireSchema):
    """Whose stories, and where to send them."""

    username = fields.Str(
        required=True,
        validate=validate.Length(1, 300),
        metadata={"description": "name, @name or profile URL", "example": "instagram"},
    )
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


@blueprint.route("/stories")
class Stories(MethodView):
    @blueprint.doc(parameters=HEADERS)
    @blueprint.arguments(StoriesSchema)
    @blueprint.response(200, EnvelopeSchema, description="The reel, or an empty one")
    @blueprint.alt_response(
        202, schema=EnvelopeSchema, description="Queued; poll Location or wait for the webhook"
    )
    def post(self, body: dict[str, Any]) -> Response:
        """Fetch the stories of an account

        Without `webhookUrl` the call waits for the result, up to the sync deadline; past it the
        answer is 202 and the result is polled. With `webhookUrl`, or `Prefer: respond-async`, the
        answer is 202 at once. `Prefer: wait=N` sets how many seconds to wait.
        """
        count_call()
        webhook_url = body.get("webhook_url")
        policy = services().policy
        preference = parse_prefer(request.headers.get("Prefer", ""))
        patience = preference.patience(policy.sync_deadline, policy.sync_deadline_max)
        if webhook_url is not None:
            preference, patience = Preference(), 0.0  # the result goes there, nobody waits
        record, replayed = submit(
            services(),
            account().account_id,
            STORIES,
            named(parse_username(body["username"])),
            webhook_url=webhook_url,
            waited_for=patience > 0,
            idempotency_key=idempotency_key(body.get("idempotency_key")),
            max_age=body["max_age"],
        )
        record = wait(record, patience)
        # Who did not wait gets the 202 of the first time again, also when the request has ended since.
        response = outcome(record) if record.is_final and patience > 0 else accepted(record)
        if applied := preference.applied(policy.sync_deadline_max):
            response.headers["Preference-Applied"] = applied
        if replayed:
            response.headers["Idempotency-Replayed"] = "true"
        return response
