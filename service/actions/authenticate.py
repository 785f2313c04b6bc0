"""Find out who calls."""

from __future__ import annotations

from service.domain.accounts import Account, address_of, network_of, parse_email
from service.domain.errors import Forbidden, RateLimited, Unauthorized
from service.domain.ports import Services

KEY_PREFIX = "sk_"


def authenticate(services: Services, credential: str, address: str = "") -> Account:
    """Return the account a bearer token or API key stands for; ``address`` is where it is used from.

    Raises Unauthorized, Forbidden.
    """
    account = (
        _by_key(services, credential, address)
        if credential.startswith(KEY_PREFIX)
        else _by_token(services, credential)
    )
    if account.disabled:
        raise Forbidden("This account is disabled.")
    return account


def _by_key(services: Services, secret: str, address: str) -> Account:
    key_id = services.keys.key_id(secret)
    key, account = services.accounts.key_and_account(key_id) if key_id else (None, None)
    if key is None or account is None or not services.keys.matches(key, secret):
        raise Unauthorized("This API key is not valid.")
    services.accounts.touch_key(key, address_of(address))
    return account


def _by_token(services: Services, token: str) -> Account:
    account_id, version = services.tokens.read(token)
    account = services.accounts.get(account_id)
    if account is None:
        raise Unauthorized("This token is not valid.")
    if account.token_version != version and not account.disabled:
        raise Unauthorized("This token was revoked. Log in again at POST /auth/login.")
    return account


def log_in(
    services: Services, *, email: str, password: str, address: str, device: str = ""
) -> tuple[str, Account]:
    """Return a token and the account. ``device`` is what the device was given when it was let in before.

    Raises ValidationFailed for what is no address of mail, which nobody can have and nothing counts;
    RateLimited after too many tries from one address; and Unauthorized, which does not tell whether the
    account exists.
    """
    name = parse_email(email)
    known = bool(device) and services.tokens.is_of_device(device, name)
    count_try(services, name, address, known=known)
    account = services.accounts.by_email(name)
    if not services.passwords.verify(account.password_hash if account else None, password) or account is None:
        raise Unauthorized("E-mail address or password is wrong.")
    if account.disabled:
        raise Forbidden("This account is disabled.")
    services.limits.login_succeeded(name, network_of(address))
    if services.passwords.is_outdated(account.password_hash):
        renewed = services.passwords.hash(password)
        services.accounts.renew_password(account.account_id, account.password_hash, renewed)
    return services.tokens.issue(account), account


def count_try(services: Services, email: str, address: str, *, known: bool) -> None:
    """Count one look at an account's password. Raises RateLimited when there were too many."""
    wait = services.limits.login_attempt(email, network_of(address), known=known)
    if wait:
        raise RateLimited(f"Too many attempts to log in. Try again in {wait} seconds.", retry_after=wait)
