"""Accounts, their credits, limits and credentials."""

from __future__ import annotations

from typing import Protocol

from service.domain.accounts import Account, ApiKey, LimitState, WebhookSecrets
from service.domain.credits import Balance, LedgerEntry
from service.domain.requests import Page
from service.domain.rows import Tell


class CreditStore(Protocol):
    """Balances and ledgers."""

    def balance(self, account_id: str) -> Balance: ...

    def add(self, account_id: str, amount: int, *, entry_type: str, note: str) -> Balance:
        """Change the balance.

        Raises InsufficientCredits when it would fall below what is held, ValidationFailed when it would rise
        over what an account can have, and BrokenRow.
        """
        ...

    def ledger(
        self, account_id: str, *, request_id: str | None, cursor: str | None, limit: int
    ) -> Page[LedgerEntry]: ...


class AccountStore(Protocol):
    """Accounts and API keys."""

    def create(self, email: str, password_hash: str) -> Account:
        """Raises Conflict when the address is taken."""
        ...

    def get(self, account_id: str) -> Account | None: ...
    def by_email(self, email: str) -> Account | None: ...
    def all(self, tell: Tell = ...) -> list[Account]:
        """Return all accounts; ``tell`` hears of those that cannot be read, else the log."""
        ...

    def set_disabled(self, account_id: str, disabled: bool) -> None: ...
    def set_password(self, account_id: str, password_hash: str) -> None: ...
    def renew_password(self, account_id: str, before: str, after: str) -> None:
        """Replace a hash by another one of the same password, unless that was changed meanwhile."""
        ...

    def revoke_tokens(self, account_id: str) -> None: ...
    def add_key(self, key: ApiKey) -> bool:
        """Return False, and add nothing, when the account has KEYS_MOST already."""
        ...

    def key(self, key_id: str) -> ApiKey | None: ...

    def key_and_account(self, key_id: str) -> tuple[ApiKey | None, Account | None]:
        """Return a key and its account as they are now, None for what there is not."""
        ...

    def keys(self, account_id: str) -> list[ApiKey]: ...
    def remove_key(self, account_id: str, key_id: str) -> bool: ...
    def remove_keys(self, account_id: str) -> int:
        """Remove all keys; return how many there were."""
        ...

    def touch_key(self, key: ApiKey, address: str) -> None:
        """Record that the key was used now, and from where (kept to the minute, another address to the
        second)."""
        ...

    def webhook_secrets(self, account_id: str) -> WebhookSecrets: ...
    def rotate_webhook_secret(self, account_id: str, idempotency_key: str | None = None) -> WebhookSecrets:
        """Make a new secret; with a key that is known already, return what it made.

        Raises RateLimited when OLD_SECRETS_MOST old ones sign still, and IdempotencyKeyReuse.
        """
        ...


class LimitStore(Protocol):
    """Counts calls against limits."""

    def hit(self, account_id: str) -> list[LimitState]:
        """Count one call of an account, unless a limit is exceeded already."""
        ...

    def login_attempt(self, email: str, network: str, *, known: bool = False) -> int:
        """Count one try to log in; return the seconds to wait, 0 when it may go on.

        ``network`` is where it comes from (`network_of`). ``known`` says that it comes from a device which
        was let in before: what others try does not slow it.
        """
        ...

    def login_succeeded(self, email: str, network: str) -> None:
        """Take back what was counted against the account for tries from there."""
        ...

    def sign_up(self, network: str) -> int:
        """Count one account to be made; return the seconds to wait, 0 when it may be."""
        ...


class PasswordHasher(Protocol):
    def hash(self, password: str) -> str: ...
    def verify(self, password_hash: str | None, password: str) -> bool:
        """Take the same time for an unknown user (``None``)."""
        ...

    def is_outdated(self, password_hash: str) -> bool:
        """Tell whether it was made with other parameters than today's."""
        ...


class Tokens(Protocol):
    def issue(self, account: Account) -> str: ...
    def for_device(self, email: str) -> str:
        """Return what a device shows later on to be known as one that was let in for ``email``."""
        ...

    def is_of_device(self, token: str, email: str) -> bool: ...
    def read(self, token: str) -> tuple[str, int]:
        """Return (account id, token version). Raises Unauthorized."""
        ...


class KeyMint(Protocol):
    def mint(self, account_id: str, name: str) -> tuple[str, ApiKey]:
        """Return the key to show once and the record to store."""
        ...

    def key_id(self, secret: str) -> str | None: ...
    def matches(self, key: ApiKey, secret: str) -> bool: ...
