"""Make and change accounts and their API keys, add credits."""

from __future__ import annotations

from service.domain.accounts import Account, ApiKey, check_password, parse_email
from service.domain.credits import ADJUSTMENT, TOPUP, Balance
from service.domain.errors import Conflict, Forbidden, NotFound, ValidationFailed
from service.domain.ports import Services

KEYS_MAX = 50


def create_account(services: Services, *, email: str, password: str) -> Account:
    """Raises ValidationFailed, and Conflict when the address is taken."""
    address = parse_email(email)
    return services.accounts.create(address, services.passwords.hash(check_password(password)))


def sign_up(services: Services, *, email: str, password: str) -> Account:
    """Create an account on a caller's own wish. Raises Forbidden where the operator does not allow it."""
    if not services.policy.signup_allowed:
        raise Forbidden("Sign-up is closed here. Ask the operator for an account.")
    return create_account(services, email=email, password=password)


def account_named(services: Services, email: str) -> Account:
    """Return the account of an address. Raises NotFound."""
    account = services.accounts.by_email(parse_email(email))
    if account is None:
        raise NotFound(f"There is no account for {email}.")
    return account


def set_password(services: Services, *, email: str, password: str) -> None:
    """Set a password; every token issued before is revoked."""
    account = account_named(services, email)
    services.accounts.set_password(account.account_id, services.passwords.hash(check_password(password)))


def create_key(services: Services, account_id: str, *, name: str) -> tuple[str, ApiKey]:
    """Return the key, shown this once, and its record. Raises Conflict over 50 keys."""
    if len(services.accounts.keys(account_id)) >= KEYS_MAX:
        raise Conflict(f"An account has at most {KEYS_MAX} keys. Revoke one first.")
    secret, key = services.keys.mint(account_id, name)
    services.accounts.add_key(key)
    return secret, key


def revoke_key(services: Services, account_id: str, key_id: str) -> None:
    """Raises NotFound, also for another account's key."""
    if not services.accounts.remove_key(account_id, key_id):
        raise NotFound("There is no key of this id.")


def add_credits(services: Services, account_id: str, amount: int, *, note: str) -> Balance:
    """Add credits, or take some away with a negative amount.

    Raises ValidationFailed on 0, and InsufficientCredits when less would be left than is held.
    """
    if amount == 0:
        raise ValidationFailed(details={"amount": ["Give an amount other than 0."]})
    kind = TOPUP if amount > 0 else ADJUSTMENT
    return services.credits.add(account_id, amount, entry_type=kind, note=note)
