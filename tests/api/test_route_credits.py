"""/api/credits, its ledger, /api/prices."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest

from service.domain import errors
from service.domain.credits import price_list
from tests.api.support import CREDITS, EMPTY, Front, contents, failing, make_caller


def test_the_balance_tells_what_is_owned_held_and_available(front: Front) -> None:
    assert front.get("/api/credits").json == {"balance": CREDITS, "held": 0, "available": CREDITS}
    front.accept()
    front.ended()

    assert front.get("/api/credits").json == {"balance": CREDITS - 1, "held": 1, "available": CREDITS - 2}
    assert front.get("/api/credits", by=front.other).json["balance"] == CREDITS


def test_an_account_that_never_had_credits_has_none(front: Front) -> None:
    poor = make_caller(front.services, "poor@example.com", credits=0)

    assert front.get("/api/credits", by=poor).json == {"balance": 0, "held": 0, "available": 0}
    assert front.get("/api/credits/ledger", by=poor).json == {"entries": [], "nextCursor": None}


def test_the_ledger_tells_every_movement_newest_first(make: Callable[..., Front]) -> None:
    front = make(prices=price_list({"stories": {"found": 5, "empty": 2}}))
    request_id = front.accept()
    front.work(request_id, EMPTY)
    front.services.credits.add(front.me.account.account_id, -3, entry_type="adjustment", note="a correction")
    entries = front.get("/api/credits/ledger").json["entries"]

    told = [(e["type"], e["amount"], e["balanceAfter"], e["heldAfter"], e["requestId"]) for e in entries]
    assert told == [
        ("adjustment", -3, 95, 0, None),
        ("release", 3, 98, 0, request_id),
        ("charge", -2, 98, 3, request_id),
        ("hold", -5, 100, 5, request_id),
        ("topup", 100, 100, 0, None),
    ]
    assert [e["note"] for e in entries] == ["a correction", None, None, None, "for the test"]
    for entry in entries:
        assert isinstance(entry["id"], str)
        assert datetime.fromisoformat(entry["at"]).tzinfo is not None
    assert len({entry["id"] for entry in entries}) == len(entries)


def test_the_ledger_adds_up_to_the_balance(front: Front) -> None:
    front.ended()
    front.ended(answer=failing(errors.UserNotFound))
    front.call("POST", f"/api/requests/{front.accept()}/cancel")
    front.accept()
    entries = front.get("/api/credits/ledger?limit=200").json["entries"]
    balance = front.get("/api/credits").json

    moved = sum(e["amount"] for e in entries if e["type"] in {"topup", "adjustment", "charge"})
    assert moved == balance["balance"] == entries[0]["balanceAfter"]
    assert entries[0]["heldAfter"] == balance["held"] == 1


@pytest.mark.parametrize("limit", [1, 2, 5, 200])
def test_pages_of_the_ledger_show_every_entry_once(front: Front, limit: int) -> None:
    for _ in range(3):
        front.ended()
    whole = front.get("/api/credits/ledger?limit=200").json["entries"]
    assert len(whole) == 7

    seen, cursor = [], ""
    while True:
        body = front.get(f"/api/credits/ledger?limit={limit}{cursor}").json
        assert len(body["entries"]) <= limit
        seen += body["entries"]
        if body["nextCursor"] is None:
            break
        cursor = f"&cursor={body['nextCursor']}"
    assert seen == whole


def test_the_ledger_is_filtered_by_request(front: Front) -> None:
    first, second = front.ended(), front.ended()

    def listed(query: str) -> list[tuple[str, str]]:
        entries = front.get(f"/api/credits/ledger?{query}").json["entries"]
        return [(entry["type"], entry["requestId"]) for entry in entries]

    assert listed(f"requestId={first}") == [("charge", first), ("hold", first)]
    assert listed(f"requestId={second}") == [("charge", second), ("hold", second)]
    assert listed("requestId=req_0001m7xt6136bt5vc71920hsxsgv") == []


def test_a_filtered_ledger_pages_as_well(front: Front) -> None:
    request_id = front.ended()
    front.ended()
    first = front.get(f"/api/credits/ledger?requestId={request_id}&limit=1").json
    second = front.get(
        f"/api/credits/ledger?requestId={request_id}&limit=1&cursor={first['nextCursor']}"
    ).json

    assert [e["type"] for e in first["entries"] + second["entries"]] == ["charge", "hold"]


def test_the_ledger_of_another_account_shows_nothing_of_mine(front: Front) -> None:
    request_id = front.ended()
    entries = front.get("/api/credits/ledger", by=front.other).json["entries"]

    assert [entry["type"] for entry in entries] == ["topup"]
    assert front.get(f"/api/credits/ledger?requestId={request_id}", by=front.other).json["entries"] == []


def test_prices_are_published_as_configured(make: Callable[..., Front]) -> None:
    front = make(prices=price_list({"stories": {"found": 7}}))
    prices = front.get("/api/prices").json["prices"]

    assert prices["stories"]["found"] == 7
    assert prices["stories"]["empty"] == 1
    free = {
        "account_private", "user_not_found", "upstream_blocked", "upstream_timeout", "upstream_error",
        "opted_out", "nothing_new",
    }  # fmt: skip
    assert {outcome for outcome, price in prices["stories"].items() if price == 0} == free


def test_neither_the_webhook_secret_nor_a_key_stands_in_the_store(front: Front) -> None:
    secret = front.get("/api/webhooks/secret").json["secret"]
    held = "\n".join(repr(contents(front.redis, name)) for name in front.redis.scan_iter())

    assert front.me.account.email in held
    assert secret not in held
    assert secret.removeprefix("whsec_") not in held
    assert front.me.key not in held
    assert front.me.key[-32:] not in held
