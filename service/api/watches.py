"""/api/watches: an account's stories looked at again and again, what is new sent to a webhook."""

from __future__ import annotations

from typing import Any

from flask import Response
from flask.views import MethodView
from marshmallow import fields, validate

from service.actions import watches as actions
from service.api.answers import json_response
from service.api.blueprint import ApiBlueprint
from service.api.context import account, require_account, services
from service.api.envelopes import accepted
from service.api.fetches import IDEMPOTENCY_HEADER, archive_field, options_in, shape_field
from service.api.idempotency import idempotency_key
from service.api.limits import count_call
from service.api.schemas import EXAMPLE_WATCH_ID, EnvelopeSchema, PageQuerySchema, WireSchema
from service.domain.envelopes import timestamp
from service.domain.sharing import MAX_AGE_DEFAULT, MAX_AGE_MOST
from service.domain.watches import BY_HAND, EVERY_LENGTH, RECEIVER_GONE, STATES, Watch

blueprint = ApiBlueprint(
    "watches", __name__, url_prefix="/api/watches", description="Look again and again, tell what is new"
)
blueprint.before_request(require_account)


class NewWatchSchema(WireSchema):
    """Whose stories, how often, and where to send them."""

    username = fields.Str(
        required=True,
        validate=validate.Length(1, 300),
        metadata={"description": "name, @name or profile URL", "example": "instagram"},
    )
    every = fields.Str(
        required=True,
        validate=validate.Length(1, EVERY_LENGTH),
        metadata={
            "description": "90s, 15m, 2h, 1d, or a cron expression of 5 fields in UTC",
            "example": "15m",
        },
    )
    webhook_url = fields.Str(required=True, validate=validate.Length(1), metadata={"format": "uri"})
    only_new = fields.Bool(
        load_default=True,
        truthy={True},
        falsy={False},
        metadata={
            "description": "send only items that were not sent before, and nothing when there are none"
        },
    )
    heartbeat = fields.Bool(
        load_default=False,
        truthy={True},
        falsy={False},
        metadata={"description": "with onlyNew: send a webhook after every run all the same"},
    )
    max_age = fields.Int(
        strict=True,
        load_default=MAX_AGE_DEFAULT,
        validate=validate.Range(0, MAX_AGE_MOST),
        metadata={"description": "how old a result fetched for somebody else may be, seconds"},
    )
    shape = shape_field()
    archive = archive_field()
    idempotency_key = fields.Str(
        allow_none=True, metadata={"description": "for tools that cannot set the header Idempotency-Key"}
    )


class WatchSchema(WireSchema):
    """A watch."""

    success = fields.Bool()
    watch_id = fields.Str(metadata={"example": EXAMPLE_WATCH_ID})
    username = fields.Str()
    every = fields.Str()
    webhook_url = fields.Str()
    only_new = fields.Bool()
    heartbeat = fields.Bool()
    max_age = fields.Int()
    shape = fields.Str()
    archive = fields.Bool()
    status = fields.Str(validate=validate.OneOf(STATES))
    pause_reason = fields.Str(allow_none=True, metadata={"description": f"{BY_HAND} or {RECEIVER_GONE}"})
    created_at = fields.DateTime()
    next_run_at = fields.DateTime(allow_none=True)
    last_run_at = fields.DateTime(allow_none=True)
    last_request_id = fields.Str(allow_none=True)
    last_outcome = fields.Str(
        allow_none=True,
        metadata={"description": "found, empty, nothing_new, a code such as account_private, ..."},
    )
    runs = fields.Int(metadata={"description": "runs that have ended"})
    items_delivered = fields.Int(metadata={"description": "items handed to the webhook"})


class WatchListSchema(WireSchema):
    """A page of watches."""

    watches = fields.List(fields.Nested(WatchSchema))
    next_cursor = fields.Str(allow_none=True)


@blueprint.route("")
class Watches(MethodView):
    @blueprint.arguments(PageQuerySchema, location="query")
    @blueprint.response(200, WatchListSchema)
    def get(self, query: dict[str, Any]) -> Response:
        """List your watches, newest first"""
        page = actions.list_watches(
            services(), account().account_id, cursor=query.get("cursor"), limit=query["limit"]
        )
        lines = [_shown(watch) for watch in page.items]
        return json_response({"watches": lines, "nextCursor": page.next_cursor})

    @blueprint.doc(parameters=[IDEMPOTENCY_HEADER])
    @blueprint.arguments(NewWatchSchema)
    @blueprint.response(201, WatchSchema)
    def post(self, body: dict[str, Any]) -> Response:
        """Watch an account: fetch its stories again and again

        The first run is at once. Each run is a request, held and charged like any other; with `onlyNew` one
        that brings nothing new is free by default and sends no webhook.
        """
        count_call()
        key = idempotency_key(body.pop("idempotency_key", None))
        options = options_in(body)
        asked = {name: value for name, value in body.items() if name not in ("shape", "archive")}
        watch, replayed = actions.add_watch(
            services(), account().account_id, **asked, options=options, idempotency_key=key
        )
        response = json_response(_shown(watch), 201)
        if replayed:
            response.headers["Idempotency-Replayed"] = "true"
        response.headers["Location"] = f"/api/watches/{watch.watch_id}"
        return response


@blueprint.route("/<watch_id>")
class OneWatch(MethodView):
    @blueprint.response(200, WatchSchema)
    def get(self, watch_id: str) -> Response:
        """Show a watch"""
        return json_response(_shown(actions.find_watch(services(), account().account_id, watch_id)))

    @blueprint.response(204)
    def delete(self, watch_id: str) -> Response:
        """Delete a watch, and what it has seen; a run that is under way ends like a single request"""
        actions.delete_watch(services(), account().account_id, watch_id)
        return Response(status=204)


@blueprint.route("/<watch_id>/pause")
class Pause(MethodView):
    @blueprint.response(200, WatchSchema)
    def post(self, watch_id: str) -> Response:
        """Pause a watch; it keeps what it has seen"""
        return json_response(_shown(actions.pause_watch(services(), account().account_id, watch_id)))


@blueprint.route("/<watch_id>/resume")
class Resume(MethodView):
    @blueprint.response(200, WatchSchema)
    def post(self, watch_id: str) -> Response:
        """Resume a watch; its next run is at once"""
        count_call()
        return json_response(_shown(actions.resume_watch(services(), account().account_id, watch_id)))


@blueprint.route("/<watch_id>/run")
class RunNow(MethodView):
    @blueprint.response(202, EnvelopeSchema)
    def post(self, watch_id: str) -> Response:
        """Run a watch now; while a run is under way, that one is meant"""
        count_call()
        return accepted(actions.run_by_hand(services(), account().account_id, watch_id))


def _shown(watch: Watch) -> dict[str, Any]:
    return {
        "success": True,
        "watchId": watch.watch_id,
        "username": watch.username,
        "every": watch.every,
        "webhookUrl": watch.webhook_url,
        "onlyNew": watch.only_new,
        "heartbeat": watch.heartbeat,
        "maxAge": watch.max_age,
        "shape": watch.options.shape,
        "archive": watch.options.archive,
        "status": watch.status,
        "pauseReason": watch.pause_reason,
        "createdAt": timestamp(watch.created_at),
        "nextRunAt": _time(watch.next_run_at),
        "lastRunAt": _time(watch.last_run_at),
        "lastRequestId": watch.last_request_id,
        "lastOutcome": watch.last_outcome,
        "runs": watch.runs,
        "itemsDelivered": watch.items_delivered,
    }


def _time(at_ms: int) -> str | None:
    return timestamp(at_ms) if at_ms else None
