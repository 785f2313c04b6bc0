"""Make and change accounts and their API keys, add credits."""

from __future__ import annotations

from contextlib import suppress

from service.actions.authenticate import count_try
from service.domain import ids
from service.domain.accounts import (
    KEYS_MOST,
    Account,
    ApiKey,
    check_key_name,
    check_password,
    network_of,
    parse_email,
    spelled,
)
from service.domain.credits import ADJUSTMENT, AMOUNT_MOST, TOPUP, Balance
from service.domain.errors import Conflict, Forbidden, NotFound, RateLimited, ValidationFailed
from service.domain.ports import Services
from service.domain.texts import NOTE_MOST, check_printable, is_text


def create_account(services: Services, *, email: str, password: str) -> Account:
    """Raises ValidationFailed, and Conflict when the address is taken."""
    address = parse_email(email)
    return services.accounts.create(address, services.passwords.hash(check_password(password)))


def sign_up(services: Services, *, email: str, password: str, address: str) -> None:
    """Create an account on a caller's own wish, unless there is one for the address of mail already.

    Nothing tells which: neither what is returned nor how long it takes, most of which is the hash. Raises
    Forbidden where the operator does not allow it, ValidationFailed, and RateLimited.
    """
    if not services.policy.signup_allowed:
        raise Forbidden("Sign-up is closed here. Ask the operator for an account.")
    name = parse_email(email)
    check_password(password)
    wait = services.limits.sign_up(network_of(address))
    if wait:
        raise RateLimited(
            f"Too many accounts were made from your address. Try again in {wait} seconds.", retry_after=wait
        )
    password_hash = services.passwords.hash(password)
    with suppress(Conflict):
        services.accounts.create(name, password_hash)


def account_named(services: Services, name: str) -> Account:
    """Return the account of an address of mail, or of an id. Raises NotFound.

    The address may be one that no account could get today: the operator has to reach older ones.
    """
    account = _named(services, name) if is_text(name) else None
    if account is None:
        raise NotFound(f"There is no account for {name}.")
    return account


def _named(services: Services, name: str) -> Account | None:
    by_id = ids.shard_of(name, ids.ACCOUNT) is not None
    return services.accounts.get(name) if by_id else services.accounts.by_email(spelled(name))


def set_password(services: Services, *, email: str, password: str, revoke_keys: bool = False) -> int:
    """Set a password; every token issued before is revoked. Return how many API keys still work."""
    account_id = account_named(services, email).account_id
    return _set_password(services, account_id, password, revoke_keys=revoke_keys)


def change_password(
    services: Services, account: Account, *, current: str, new: str, revoke_keys: bool, address: str
) -> Account:
    """Set a new password for who knows the current one; return the account as it is then.

    Every token issued before is revoked. Raises ValidationFailed, and RateLimited: guesses count as those to
    log in do.
    """
    check_password(new, "new")
    count_try(services, account.email, address, known=True)
    if not services.passwords.verify(account.password_hash, current):
        raise ValidationFailed(details={"current": ["This is not the password."]})
    services.limits.login_succeeded(account.email, network_of(address))
    _set_password(services, account.account_id, new, revoke_keys=revoke_keys)
    return services.accounts.get(account.account_id) or account


def _set_password(services: Services, account_id: str, password: str, *, revoke_keys: bool) -> int:
    services.accounts.set_password(account_id, services.passwords.hash(check_password(password)))
    # After the tokens: none of them makes another key meanwhile.
    if revoke_keys:
        services.accounts.remove_keys(account_id)
    return len(services.accounts.keys(account_id))


def create_key(services: Services, account_id: str, *, name: str) -> tuple[str, ApiKey]:
    """Return the key, shown this once, and its record. Raises ValidationFailed, and Conflict over 50 keys."""
    secret, key = services.keys.mint(account_id, check_key_name(name))
    if not services.accounts.add_key(key):
        raise Conflict(f"An account has at most {KEYS_MOST} keys. Revoke one first.")
    return secret, key


def revoke_key(services: Services, account_id: str, key_id: str) -> None:
    """Raises NotFound, also for another account's key."""
    if not is_text(key_id) or not services.accounts.remove_key(account_id, key_id):
        raise NotFound("There is no key of this id.")


def add_credits(services: Services, account_id: str, amount: int, *, note: str) -> Balance:
    """Add credits, or take some away with a negative amount.

    Raises ValidationFailed on 0 and past 10^12, and InsufficientCredits when less would be left than is held.
    """
    if amount == 0:
        raise ValidationFailed(details={"amount": ["Give an amount other than 0."]})
    if abs(amount) > AMOUNT_MOST:
        raise ValidationFailed(details={"amount": [f"Give at most {AMOUNT_MOST} credits at a time."]})
    check_printable("note", note, NOTE_MOST)
    kind = TOPUP if amount > 0 else ADJUSTMENT
    return services.credits.add(account_id, amount, entry_type=kind, note=note)
