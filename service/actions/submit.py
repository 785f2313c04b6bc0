"""Accept a request: hold its price, store it, tell a worker."""

from __future__ import annotations

from service.domain import ids
from service.domain.credits import STORIES
from service.domain.dispatch import publish
from service.domain.ports import Services
from service.domain.requests import BULK, INTERACTIVE, RequestRecord, Submission, parse_username
from service.domain.sharing import MAX_AGE_DEFAULT
from service.domain.webhooks import check_url


def submit_stories(
    services: Services,
    account_id: str,
    *,
    username: str,
    webhook_url: str | None,
    waited_for: bool,
    idempotency_key: str | None = None,
    max_age: int = MAX_AGE_DEFAULT,
) -> tuple[RequestRecord, bool]:
    """Store a request for the stories of ``username`` and publish it.

    Returns the request, and whether it is an earlier one of the same idempotency key. Raises
    ValidationFailed, WebhookForbidden, InsufficientCredits, IdempotencyKeyReuse; then nothing was stored. A
    broker that does not answer is no error: the sweep publishes what was never picked up.
    """
    name = parse_username(username)
    if webhook_url is not None:
        check_url(webhook_url, services.policy.webhook_addresses)
    submission = Submission(
        request_id=ids.new_id(ids.REQUEST, ids.shard_in(account_id), services.clock()),
        account_id=account_id,
        operation=STORIES,
        username=name,
        queue=INTERACTIVE if waited_for else BULK,
        hold=services.policy.prices.hold_for(STORIES),
        webhook_url=webhook_url,
        idempotency_key=idempotency_key,
        max_age=max_age,
    )
    record = services.requests.submit(submission)
    if record.request_id != submission.request_id:
        return record, True
    publish(services, record)
    return record, False
