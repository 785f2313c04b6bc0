"""What the operator does: accounts, credits, Instagram sessions."""

from __future__ import annotations

import json
import sys
from typing import IO, Any

import click

from service import config
from service.actions import accounts as actions
from service.bootstrap import build
from service.cli.output import json_option, show, tell_passed_over
from service.cli.words import say
from service.domain.credits import AMOUNT_MOST
from service.domain.envelopes import timestamp
from service.domain.errors import ValidationFailed
from service.domain.instagram import settings_from_sessionid
from service.domain.ports import Services
from service.domain.rows import PassedOver

BROKEN = "broken"
REST_MOST = 366 * 24 * 60  # minutes


def open_services() -> Services:
    """Return the services of this folder's installation. Raises ConfigurationError."""
    return build(config.load(local=True), wait=2.0)


@click.group()
def account() -> None:
    """Accounts of this service. EMAIL may be the id of an account as well."""


@account.command("create")
@click.argument("email")
@click.password_option(help="Asked for when left out.")
@click.option(
    "--credits", "amount", type=click.IntRange(0, AMOUNT_MOST), default=0, help="Credits to start with."
)
def create_account(email: str, password: str, amount: int) -> None:
    """Make an account and its first API key, shown this once."""
    services = open_services()
    made = actions.create_account(services, email=email, password=password)
    if amount:
        actions.add_credits(services, made.account_id, amount, note="opening credits")
    secret, _ = actions.create_key(services, made.account_id, name="first key")
    say(f"account  {made.account_id}", f"email    {made.email}", f"credits  {amount}", f"API key  {secret}")


@account.command("list")
@json_option
def list_accounts(as_json: bool) -> None:
    """List accounts with their credits, "broken" where these cannot be read.

    Exits with 1 when a row cannot be read. An account that cannot be read itself is passed over.
    """
    services, passed_over = open_services(), PassedOver()
    rows = []
    for each in services.accounts.all(passed_over):
        balance, _ = services.books.closing(each.account_id, passed_over)
        credits = (BROKEN, BROKEN) if balance is None else (balance.balance, balance.held)
        state = "disabled" if each.disabled else "active"
        rows.append((each.account_id, each.email, state, *credits, timestamp(each.created_at)))
    show("Accounts", ("id", "email", "state", "balance", "held", "created"), rows, as_json=as_json)
    sys.exit(tell_passed_over(passed_over))


@account.command("disable")
@click.argument("email")
def disable_account(email: str) -> None:
    """Refuse an account's calls and revoke its tokens.

    Its watches begin no run until it is enabled again; what is queued goes on.
    """
    _set_disabled(email, disabled=True)


@account.command("enable")
@click.argument("email")
def enable_account(email: str) -> None:
    """Accept an account's calls again; its watches go on with their next run."""
    _set_disabled(email, disabled=False)


def _set_disabled(email: str, *, disabled: bool) -> None:
    services = open_services()
    services.accounts.set_disabled(actions.account_named(services, email).account_id, disabled)
    say(f"{email}: {'disabled' if disabled else 'enabled'}")


@account.command("password")
@click.argument("email")
@click.password_option()
@click.option("--revoke-keys", is_flag=True, help="Revoke all its API keys as well.")
def change_password(email: str, password: str, revoke_keys: bool) -> None:
    """Set a password; every token issued before is revoked."""
    left = actions.set_password(open_services(), email=email, password=password, revoke_keys=revoke_keys)
    rest = f"{left} API key(s) go on; --revoke-keys ends them too" if left else "it has no API key"
    say(f"{email}: password set, tokens revoked; {rest}")


@account.command("sign-out")
@click.argument("email")
def sign_out(email: str) -> None:
    """Revoke every token of an account; its password and its API keys go on."""
    services = open_services()
    services.accounts.revoke_tokens(actions.account_named(services, email).account_id)
    say(f"{email}: tokens revoked")


@account.command("keys")
@click.argument("email")
@json_option
def list_keys(email: str, as_json: bool) -> None:
    """List the API keys of an account: when and from where each was used last."""
    services = open_services()
    rows = [
        (
            key.key_id,
            key.name,
            key.prefix,
            timestamp(key.created_at),
            timestamp(key.last_used_at) if key.last_used_at else None,
            key.last_used_from or None,
        )
        for key in services.accounts.keys(actions.account_named(services, email).account_id)
    ]
    columns = ("id", "name", "prefix", "created", "last used", "last used from")
    show("API keys", columns, rows, as_json=as_json)


