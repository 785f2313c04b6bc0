"""POST /auth/login and /auth/register; API keys under /keys."""

from __future__ import annotations

from typing import Any

from flask import Response, request
from flask.views import MethodView
from marshmallow import fields, validate

from service.actions.accounts import create_key, revoke_key, sign_up
from service.actions.authenticate import log_in
from service.api.answers import json_response
from service.api.blueprint import ApiBlueprint
from service.api.context import account, require_account, services
from service.api.schemas import WireSchema
from service.domain.accounts import PASSWORD_MAX, Account, ApiKey
from service.domain.envelopes import timestamp

login_blueprint = ApiBlueprint("auth", __name__, url_prefix="/auth", description="Log in")
keys_blueprint = ApiBlueprint("keys", __name__, url_prefix="/keys", description="API keys")
keys_blueprint.before_request(require_account)


class CredentialsSchema(WireSchema):
    """E-mail address and password."""

    email = fields.Str(required=True, validate=validate.Length(1, 254))
    password = fields.Str(required=True, validate=validate.Length(1, PASSWORD_MAX))


class UserSchema(WireSchema):
    """Who logged in."""

    id = fields.Str()
    email = fields.Str()


class TokenSchema(WireSchema):
    """A bearer token."""

    token = fields.Str()
    user = fields.Nested(UserSchema)


class NewKeySchema(WireSchema):
    """What a key is for."""

    name = fields.Str(required=True, validate=validate.Length(1, 100))


class KeySchema(WireSchema):
    """An API key, without its secret."""

    id = fields.Str()
    name = fields.Str()
    prefix = fields.Str()
    created_at = fields.DateTime()
    last_used_at = fields.DateTime(allow_none=True)


class MadeKeySchema(WireSchema):
    """An API key just made: the only answer that shows `key`."""

    id = fields.Str()
    name = fields.Str()
    key = fields.Str(metadata={"example": "sk_live_..."})
    prefix = fields.Str()
    created_at = fields.DateTime()


class KeyListSchema(WireSchema):
    """All keys of the account."""

    keys = fields.List(fields.Nested(KeySchema))


@login_blueprint.route("/login")
class Login(MethodView):
    @login_blueprint.doc(security=[])
    @login_blueprint.arguments(CredentialsSchema)
    @login_blueprint.response(200, TokenSchema)
    def post(self, body: dict[str, Any]) -> Response:
        """Get a bearer token"""
        token, who = log_in(
            services(), email=body["email"], password=body["password"], address=request.remote_addr or ""
        )
        return json_response({"token": token, "user": _user(who)})


@login_blueprint.route("/register")
class Register(MethodView):
    @login_blueprint.doc(security=[])
    @login_blueprint.arguments(CredentialsSchema)
    @login_blueprint.response(201, TokenSchema)
    def post(self, body: dict[str, Any]) -> Response:
        """Make an account, where the operator allows it"""
        who = sign_up(services(), email=body["email"], password=body["password"])
        return json_response({"token": services().tokens.issue(who), "user": _user(who)}, 201)


@keys_blueprint.route("")
class Keys(MethodView):
    @keys_blueprint.response(200, KeyListSchema)
    def get(self) -> Response:
        """List your API keys"""
        return json_response({"keys": [_key(key) for key in services().accounts.keys(account().account_id)]})

    @keys_blueprint.arguments(NewKeySchema)
    @keys_blueprint.response(201, MadeKeySchema)
    def post(self, body: dict[str, Any]) -> Response:
        """Make an API key; this answer is the only one that shows it"""
        secret, key = create_key(services(), account().account_id, name=body["name"])
        made = {"id": key.key_id, "name": key.name, "key": secret, "prefix": key.prefix}
        return json_response({**made, "createdAt": timestamp(key.created_at)}, 201)


@keys_blueprint.route("/<key_id>")
class Key(MethodView):
    @keys_blueprint.response(204)
    def delete(self, key_id: str) -> None:
        """Revoke an API key"""
        revoke_key(services(), account().account_id, key_id)


def _user(who: Account) -> dict[str, str]:
    return {"id": who.account_id, "email": who.email}


def _key(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.key_id,
        "name": key.name,
        "prefix": key.prefix,
        "createdAt": timestamp(key.created_at),
        "lastUsedAt": timestamp(key.last_used_at) if key.last_used_at else None,
    }
