"""GET /api/credits, /api/credits/ledger, /api/prices."""

from __future__ import annotations

from typing import Any

from flask import Response
from flask.views import MethodView
from marshmallow import fields

from service.actions.lookup import check_ledger_cursor, check_subject
from service.api.answers import json_response
from service.api.blueprint import ApiBlueprint
from service.api.context import account, require_account, services
from service.api.schemas import PageQuerySchema, WireSchema
from service.domain.credits import LedgerEntry
from service.domain.envelopes import timestamp

blueprint = ApiBlueprint("credits", __name__, url_prefix="/api", description="Credits and prices")
blueprint.before_request(require_account)


class BalanceSchema(WireSchema):
    """Credits of the account."""

    balance = fields.Int()
    held = fields.Int(metadata={"description": "set aside for requests under way"})
    available = fields.Int()


class LedgerQuerySchema(PageQuerySchema):
    """Which entries to list."""

    request_id = fields.Str(metadata={"description": "of a request, or of a batch"})


class EntrySchema(WireSchema):
    """An entry: topup, adjustment and charge change the balance, hold and release what is available."""

    id = fields.Str()
    type = fields.Str(metadata={"description": "topup, hold, charge, release or adjustment"})
    amount = fields.Int()
    balance_after = fields.Int()
    held_after = fields.Int()
    request_id = fields.Str(allow_none=True)
    batch_id = fields.Str(
        allow_none=True, metadata={"description": "where the price of a whole batch was held or released"}
    )
    note = fields.Str(allow_none=True)
    at = fields.DateTime()


class LedgerSchema(WireSchema):
    """A page of the ledger."""

    entries = fields.List(fields.Nested(EntrySchema))
    next_cursor = fields.Str(allow_none=True)


class PricesSchema(WireSchema):
    """Prices in credits: operation -> outcome -> price."""

    prices = fields.Dict(keys=fields.Str(), values=fields.Dict(keys=fields.Str(), values=fields.Int()))


@blueprint.route("/credits")
class Credits(MethodView):
    @blueprint.response(200, BalanceSchema)
    def get(self) -> Response:
        """Show the balance"""
        found = services().credits.balance(account().account_id)
        return json_response({"balance": found.balance, "held": found.held, "available": found.available})


@blueprint.route("/credits/ledger")
class Ledger(MethodView):
    @blueprint.arguments(LedgerQuerySchema, location="query")
    @blueprint.response(200, LedgerSchema)
    def get(self, query: dict[str, Any]) -> Response:
        """List the ledger, newest first"""
        page = services().credits.ledger(
            account().account_id,
            request_id=check_subject(query.get("request_id")),
            cursor=check_ledger_cursor(query.get("cursor")),
            limit=query["limit"],
        )
        return json_response(
            {"entries": [_line(entry) for entry in page.items], "nextCursor": page.next_cursor}
        )


@blueprint.route("/prices")
class Prices(MethodView):
    @blueprint.response(200, PricesSchema)
    def get(self) -> Response:
        """Show what each outcome costs"""
        return json_response({"prices": services().policy.prices.prices})


def _line(entry: LedgerEntry) -> dict[str, Any]:
    return {
        "id": entry.entry_id,
        "type": entry.type,
        "amount": entry.amount,
        "balanceAfter": entry.balance_after,
        "heldAfter": entry.held_after,
        "requestId": None if entry.batch_id else entry.request_id,
        "batchId": entry.batch_id,
        "note": entry.note,
        "at": timestamp(entry.at),
    }
