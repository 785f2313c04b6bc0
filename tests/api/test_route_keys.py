"""/keys: made once, shown once, revoked for good."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.domain.accounts import KEYS_MOST
from tests.api.support import JSON, PROTECTED, STORIES, Front, assert_error
from tests.redis.kit import at_once
from tests.texts import HOSTILE


def make_key(front: Front, name: str = "laptop", **options: Any) -> dict[str, Any]:
    response = front.call("POST", "/keys", json={"name": name}, **options)
    assert response.status_code == 201, response.text
    return response.json


def listed(front: Front, **options: Any) -> dict[str, dict[str, Any]]:
    response = front.get("/keys", **options)
    assert response.status_code == 200
    return {key["id"]: key for key in response.json["keys"]}


def test_a_new_key_is_shown_whole_and_works(front: Front) -> None:
    response = front.call("POST", "/keys", json={"name": "läptop"})
    made = response.json

    assert response.status_code == 201
    assert response.content_type == JSON
    assert set(made) == {"id", "name", "key", "prefix", "createdAt"}
    assert made["name"] == "läptop"
    assert made["key"].startswith("sk_live_")
    assert made["key"].startswith(made["prefix"])
    assert len(made["prefix"]) < len(made["key"]) / 2
    age = datetime.now(UTC) - datetime.fromisoformat(made["createdAt"])
    assert abs(age) < timedelta(minutes=1)
    headers = {"Authorization": f"Bearer {made['key']}"}
    assert front.client.get("/api/credits", headers=headers).json == front.get("/api/credits").json


def test_a_key_works_in_the_header_x_access_key_on_every_route(front: Front) -> None:
    headers = {"x-access-key": front.me.key}
    for method, path in PROTECTED:
        response = front.client.open(path, method=method, headers=headers)
        assert response.status_code not in (401, 403), (method, path)


def test_the_scheme_bearer_ignores_case(front: Front) -> None:
    for scheme in ("Bearer", "bearer", "BEARER"):
        headers = {"Authorization": f"{scheme} {front.me.key}"}
        assert front.client.get("/api/credits", headers=headers).status_code == 200


def test_the_list_shows_all_keys_but_no_secret(front: Front) -> None:
    made = make_key(front)
    response = front.get("/keys")
    keys = listed(front)

    assert len(keys) == 2
    line = keys[made["id"]]
    assert set(line) == {"id", "name", "prefix", "createdAt", "lastUsedAt", "lastUsedFrom"}
    assert line["prefix"] == made["prefix"]
    assert line["createdAt"] == made["createdAt"]
    assert made["key"] not in response.text
    assert made["id"] not in listed(front, by=front.other)


def test_the_last_use_of_a_key_is_told(front: Front) -> None:
    made = make_key(front)
    assert listed(front)[made["id"]]["lastUsedAt"] is None
    front.client.get("/api/credits", headers={"x-access-key": made["key"]})

    used = datetime.fromisoformat(listed(front)[made["id"]]["lastUsedAt"])
    assert abs(datetime.now(UTC) - used) < timedelta(minutes=1)


def test_where_a_key_was_used_from_is_told(front: Front) -> None:
    made = make_key(front)
    assert listed(front)[made["id"]]["lastUsedFrom"] is None
    elsewhere = {"REMOTE_ADDR": "2001:db8::7"}
    front.client.get("/api/credits", headers={"x-access-key": made["key"]}, environ_base=elsewhere)

    assert listed(front)[made["id"]]["lastUsedFrom"] == "2001:db8::7"


def test_a_key_that_was_guessed_in_part_is_not_used(front: Front) -> None:
    made = make_key(front)
    wrong = made["key"][:-1] + ("a" if made["key"][-1] != "a" else "b")
    assert_error(front.client.get("/api/credits", headers={"x-access-key": wrong}), 401, "unauthorized")

    assert listed(front)[made["id"]]["lastUsedAt"] is None


def test_a_revoked_key_is_gone_and_no_longer_works(front: Front) -> None:
    made = make_key(front)
    response = front.call("DELETE", f"/keys/{made['id']}")

    assert response.status_code == 204
    assert response.data == b""
    assert made["id"] not in listed(front)
    headers = {"Authorization": f"Bearer {made['key']}"}
    assert_error(front.client.get("/api/credits", headers=headers), 401, "unauthorized")
    assert_error(front.call("DELETE", f"/keys/{made['id']}"), 404, "not_found")


def test_a_key_may_revoke_itself(front: Front) -> None:
    [mine] = listed(front)
    assert front.call("DELETE", f"/keys/{mine}").status_code == 204
    assert_error(front.get("/keys"), 401, "unauthorized")


def test_the_key_of_another_account_cannot_be_revoked(front: Front) -> None:
    made = make_key(front, by=front.other)
    assert_error(front.call("DELETE", f"/keys/{made['id']}"), 404, "not_found")

    assert made["id"] in listed(front, by=front.other)
    assert front.client.get("/api/credits", headers={"x-access-key": made["key"]}).status_code == 200


def test_an_account_has_at_most_50_keys(front: Front) -> None:
    for n in range(KEYS_MOST - 1):
        make_key(front, f"key {n}")
    assert_error(front.call("POST", "/keys", json={"name": "one too many"}), 409, "conflict")
    assert len(listed(front)) == KEYS_MOST == 50

    front.call("DELETE", f"/keys/{next(reversed(listed(front)))}")
    make_key(front, "in its place")


@pytest.mark.parametrize("name", ["", "x" * 101])
def test_the_name_of_a_key_has_1_to_100_characters(front: Front, name: str) -> None:
    response = front.call("POST", "/keys", json={"name": name})
    assert_error(response, 422, "validation_error", {"name"})
    assert len(listed(front)) == 1


@pytest.mark.parametrize("name", HOSTILE)
def test_the_name_of_a_key_is_printable(front: Front, name: str) -> None:
    response = front.call("POST", "/keys", json={"name": name})
    assert_error(response, 422, "validation_error", {"name"})
    assert len(listed(front)) == 1


def test_of_many_keys_made_at_once_50_stand(real: Front) -> None:
    def make(number: int) -> int:
        return real.call("POST", "/keys", json={"name": f"key {number}"}).status_code

    answers = at_once(80, make)
    assert answers.count(201) == KEYS_MOST - 1
    assert set(answers) == {201, 409}
    assert len(listed(real)) == KEYS_MOST
    assert len(list(real.redis.scan_iter("g:key:*"))) == KEYS_MOST + 1  # the other account has one


def test_requests_made_with_any_key_belong_to_the_account(front: Front) -> None:
    request_id = front.accept()
    made = make_key(front)
    response = front.client.get(f"/api/requests/{request_id}", headers={"x-access-key": made["key"]})

    assert response.status_code == 200


def test_a_revoked_key_starts_no_work(front: Front) -> None:
    made = make_key(front)
    front.call("DELETE", f"/keys/{made['id']}")
    before = front.stored()
    response = front.client.post(STORIES, json={"username": "nasa"}, headers={"x-access-key": made["key"]})

    assert_error(response, 401, "unauthorized")
    assert front.stored() == before
    assert front.queue.published == []
