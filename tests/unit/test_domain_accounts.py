"""E-mail addresses and passwords of this service's own accounts."""

from __future__ import annotations

import pytest

from service.domain.accounts import PASSWORD_MAX, PASSWORD_MIN, check_password, parse_email
from service.domain.errors import ValidationFailed


@pytest.mark.parametrize("text", ["anna@example.com", " Anna@Example.COM \n", "ANNA@EXAMPLE.COM"])
def test_an_address_is_one_however_its_case_is_written(text: str) -> None:
    assert parse_email(text) == "anna@example.com"


@pytest.mark.parametrize(
    "text", ["a+b@example.com", "o'neil@example.com", "jörg@bücher.example", "a@localhost"]
)
def test_an_unusual_address_is_taken(text: str) -> None:
    assert parse_email(text) == text


@pytest.mark.parametrize(
    "text",
    ["", " ", "anna", "anna@", "@example.com", "a@b@c", "an na@example.com", "anna@exam ple.com",
     "a\nb@example.com",
     "a" * 65 + "@example.com", "anna@" + "e" * 191],
)  # fmt: skip
def test_what_is_no_address_is_refused_and_the_field_named(text: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        parse_email(text)
    assert list(caught.value.details or {}) == ["email"]


@pytest.mark.parametrize("length", [PASSWORD_MIN, PASSWORD_MAX])
def test_a_password_of_the_shortest_and_of_the_longest_length_is_taken_unchanged(length: int) -> None:
    password = " Pä".ljust(length, "x")
    assert check_password(password) == password


@pytest.mark.parametrize("length", [0, PASSWORD_MIN - 1, PASSWORD_MAX + 1])
def test_a_shorter_or_longer_password_is_refused_and_not_repeated(length: int) -> None:
    with pytest.raises(ValidationFailed) as caught:
        check_password("q" * length)
    assert list(caught.value.details or {}) == ["password"]
    assert "qq" not in str(caught.value.details)
