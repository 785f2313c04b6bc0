"""The states of a request and the ways between them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from service.domain.operations import Ask
from service.domain.options import PLAIN, Options
from service.domain.requests import (
    CANCELLED,
    FAILED,
    FINAL,
    PROCESSING,
    QUEUED,
    STATES,
    SUCCEEDED,
    TRANSITIONS,
    RequestRecord,
    Submission,
    may_become,
)
from service.domain.targets import KINDS, STORY_ID, USER_ID, Target, named


def test_every_state_has_its_transitions_and_leads_only_to_states() -> None:
    assert set(TRANSITIONS) == set(STATES)
    assert {target for targets in TRANSITIONS.values() for target in targets} <= set(STATES)


@pytest.mark.parametrize("state", sorted(FINAL))
def test_nothing_follows_a_final_state(state: str) -> None:
    assert not any(may_become(state, target) for target in STATES)


def test_only_a_final_state_is_a_dead_end() -> None:
    assert {state for state in STATES if not TRANSITIONS[state]} == FINAL


def test_a_request_can_be_cancelled_only_while_it_is_queued() -> None:
    assert [state for state in STATES if may_become(state, CANCELLED)] == [QUEUED]


def test_a_request_succeeds_only_by_being_worked_on() -> None:
    assert [state for state in STATES if may_become(state, SUCCEEDED)] == [PROCESSING]


def test_a_second_worker_may_take_over_what_is_processing() -> None:
    assert may_become(PROCESSING, PROCESSING)


def test_only_who_works_on_a_request_puts_it_back_into_the_queue() -> None:
    assert [state for state in STATES if may_become(state, QUEUED)] == [PROCESSING]


@pytest.mark.parametrize("state", STATES)
def test_a_record_is_final_in_the_final_states_and_no_others(state: str) -> None:
    record = RequestRecord("req_1", "acc_1", "stories", named("anna"), "bulk", state, hold=1, created_at=0)
    assert record.is_final == (state in {SUCCEEDED, FAILED, CANCELLED})


# --- what a request is about, and how its result is to be -----------------------------------------

STORED = {
    "account": "acc_1", "operation": "stories", "queue": "bulk", "status": "queued", "hold": "1",
    "created_at": "7", "max_age": "60",
}  # fmt: skip
ASKED = Submission("req_1", "acc_1", "stories", named("anna"), "bulk", hold=1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_knows_what_it_is_about_and_a_name_only_when_asked_by_name(kind: str) -> None:
    record = RequestRecord.of("req_1", {**STORED, kind: "anna"})
    assert record.target == Target(kind, "anna")
    assert record.username == ("anna" if kind == "username" else None)


def test_whose_the_result_is_makes_no_name_it_was_asked_by() -> None:
    found = {"source": "instagrapi", "owner": "7", "owner_name": "anna"}
    record = RequestRecord.of("req_1", {**STORED, "story_id": "9", **found})
    assert (record.username, record.source) == (None, "instagrapi")
    assert RequestRecord.of("req_1", {**STORED, "story_id": "9"}).source is None


def test_a_record_of_an_earlier_version_has_the_plain_options() -> None:
    record = RequestRecord.of("req_1", {**STORED, "username": "anna"})
    assert record.options is PLAIN
    assert record.ask == Ask("stories", named("anna"), force=False)


def test_force_changes_what_is_asked_and_the_other_options_do_not() -> None:
    def ask(options: Options) -> Ask:
        return RequestRecord.of("req_1", {**STORED, "user_id": "7", "options": options.text}).ask

    assert ask(Options(amount=3, shape="story", archive=True, tariff="t", first_byte=9)) == ask(PLAIN)
    assert ask(Options(force=True)) == Ask("stories", Target(USER_ID, "7"), force=True)


def test_the_fingerprint_of_a_plain_request_by_name_is_what_it_was() -> None:
    asked = json.dumps(["stories", "anna", "https://example.com/", 60])
    made = replace(ASKED, webhook_url="https://example.com/", max_age=60)
    assert made.fingerprint == hashlib.sha256(asked.encode()).hexdigest()


@pytest.mark.parametrize(
    "changes",
    [
        {"operation": "highlights"},
        {"target": named("bert")},
        {"target": Target(USER_ID, "anna")},
        {"target": Target(STORY_ID, "anna")},
        {"webhook_url": "https://example.com/"},
        {"max_age": 1},
        {"options": Options(amount=1)},
        {"options": Options(force=True)},
    ],
)
def test_a_fingerprint_tells_what_is_asked_and_how(changes: dict[str, object]) -> None:
    assert replace(ASKED, **changes).fingerprint != ASKED.fingerprint  # type: ignore[arg-type]


def test_a_fingerprint_tells_no_more_than_what_is_asked() -> None:
    again = replace(ASKED, request_id="req_2", queue="interactive", hold=3, idempotency_key="k")
    assert again.fingerprint == ASKED.fingerprint
