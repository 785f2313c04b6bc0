"""Accounts the operator does not serve: nothing is asked about them, and nothing of them is passed on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from service.domain.errors import FetchError, OptedOut
from service.domain.operations import DOWNLOAD
from service.domain.ports import Services
from service.domain.stories import owner_of
from service.domain.targets import USER_ID, USERNAME, Target
from workers.sources.contract import Found

Brought = dict[str, Found | FetchError]


def refuse(services: Services, asked: Target, found: Found | None = None) -> None:
    """Raise OptedOut when who was asked about, or the account that was ``found``, is on the list."""
    owner, owner_name = owner_of(found.data) if found else ("", "")
    names = {owner_name, asked.value if asked.kind == USERNAME else ""} - {""}
    user_ids = {owner, asked.value if asked.kind == USER_ID else ""} - {""}
    if not (names or user_ids) or not services.optouts.covers(names, user_ids):
        return
    services.optouts.learn(owner_name, owner)
    raise OptedOut


def may_be_shown(services: Services, operation: str, found: Found) -> bool:
    """Tell whether a file that was fetched for somebody else may be shown as far as is known of its owner.

    While nobody is on the list, it is not asked whose story an address of the CDN names; what was fetched
    then may be of somebody who has opted out since, and nothing in it would tell.
    """
    told = operation != DOWNLOAD or not found.data.get("storyId") or any(owner_of(found.data))
    return told or found.owner_sought or not services.optouts.anybody()


def fetch_served(
    services: Services, names: Sequence[str], fetch: Callable[[Sequence[str]], Brought]
) -> Brought:
    """Fetch the accounts among ``names`` that are served; the others, and who turns out so, are OptedOut."""
    refused, _ = services.optouts.covered(names, ())
    served = [name for name in names if name not in refused]
    found = fetch(served) if served else {}
    owners = {name: owner_of(each.data) for name, each in found.items() if isinstance(each, Found)}
    by_name, by_id = services.optouts.covered(
        [owner_name for _, owner_name in owners.values()], [owner for owner, _ in owners.values()]
    )
    turned_out = {name for name, each in owners.items() if each[0] in by_id or each[1] in by_name}
    for name in turned_out:
        services.optouts.learn(*reversed(owners[name]))
    return {**found, **{name: OptedOut() for name in refused | turned_out}}
