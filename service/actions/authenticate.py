"""Find out who calls."""

from __future__ import annotations

from service.domain.accounts import Account
from service.domain.errors import Forbidden, RateLimited, Unauthorized
from service.domain.ports import Services

KEY_PREFIX = "sk_"


def authenticate(services: Services, credential: str) -> Account:
    """Return the account a bearer token or API key stands for. Raises Unauthorized, Forbidden."""
    resolve = _by_key if credential.startswith(KEY_PREFIX) else _by_token
    account = resolve(services, credential)
    if account.disabled:
        raise Forbidden("This account is disabled.")
    return account


def _by_key(services: Services, secret: str) -> Account:
    key_id = services.keys.key_id(secret)
    key, account = services.accounts.key_and_account(key_id) if key_id else (None, None)
    if key is None or account is None or not services.keys.matches(key, secret):
        raise Unauthorized("This API key is not valid.")
    services.accounts.touch_key(key)
    return account


def _by_token(services: Services, token: str) -> Account:
    account_id, version = services.tokens.read(token)
    account = services.accounts.get(account_id)
    if account is None:
        raise Unauthorized("This token is not valid.")
    if account.token_version != version and not account.disabled:
        raise Unauthorized("This token was revoked. Log in again at POST /auth/login.")
    return account


def log_in(services: Services, *, email: str, password: str, address: str) -> tuple[str, Account]:
    """Return a token and the account.

    Raises RateLimited after too many tries from one address or for one account, and Unauthorized,
    which does not tell whether the account exists.
    """
    name = email.strip().lower()
    wait = services.limits.login_attempt(name, address)
    if wait:
        raise RateLimited("Too many attempts to log in. Try again later.", retry_after=wait)
    account = services.accounts.by_email(name)
    if not services.passwords.verify(account.password_hash if account else None, password) or account is None:
        raise Unauthorized("E-mail address or password is wrong.")
    if account.disabled:
        raise Forbidden("This account is disabled.")
    services.limits.login_succeeded(name)
    return services.tokens.issue(account), account
