"""/auth: log in, sign up, change the password, log out everywhere; API keys under /keys."""

from __future__ import annotations

from typing import Any

from flask import Response, request
from flask.views import MethodView
from marshmallow import fields, validate

from service.actions.accounts import change_password, create_key, revoke_key, sign_up
from service.actions.authenticate import log_in
from service.api.answers import json_response
from service.api.blueprint import ApiBlueprint
from service.api.context import account, require_account, services
from service.api.schemas import WireSchema
from service.domain.accounts import EMAIL_MAX, KEY_NAME_MAX, PASSWORD_MAX, Account, ApiKey
from service.domain.envelopes import timestamp

login_blueprint = ApiBlueprint("auth", __name__, url_prefix="/auth", description="Log in")
own_blueprint = ApiBlueprint("account", __name__, url_prefix="/auth", description="Your password and tokens")
own_blueprint.before_request(require_account)
keys_blueprint = ApiBlueprint("keys", __name__, url_prefix="/keys", description="API keys")
keys_blueprint.before_request(require_account)


SIGNED_UP = "If there was no account for this address, there is one now: log in at POST /auth/login."


class CredentialsSchema(WireSchema):
    """E-mail address and password."""

    email = fields.Str(required=True, validate=validate.Length(1, EMAIL_MAX))
    password = fields.Str(required=True, validate=validate.Length(1, PASSWORD_MAX))


class LoginSchema(CredentialsSchema):
    """E-mail address and password, from a device that may have been let in before."""

    device_token = fields.Str(
        validate=validate.Length(0, 2_000),
        metadata={"description": "from an earlier answer: what others try does not slow this device"},
    )


class UserSchema(WireSchema):
    """Who logged in."""

    id = fields.Str()
    email = fields.Str()


class TokenSchema(WireSchema):
    """A bearer token."""

    token = fields.Str()
    user = fields.Nested(UserSchema)
    device_token = fields.Str(metadata={"description": "opens nothing; send it with the next log in"})


class SignedUpSchema(WireSchema):
    """The same whether there was an account for the address of mail or not."""

    success = fields.Bool()
    message = fields.Str()


class PasswordSchema(WireSchema):
    """The password as it is and as it is to be."""

    current = fields.Str(required=True, validate=validate.Length(1, PASSWORD_MAX))
    new = fields.Str(required=True, validate=validate.Length(1, PASSWORD_MAX))
    revoke_keys = fields.Bool(load_default=False, metadata={"description": "revoke all API keys as well"})


class NewKeySchema(WireSchema):
    """What a key is for."""

    name = fields.Str(
        required=True,
        validate=validate.Length(1, KEY_NAME_MAX),
        metadata={"description": "printable characters only"},
    )


class KeySchema(WireSchema):
    """An API key, without its secret."""

    id = fields.Str()
    name = fields.Str()
    prefix = fields.Str()
    created_at = fields.DateTime()
    last_used_at = fields.DateTime(allow_none=True)
    last_used_from = fields.Str(allow_none=True, metadata={"description": "the address of its last caller"})


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
    @login_blueprint.arguments(LoginSchema)
    @login_blueprint.response(200, TokenSchema)
    def post(self, body: dict[str, Any]) -> Response:
        """Get a bearer token"""
        token, who = log_in(
            services(),
            email=body["email"],
            password=body["password"],
            address=request.remote_addr or "",
            device=body.get("device_token", ""),
        )
        return json_response(_entered(token, who))


@login_blueprint.route("/register")
class Register(MethodView):
    @login_blueprint.doc(security=[])
    @login_blueprint.arguments(CredentialsSchema)
    @login_blueprint.response(202, SignedUpSchema)
    def post(self, body: dict[str, Any]) -> Response:
        """Make an account, where the operator allows it; then log in

        The answer is the same when there is an account for the address already: that one stays as it is.
        """
        sign_up(services(), email=body["email"], password=body["password"], address=request.remote_addr or "")
        return json_response({"success": True, "message": SIGNED_UP}, 202)


@own_blueprint.route("/password")
class Password(MethodView):
    @own_blueprint.arguments(PasswordSchema)
    @own_blueprint.response(200, TokenSchema)
    def post(self, body: dict[str, Any]) -> Response:
        """Change your password; all tokens end, and the answer has a new one"""
        who = change_password(
            services(),
            account(),
            current=body["current"],
            new=body["new"],
            revoke_keys=body["revoke_keys"],
            address=request.remote_addr or "",
        )
        return json_response(_entered(services().tokens.issue(who), who))


@own_blueprint.route("/logout-all")
class LogOutAll(MethodView):
    @own_blueprint.response(204)
    def post(self) -> None:
        """End all your tokens, this one too; API keys go on"""
        services().accounts.revoke_tokens(account().account_id)


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


def _entered(token: str, who: Account) -> dict[str, Any]:
    return {"token": token, "user": _user(who), "deviceToken": services().tokens.for_device(who.email)}


def _user(who: Account) -> dict[str, str]:
    return {"id": who.account_id, "email": who.email}


def _key(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.key_id,
        "name": key.name,
        "prefix": key.prefix,
        "createdAt": timestamp(key.created_at),
        "lastUsedAt": timestamp(key.last_used_at) if key.last_used_at else None,
        "lastUsedFrom": key.last_used_from or None,
    }
