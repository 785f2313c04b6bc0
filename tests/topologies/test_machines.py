"""Two of each process on one store, as on two machines; one of them fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import await_true
from tests.e2e.clients import Customer
from tests.e2e.receiver import Receiver
from tests.e2e.stack import leaving_nothing
from tests.topologies.work import Machines, Work, names

SECOND = ("web.2", "worker.2", "deliverer.2", "beat.2")
ROUNDS = 10


@pytest.mark.timeout(300)
def test_two_machines_share_the_work_and_one_goes_on_when_the_other_fails(
    home: Callable[[], Path], receiver: Receiver
) -> None:
    with leaving_nothing(Machines(home())) as stack:
        stack.start()
        stack.start(*SECOND)
        second = Customer(stack.second_url, "")
        await_true(lambda: answers(second), 30)
        work = Work(stack, receiver)
        for number in range(ROUNDS):
            work.hand_in(names(f"both{number}", 60), stack.second_url)
            work.all_is_settled()
            if not (idle := _idle(stack)):
                break
        assert idle == [], "what is taken up in groups may go to one of them, but not always"
        first = {*work.accepted.values()}

        work.hand_in(names("slow_1_both", 30), stack.second_url)
        await_true(lambda: work.ended() > len(first), 30)
        for name in ("web", "worker", "deliverer", "beat"):
            stack.kill(name)
        work.customer.base_url = stack.second_url
        work.hand_in(names("after", 30))
        work.all_is_settled()
        for name in ("web", "worker", "deliverer", "beat"):
            stack.start(name)
        stack.await_ready()


def answers(customer: Customer) -> bool:
    try:
        return customer.call("GET", "/readyz", timeout=2).ok
    except OSError:
        return False


def _idle(stack: Machines) -> list[str]:
    """Return the workers and deliverers that have done nothing yet."""
    done = {"worker": "scrape.done", "deliverer": "delivery.attempt"}
    return [
        name for kind, line in done.items() for name in (kind, f"{kind}.2") if line not in stack.output(name)
    ]
