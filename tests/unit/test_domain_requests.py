"""The states of a request and the ways between them."""

from __future__ import annotations

import pytest

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
    may_become,
)
from service.domain.targets import named


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
