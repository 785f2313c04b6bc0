"""Take away what is kept of a request; the ledger stays."""

from __future__ import annotations

from service.actions.lookup import find_request
from service.domain.errors import Conflict
from service.domain.ports import Services


def delete_request(services: Services, account_id: str, request_id: str) -> None:
    """Remove a request that has ended with its result, its webhook and the log of that.

    A webhook that was not delivered yet is not sent any more. Raises NotFound, and Conflict while the request
    is open.
    """
    record = find_request(services, account_id, request_id)
    if not services.erasures.erase(record):
        raise Conflict(
            "The request has not ended. Cancel it while it is queued, or wait, and delete it then."
        )
