"""One row that cannot be read is left out of a list, and told to the operator; the others are shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import structlog

from service.domain import ids
from service.stores import keys
from tests.api.support import BATCH, Front

HOOK = "https://example.com/hook"
SOON = {"created_at": "soon"}
YEAR_30000 = {"created_at": "9" * 15}


def requests_of(front: Front) -> tuple[str, list[str], str]:
    made = [front.ended("nasa"), front.ended("nasa"), front.ended("nasa")]
    return "/api/requests", made, keys.request(made[1])


def deliveries_of(front: Front) -> tuple[str, list[str], str]:
    made = [ids.delivery_of(front.ended("nasa", fields={"webhookUrl": HOOK})) for _ in range(3)]
    return "/api/webhooks/deliveries", made, keys.delivery(made[1])


def watches_of(front: Front) -> tuple[str, list[str], str]:
    body = {"username": "nasa", "every": "15m", "webhookUrl": HOOK}
    made = [front.call("POST", "/api/watches", json=body).json["watchId"] for _ in range(3)]
    return "/api/watches", made, keys.watch(made[1])


def batches_of(front: Front) -> tuple[str, list[str], str]:
    made = [front.call("POST", BATCH, json={"usernames": ["nasa"]}).json["batchId"] for _ in range(3)]
    return "/api/batches", made, keys.batch(made[1])


LISTS: dict[str, Callable[[Front], tuple[str, list[str], str]]] = {
    "requests": requests_of,
    "deliveries": deliveries_of,
    "watches": watches_of,
    "batches": batches_of,
}
NAMES = ("requestId", "watchId", "batchId", "id")


def shown(front: Front, path: str, **query: Any) -> list[str]:
    response = front.get(path, query_string=query)
    assert response.status_code == 200, response.text
    [lines] = [value for value in response.json.values() if isinstance(value, list)]
    return [next(line[name] for name in NAMES if path_names(path) == name) for line in lines]


def path_names(path: str) -> str:
    return {"/api/requests": "requestId", "/api/watches": "watchId", "/api/batches": "batchId"}.get(
        path, "id"
    )


@pytest.mark.parametrize("fields", [SOON, YEAR_30000], ids=["letters", "beyond all dates"])
@pytest.mark.parametrize("kind", LISTS)
def test_a_broken_row_is_left_out_of_its_list(front: Front, kind: str, fields: dict[str, str]) -> None:
    path, made, key = LISTS[kind](front)
    assert sorted(shown(front, path)) == sorted(made)
    front.redis.hset(key, mapping=fields)
    with structlog.testing.capture_logs() as logs:
        assert sorted(shown(front, path)) == sorted([made[0], made[2]])
    [told] = [each for each in logs if each["event"] == "store.broken_row"]
    assert made[1] in told["row"]
    assert "created_at" in told["what"]


@pytest.mark.parametrize("kind", LISTS)
def test_a_row_of_another_type_is_left_out_as_well(front: Front, kind: str) -> None:
    path, made, key = LISTS[kind](front)
    front.redis.delete(key)
    front.redis.set(key, "x")
    assert sorted(shown(front, path)) == sorted([made[0], made[2]])


@pytest.mark.parametrize("kind", LISTS)
def test_a_cursor_goes_on_behind_a_broken_row(front: Front, kind: str) -> None:
    path, made, key = LISTS[kind](front)
    front.redis.hset(key, mapping=SOON)
    found, cursor = [], {}
    for _ in range(4):
        response = front.get(path, query_string={"limit": 1, **cursor})
        assert response.status_code == 200, response.text
        [lines] = [value for value in response.json.values() if isinstance(value, list)]
        found += [line[path_names(path)] for line in lines]
        if response.json["nextCursor"] is None:
            break
        cursor = {"cursor": response.json["nextCursor"]}
    assert sorted(found) == sorted([made[0], made[2]])


@pytest.mark.parametrize("fields", [{"amount": "1e+30"}, {"type": "gift"}, {"at": "9" * 18}, {"held": "x"}])
def test_a_broken_entry_is_left_out_of_the_ledger(front: Front, fields: dict[str, str]) -> None:
    before = front.get("/api/credits/ledger").json["entries"]
    whole = {"type": "topup", "amount": "1", "balance": "1", "held": "0", "note": "", "at": "1"}
    broken = front.redis.xadd(keys.ledger(front.me.account.account_id), {**whole, **fields})
    with structlog.testing.capture_logs() as logs:
        response = front.get("/api/credits/ledger")
    assert (response.status_code, response.json["entries"]) == (200, before)
    assert [broken in each["row"] for each in logs if each["event"] == "store.broken_row"] == [True]


def test_a_broken_batch_of_no_items_does_not_end_the_list(front: Front) -> None:
    path, made, key = batches_of(front)
    front.redis.hset(key, "total", "0")
    assert sorted(shown(front, path)) == sorted([made[0], made[2]])


def test_a_broken_row_that_is_asked_for_is_an_error_of_ours_that_names_it(front: Front) -> None:
    request_id = front.accept("nasa")
    front.redis.hdel(keys.request(request_id), "hold")
    with structlog.testing.capture_logs() as logs:
        response = front.get(f"/api/requests/{request_id}")
    assert (response.status_code, response.json["code"]) == (500, "broken_row")
    assert request_id in response.json["error"]
    assert [each["row"] for each in logs if each["event"] == "store.broken_row"] == [f"request {request_id}"]


def test_credits_that_cannot_be_read_withhold_no_result(front: Front) -> None:
    request_id = front.ended("nasa")
    front.redis.hset(keys.credits(front.me.account.account_id), "balance", "-9223372036854775808")
    response = front.get(f"/api/requests/{request_id}")
    assert (response.status_code, response.json["success"]) == (200, True)
    assert "X-Credits-Remaining" not in response.headers
    assert front.get("/api/credits").json["code"] == "broken_row"
    assert front.get("/api/requests").status_code == 200
    assert front.get("/api/credits", by=front.other).status_code == 200


@pytest.mark.parametrize("value", ["1e+30", "nan"])
def test_who_has_credits_that_are_no_whole_numbers_begins_nothing(front: Front, value: str) -> None:
    front.redis.hset(keys.credits(front.me.account.account_id), "balance", value)
    before = set(front.redis.scan_iter())
    single = front.call("POST", "/api/instagram/stories", json={"username": "nasa", "webhookUrl": HOOK})
    several = front.call("POST", "/api/instagram/stories/batch", json={"usernames": ["nasa"]})
    for response in (single, several):
        assert (response.status_code, response.json["code"]) == (500, "broken_row"), response.text
    assert not [name for name in set(front.redis.scan_iter()) - before if ":req" in name or ":batch" in name]


def test_a_broken_line_in_the_log_of_a_delivery_is_left_out(front: Front) -> None:
    delivery_id = ids.delivery_of(front.ended("nasa", fields={"webhookUrl": HOOK}))
    front.redis.rpush(
        keys.delivery_log(delivery_id), "no JSON", '{"at": 1, "duration": 0.1, "status": 200}', '{"a": 1}'
    )
    response = front.get(f"/api/webhooks/deliveries/{delivery_id}")
    assert response.status_code == 200
    assert [each["status"] for each in response.json["log"]] == [200]


def test_a_broken_key_is_left_out_of_the_list_of_keys(front: Front) -> None:
    made = front.call("POST", "/keys", json={"name": "one more"}).json
    before = front.get("/keys").json
    broken = next(key for key in front.redis.scan_iter("g:key:*") if made["id"] in key)
    front.redis.hdel(broken, "created_at")
    response = front.get("/keys")
    assert response.status_code == 200
    assert len(response.json["keys"]) == len(before["keys"]) - 1