@account.command("revoke-key")
@click.argument("email")
@click.argument("key_id")
def revoke_key(email: str, key_id: str) -> None:
    """Revoke one API key of an account, by its id."""
    services = open_services()
    actions.revoke_key(services, actions.account_named(services, email).account_id, key_id)
    say(f"{email}: key {key_id} revoked")


@account.command("key")
@click.argument("email")
@click.option("--name", default="made by the operator", show_default=True)
def make_key(email: str, name: str) -> None:
    """Make another API key, shown this once."""
    services = open_services()
    secret, _ = actions.create_key(services, actions.account_named(services, email).account_id, name=name)
    say(secret)


@click.group()
def credits() -> None:
    """Credits of accounts."""


# A negative amount must not be read as an option.
@credits.command("add", context_settings={"ignore_unknown_options": True})
@click.argument("email")
@click.argument("amount", type=int)
@click.option("--note", default="", help="Kept in the ledger.")
def add_credits(email: str, amount: int, note: str) -> None:
    """Add credits to an account, or take some away with a negative amount."""
    services = open_services()
    balance = actions.add_credits(
        services, actions.account_named(services, email).account_id, amount, note=note
    )
    say(f"{email}: balance {balance.balance}, held {balance.held}, available {balance.available}")


@click.group()
def instagram() -> None:
    """Instagram sessions the service fetches with. Only of accounts you own."""


@instagram.command("add")
@click.argument("name")
@click.option("--settings", type=click.File(), help="A settings file instagrapi dumped.")
@click.option("--sessionid", help="The sessionid cookie of a logged-in browser.")
@click.option("--proxy", help="http(s):// or socks5:// URL this session always uses.")
def add_session(name: str, settings: IO[str] | None, sessionid: str | None, proxy: str | None) -> None:
    """Import a session, or replace the one of this name. It is stored encrypted."""
    if (settings is None) == (sessionid is None):
        raise click.UsageError("Give either --settings or --sessionid.")
    content = _read_settings(settings) if settings else settings_from_sessionid(sessionid or "")
    open_services().sessions.add(name, content, proxy)
    say(f"{name}: added")


def _read_settings(file: IO[str]) -> dict[str, Any]:
    try:
        content = json.load(file)
    except json.JSONDecodeError as error:
        raise ValidationFailed(details={"settings": [f"This file is not JSON: {error}."]}) from None
    if not isinstance(content, dict):
        raise ValidationFailed(details={"settings": ["This file holds no JSON object."]})
    return content


@instagram.command("list")
@json_option
def list_sessions(as_json: bool) -> None:
    """List sessions with their state and why, and the calls they made of those they may make."""
    settings, passed_over = config.load(local=True), PassedOver()
    rows = [
        (
            record.name,
            "in use" if record.leased else record.state.value,
            record.reason,
            timestamp(record.rested_until) if record.rested_until else "",
            "yes" if record.has_proxy else "no",
            _of(record.calls_minute, settings.pace.session_minute),
            _of(record.calls_hour, settings.pace.session_hour),
            record.uses,
            timestamp(record.last_used) if record.last_used else "",
        )
        for record in build(settings, wait=2.0).sessions.list(passed_over)
    ]
    columns = (
        "name", "state", "reason", "rests until", "proxy", "calls/minute", "calls/hour", "uses", "last used",
    )  # fmt: skip
    show("Instagram sessions", columns, rows, as_json=as_json)
    sys.exit(tell_passed_over(passed_over))


def _of(calls: int, limit: int) -> str:
    return f"{calls} of {limit}" if limit else "no limit"


@instagram.command("resume")
@click.argument("names", nargs=-1)
@click.option("--all", "everyone", is_flag=True)
def resume_sessions(names: tuple[str, ...], everyone: bool) -> None:
    """End the rest or quarantine of sessions you have looked after."""
    sessions = open_services().sessions
    for name in [record.name for record in sessions.list()] if everyone else names:
        sessions.resume(name)
        say(f"{name}: active")


@instagram.command("rest")
@click.argument("name")
@click.option("--minutes", type=click.IntRange(1, REST_MOST), default=60, show_default=True)
def rest_session(name: str, minutes: int) -> None:
    """Keep a session from being used for a while."""
    open_services().sessions.rest(name, minutes * 60)
    say(f"{name}: resting for {minutes} minutes")


@instagram.command("remove")
@click.argument("name")
def remove_session(name: str) -> None:
    """Forget a session and its secrets."""
    open_services().sessions.remove(name)
    say(f"{name}: removed")
