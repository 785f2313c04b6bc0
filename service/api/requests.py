"""/api/requests...: look at requests, wait for them, cancel them, delete what is kept of them."""

from __future__ import annotations

from typing import Any

from flask import Response
from flask.views import MethodView
from marshmallow import fields, validate

from service.actions.cancel import cancel_request
from service.actions.erase import delete_request
from service.actions.lookup import find_request, list_requests
from service.api import envelopes as answers
from service.api.answers import json_response
from service.api.blueprint import ApiBlueprint
from service.api.context import account, require_account, services, wait
from service.api.schemas import AboutSchema, EnvelopeSchema, PageQuerySchema, WireSchema
from service.domain import envelopes
from service.domain.policy import POLL_WAIT_MAX
from service.domain.requests import STATES

blueprint = ApiBlueprint("requests", __name__, url_prefix="/api/requests", description="Your requests")
blueprint.before_request(require_account)


class LookQuerySchema(WireSchema):
    """How to look at a request."""

    wait = fields.Float(
        load_default=0.0, validate=validate.Range(0, POLL_WAIT_MAX), metadata={"description": "long-poll"}
    )
    data = fields.Bool(load_default=True, metadata={"description": "false leaves `data` out"})


class ListQuerySchema(PageQuerySchema):
    """Which requests to list."""

    status = fields.Str(validate=validate.OneOf(STATES))
    username = fields.Str(validate=validate.Length(1, 30))


class SummarySchema(AboutSchema):
    """A request without its data."""

    request_id = fields.Str()
    watch_id = fields.Str(metadata={"description": "whose run it is, if any"})
    status = fields.Str()
    batch_id = fields.Str(metadata={"description": "of an item of a batch"})
    external_id = fields.Str(metadata={"description": "your own id of the item, if you gave one"})
    outcome = fields.Str(allow_none=True)
    code = fields.Str(allow_none=True)
    item_count = fields.Int()
    credits_charged = fields.Int()
    webhook_url = fields.Str(allow_none=True)
    created_at = fields.DateTime()
    finished_at = fields.DateTime(allow_none=True)


class RequestListSchema(WireSchema):
    """A page of requests."""

    requests = fields.List(fields.Nested(SummarySchema))
    next_cursor = fields.Str(allow_none=True)


@blueprint.route("")
class Requests(MethodView):
    @blueprint.arguments(ListQuerySchema, location="query")
    @blueprint.response(200, RequestListSchema)
    def get(self, query: dict[str, Any]) -> Response:
        """List your requests, newest first"""
        page = list_requests(
            services(),
            account().account_id,
            status=query.get("status"),
            username=query.get("username"),
            cursor=query.get("cursor"),
            limit=query["limit"],
        )
        lines = [envelopes.summary(record) for record in page.items]
        return json_response({"requests": lines, "nextCursor": page.next_cursor})


@blueprint.route("/<request_id>")
class Request(MethodView):
    @blueprint.arguments(LookQuerySchema, location="query")
    @blueprint.response(200, EnvelopeSchema)
    def get(self, query: dict[str, Any], request_id: str) -> Response:
        """Look at a request; with `wait`, until it has ended"""
        record = find_request(services(), account().account_id, request_id)
        record = wait(record, query["wait"])
        if record.is_final:
            return answers.final(record, with_data=query["data"])
        return answers.running(record)

    @blueprint.response(204)
    def delete(self, request_id: str) -> Response:
        """Delete a request that has ended: its result, its webhook and the log of it

        The ledger keeps what was charged. A webhook that was not delivered yet is not sent any more.
        """
        delete_request(services(), account().account_id, request_id)
        return Response(status=204)


@blueprint.route("/<request_id>/cancel")
class Cancel(MethodView):
    @blueprint.response(200, EnvelopeSchema)
    def post(self, request_id: str) -> Response:
        """Cancel a queued request; its hold is released"""
        return answers.final(cancel_request(services(), account().account_id, request_id))
