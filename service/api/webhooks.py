"""/api/webhooks: what was delivered and how, send it again, try a receiver out, signing secrets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flask import Response
from flask.views import MethodView
from marshmallow import fields, validate

from service.actions import deliveries as actions
from service.api.answers import POLL_AFTER, json_response
from service.api.blueprint import ApiBlueprint
from service.api.context import account, place_to_wait, process_ends, require_account, services
from service.api.fetches import IDEMPOTENCY_HEADER
from service.api.idempotency import idempotency_key
from service.api.limits import count_call
from service.api.schemas import PageQuerySchema, WireSchema
from service.domain.accounts import WebhookSecrets
from service.domain.deliveries import PENDING, STATES, Attempt, Delivery
from service.domain.envelopes import timestamp

blueprint = ApiBlueprint("webhooks", __name__, url_prefix="/api/webhooks", description="Webhooks out")
blueprint.before_request(require_account)


class AttemptSchema(WireSchema):
    """One try to deliver."""

    at = fields.DateTime(metadata={"description": "when; its second is the signed webhook-timestamp"})
    timestamp = fields.Int(metadata={"description": "the signed webhook-timestamp"})
    duration = fields.Float(metadata={"description": "seconds"})
    status = fields.Int(allow_none=True, metadata={"description": "HTTP status of the answer"})
    error = fields.Str(allow_none=True, metadata={"description": "what happened instead of an answer"})
    snippet = fields.Str(metadata={"description": "the first 1 KiB of the answer, escaped"})


class DeliverySchema(WireSchema):
    """A webhook that is or was owed; `id` is its webhook-id header."""

    id = fields.Str()
    request_id = fields.Str(allow_none=True)
    batch_id = fields.Str(allow_none=True, metadata={"description": "of the summary of a batch"})
    url = fields.Str()
    status = fields.Str(metadata={"description": ", ".join(STATES)})
    attempts = fields.Int()
    created_at = fields.DateTime()
    next_attempt_at = fields.DateTime(allow_none=True)


class DeliveryWithLogSchema(DeliverySchema):
    """A delivery with every attempt, oldest first."""

    log = fields.List(fields.Nested(AttemptSchema))


class DeliveryListSchema(WireSchema):
    """A page of deliveries."""

    deliveries = fields.List(fields.Nested(DeliverySchema))
    next_cursor = fields.Str(allow_none=True)


class DeliveryQuerySchema(PageQuerySchema):
    """Which deliveries to list."""

    request_id = fields.Str(metadata={"description": "of a request, or of a batch for its summary"})
    status = fields.Str(validate=validate.OneOf(STATES))


class ReplayedSchema(WireSchema):
    """What was sent again."""

    replayed = fields.Int()
    more = fields.Bool(metadata={"description": "there are more than are done at a time: call again"})


class ReplayOneSchema(WireSchema):
    """A delivery sent again."""

    id = fields.Str()
    status = fields.Str()
    previous_status = fields.Str(metadata={"description": "delivered says that it had arrived before"})


class SinceSchema(WireSchema):
    """From when on."""

    since = fields.AwareDateTime(required=True, default_timezone=UTC)


class TestSchema(WireSchema):
    """Where to send the sample."""

    url = fields.Str(required=True, metadata={"format": "uri"})


class TestedSchema(WireSchema):
    """What came of the sample; `attempt` is null while it has not ended."""

    id = fields.Str()
    status = fields.Str()
    attempt = fields.Nested(AttemptSchema, allow_none=True)


class OldSecretSchema(WireSchema):
    """A secret that was replaced and signs on for a while."""

    secret = fields.Str(metadata={"example": "whsec_..."})
    expires_at = fields.DateTime()


class SecretSchema(WireSchema):
    """The signing secrets (Standard Webhooks)."""

    secret = fields.Str(metadata={"example": "whsec_..."})
    previous_secret = fields.Str(allow_none=True, metadata={"description": "signs beside the new one"})
    previous_expires_at = fields.DateTime(allow_none=True)
    previous_secrets = fields.List(
        fields.Nested(OldSecretSchema),
        metadata={"description": "all that sign beside the new one, the newest first"},
    )


@blueprint.route("/deliveries")
class Deliveries(MethodView):
    @blueprint.arguments(DeliveryQuerySchema, location="query")
    @blueprint.response(200, DeliveryListSchema)
    def get(self, query: dict[str, Any]) -> Response:
        """List your deliveries, newest first"""
        page = actions.list_deliveries(
            services(),
            account().account_id,
            request_id=query.get("request_id"),
            status=query.get("status"),
            cursor=query.get("cursor"),
            limit=query["limit"],
        )
        lines = [_delivery(delivery) for delivery in page.items]
        return json_response({"deliveries": lines, "nextCursor": page.next_cursor})


@blueprint.route("/deliveries/<delivery_id>")
class OneDelivery(MethodView):
    @blueprint.response(200, DeliveryWithLogSchema)
    def get(self, delivery_id: str) -> Response:
        """Show a delivery with every attempt"""
        delivery = actions.find_delivery(services(), account().account_id, delivery_id)
        log = [_attempt(attempt) for attempt in services().deliveries.attempts(delivery_id)]
        return json_response({**_delivery(delivery), "log": log})


@blueprint.route("/deliveries/<delivery_id>/replay")
class Replay(MethodView):
    @blueprint.response(202, ReplayOneSchema)
    def post(self, delivery_id: str) -> Response:
        """Send a delivery again, with the same webhook-id"""
        count_call()
        before = actions.replay(services(), account().account_id, delivery_id)
        return _accepted({"id": delivery_id, "status": PENDING, "previousStatus": before})


@blueprint.route("/replay")
class ReplayFailed(MethodView):
    @blueprint.arguments(SinceSchema)
    @blueprint.response(202, ReplayedSchema)
    def post(self, body: dict[str, Any]) -> Response:
        """Send again what failed for good since a time, up to 1,000 deliveries"""
        count_call()
        since: datetime = body["since"]
        replayed, more = actions.replay_failed(
            services(), account().account_id, int(since.timestamp() * 1000)
        )
        return _accepted({"replayed": replayed, "more": more})


@blueprint.route("/test")
class Test(MethodView):
    @blueprint.arguments(TestSchema)
    @blueprint.response(200, TestedSchema)
    def post(self, body: dict[str, Any]) -> Response:
        """Send a signed sample to a URL and show what came of it"""
        count_call()
        with place_to_wait() as granted:
            delivery, attempt = actions.send_test(
                services(),
                account().account_id,
                body["url"],
                seconds=services().policy.webhook_timeout + 5 if granted else 0,
                give_up=process_ends,
            )
        shown = _attempt(attempt) if attempt else None
        return json_response({"id": delivery.delivery_id, "status": delivery.status, "attempt": shown})


@blueprint.route("/secret")
class Secret(MethodView):
    @blueprint.response(200, SecretSchema)
    def get(self) -> Response:
        """Show the secret your webhooks are signed with"""
        return json_response(_secrets(services().accounts.webhook_secrets(account().account_id)))


@blueprint.route("/secret/rotate")
class RotateSecret(MethodView):
    @blueprint.doc(parameters=[IDEMPOTENCY_HEADER])
    @blueprint.response(200, SecretSchema)
    def post(self) -> Response:
        """Make a new secret; those before it sign on, each for 24 hours after it was replaced

        With an `Idempotency-Key` a call that is sent again gets the secret it made the first time. At most 5
        replaced secrets sign at a time: a sixth rotation within 24 hours is refused with 429.
        """
        made = services().accounts.rotate_webhook_secret(account().account_id, idempotency_key(None))
        return json_response(_secrets(made))


def _accepted(body: dict[str, Any]) -> Response:
    response = json_response(body, 202)
    response.headers["Retry-After"] = str(POLL_AFTER)
    return response


def _delivery(delivery: Delivery) -> dict[str, Any]:
    pending = delivery.status == PENDING
    return {
        "id": delivery.delivery_id,
        "requestId": None if delivery.is_of_batch else delivery.request_id or None,
        "batchId": delivery.request_id if delivery.is_of_batch else None,
        "url": delivery.url,
        "status": delivery.status,
        "attempts": delivery.attempts,
        "createdAt": timestamp(delivery.created_at),
        "nextAttemptAt": timestamp(delivery.next_at) if pending else None,
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "at": timestamp(attempt.at * 1000),
        "timestamp": attempt.at,
        "duration": round(attempt.duration, 3),
        "status": attempt.status or None,
        "error": attempt.error or None,
        "snippet": attempt.snippet,
    }


def _secrets(secrets: WebhookSecrets) -> dict[str, Any]:
    old = [{"secret": secret, "expiresAt": timestamp(ends)} for secret, ends in secrets.old]
    newest = old[0] if old else {}
    return {
        "secret": secrets.current,
        "previousSecret": newest.get("secret"),
        "previousExpiresAt": newest.get("expiresAt"),
        "previousSecrets": old,
    }
