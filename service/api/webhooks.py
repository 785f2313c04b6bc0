"""GET /api/webhooks/secret: what receivers verify signatures with."""

from __future__ import annotations

from flask import Response
from flask.views import MethodView
from marshmallow import fields

from service.api.answers import json_response
from service.api.blueprint import ApiBlueprint
from service.api.context import account, require_account, services
from service.api.schemas import WireSchema

blueprint = ApiBlueprint("webhooks", __name__, url_prefix="/api/webhooks", description="Webhooks out")
blueprint.before_request(require_account)


class SecretSchema(WireSchema):
    """The signing secret (Standard Webhooks)."""

    secret = fields.Str(metadata={"example": "whsec_..."})
    previous_secret = fields.Str(allow_none=True)
    previous_expires_at = fields.DateTime(allow_none=True)


@blueprint.route("/secret")
class Secret(MethodView):
    @blueprint.response(200, SecretSchema)
    def get(self) -> Response:
        """Show the secret your webhooks are signed with"""
        secret = services().accounts.webhook_secret(account().account_id)
        return json_response({"secret": secret, "previousSecret": None, "previousExpiresAt": None})
