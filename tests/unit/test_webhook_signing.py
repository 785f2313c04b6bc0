"""Signatures a receiver checks with the reference library of Standard Webhooks."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from workers.webhooks.signing import signature_headers


def secret(letter: bytes) -> str:
    return "whsec_" + base64.b64encode(letter * 32).decode()


CURRENT, PREVIOUS = secret(b"c"), secret(b"p")
BODY = '{"success":true,"username":"anna","note":"größer 🙂"}'.encode()


def now() -> int:
    return int(time.time())


@pytest.fixture
def in_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def move(zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield move
    monkeypatch.undo()
    time.tzset()


def test_a_receiver_verifies_what_was_signed() -> None:
    headers = signature_headers("msg_1", now(), BODY, [CURRENT])
    assert Webhook(CURRENT).verify(BODY, headers)["username"] == "anna"


def test_the_delivery_id_and_the_second_of_the_attempt_stand_in_the_headers() -> None:
    headers = signature_headers("msg_07abc", 1_700_000_000, BODY, [CURRENT])
    assert headers["webhook-id"] == "msg_07abc"
    assert headers["webhook-timestamp"] == "1700000000"


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata", "Pacific/Kiritimati", "UTC"])
def test_a_signature_holds_whatever_the_zone_of_the_machine(
    in_zone: Callable[[str], None], zone: str
) -> None:
    in_zone(zone)
    headers = signature_headers("msg_1", now(), BODY, [CURRENT])
    assert abs(int(headers["webhook-timestamp"]) - now()) <= 1
    Webhook(CURRENT).verify(BODY, headers)


@pytest.mark.parametrize("theirs", [CURRENT, PREVIOUS])
def test_while_a_secret_is_rotated_a_receiver_verifies_with_either(theirs: str) -> None:
    headers = signature_headers("msg_1", now(), BODY, [CURRENT, PREVIOUS])
    assert len(headers["webhook-signature"].split(" ")) == 2
    Webhook(theirs).verify(BODY, headers)


def test_a_receiver_with_another_secret_refuses() -> None:
    headers = signature_headers("msg_1", now(), BODY, [CURRENT, PREVIOUS])
    with pytest.raises(WebhookVerificationError):
        Webhook(secret(b"x")).verify(BODY, headers)


@pytest.mark.parametrize("part", ["webhook-id", "webhook-timestamp", "body"])
def test_whatever_is_changed_on_the_way_is_noticed(part: str) -> None:
    at = now()
    headers = signature_headers("msg_1", at, BODY, [CURRENT])
    changed = {"webhook-id": "msg_2", "webhook-timestamp": str(at + 1)}
    body = BODY + b" " if part == "body" else BODY
    headers |= {part: changed[part]} if part in changed else {}
    with pytest.raises(WebhookVerificationError):
        Webhook(CURRENT).verify(body, headers)


def test_every_attempt_signs_its_own_time() -> None:
    first, second = (signature_headers("msg_1", at, BODY, [CURRENT]) for at in (1_700_000_000, 1_700_000_005))
    assert first["webhook-signature"] != second["webhook-signature"]
