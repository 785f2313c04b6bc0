"""The one tree of errors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pytest

from service.domain.errors import (
    CallerError,
    ConfigurationError,
    FetchError,
    LeaseLost,
    NoSessionFree,
    Retry,
    StoreUnavailable,
    StoryhookError,
    UpstreamBlocked,
)

BRANCHES = {StoryhookError, CallerError, FetchError}  # caught by name, never raised themselves


def tree(root: type[StoryhookError] = StoryhookError) -> Iterator[type[StoryhookError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


# A kind of its parent that only workers tell apart.
INNER = {NoSessionFree}
LEAVES = [error for error in tree() if error not in BRANCHES | INNER]


def test_every_error_has_a_code_of_its_own() -> None:
    shared = {code: count for code, count in Counter(error.code for error in LEAVES).items() if count > 1}
    assert shared == {}


@pytest.mark.parametrize("error", LEAVES)
def test_every_error_says_its_code_itself(error: type[StoryhookError]) -> None:
    assert "code" in vars(error)
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", error.code)


@pytest.mark.parametrize("error", [error for error in LEAVES if issubclass(error, CallerError)])
def test_what_the_caller_did_has_a_status_of_4xx(error: type[StoryhookError]) -> None:
    assert 400 <= error.status < 500


@pytest.mark.parametrize("error", [error for error in LEAVES if issubclass(error, FetchError)])
def test_how_a_fetch_ends_has_its_own_status_and_sentence(error: type[StoryhookError]) -> None:
    assert "status" in vars(error)
    assert error.default_message != StoryhookError.default_message


def test_the_statuses_are_those_of_the_contract() -> None:
    statuses = {error.code: error.status for error in LEAVES}
    contract = {
        "account_private": 403, "user_not_found": 404, "upstream_blocked": 503, "upstream_timeout": 504,
        "upstream_error": 502,
        "opted_out": 451, "unauthorized": 401, "forbidden": 403, "insufficient_credits": 402,
        "validation_error": 422,
        "webhook_forbidden": 422, "malformed_json": 400, "unsupported_media_type": 415,
        "payload_too_large": 413,
        "rate_limited": 429, "not_found": 404, "method_not_allowed": 405, "service_unavailable": 503,
    }  # fmt: skip
    assert contract.items() <= statuses.items()


def test_the_base_is_our_own_mistake() -> None:
    assert (StoryhookError.code, StoryhookError.status) == ("internal_error", 500)


def test_a_given_sentence_replaces_the_default_one_and_is_the_text_of_the_exception() -> None:
    assert StoryhookError("No.").message == "No."
    assert str(StoryhookError("No.")) == "No."
    assert str(LeaseLost()) == LeaseLost.default_message


def test_a_store_that_is_out_says_when_to_come_back() -> None:
    assert StoreUnavailable().retry_after == 2


def test_a_fetch_may_say_otherwise_than_its_class_what_to_do_next() -> None:
    assert UpstreamBlocked().retry is Retry.ELSEWHERE
    assert UpstreamBlocked(retry=Retry.NEVER).retry is Retry.NEVER
    assert UpstreamBlocked.retry is Retry.ELSEWHERE


def test_a_wrong_setting_is_no_error_of_a_caller() -> None:
    assert not issubclass(ConfigurationError, CallerError)
