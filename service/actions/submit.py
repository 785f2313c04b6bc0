"""Accept a request: hold its price, store it, tell a worker."""

from __future__ import annotations

from service.domain import ids
from service.domain.dispatch import publish
from service.domain.options import PLAIN, Options
from service.domain.ports import Services
from service.domain.ports.work import Counted
from service.domain.requests import BULK, INTERACTIVE, RequestRecord, Submission
from service.domain.sharing import MAX_AGE_DEFAULT
from service.domain.targets import Target
from service.domain.webhooks import check_url


def submit(
    services: Services,
    account_id: str,
    operation: str,
    target: Target,
    *,
    webhook_url: str | None = None,
    waited_for: bool,
    idempotency_key: str | None = None,
    max_age: int = MAX_AGE_DEFAULT,
    options: Options = PLAIN,
    counted: Counted | None = None,
) -> tuple[RequestRecord, bool]:
    """Store a request and publish it.

    Returns the request, and whether it is an earlier one of the same idempotency key. Raises
    WebhookForbidden, InsufficientCredits, IdempotencyKeyReuse, and RateLimited given ``counted``,
    see `RequestStore.submit`; then nothing was stored. A broker that does not answer is no error:
    the sweep publishes what was never picked up.
    """
    if webhook_url is not None:
        check_url(webhook_url, services.policy.webhook_addresses)
    submission = Submission(
        request_id=ids.new_id(ids.REQUEST, ids.shard_in(account_id), services.clock()),
        account_id=account_id,
        operation=operation,
        target=target,
        queue=INTERACTIVE if waited_for else BULK,
        hold=services.policy.prices.hold_for(operation, options),
        webhook_url=webhook_url,
        idempotency_key=idempotency_key,
        max_age=max_age,
        options=options,
    )
    record = services.requests.submit(submission, counted)
    if record.request_id != submission.request_id:
        return record, True
    publish(services, record)
    return record, False
