"""Who is not served: what an operator types, what belongs together, which requests are about whom."""

from __future__ import annotations

import pytest

from service.domain.errors import ValidationFailed
from service.domain.optouts import OptOut, Subjects, parse_account, same_account
from service.domain.requests import RequestRecord
from service.domain.targets import STORY_ID, USER_ID, Target, named

ANNA, BERT = named("anna"), named("bert")
ID_1, ID_2 = Target(USER_ID, "1"), Target(USER_ID, "2")


@pytest.mark.parametrize(
    ("text", "account"),
    [
        ("anna", ANNA),
        (" @Anna ", ANNA),
        ("https://www.instagram.com/anna/", ANNA),
        ("787132", Target(USER_ID, "787132")),
        ("00787132", Target(USER_ID, "787132")),
        ("@787132", named("787132")),
        ("0", None),
        (str(2**63), None),
        ("١٢٣", None),
        ("9" * 21, None),
        ("anna bert", None),
        ("", None),
    ],
)
def test_digits_are_an_id_and_all_else_is_a_name(text: str, account: Target | None) -> None:
    if account is not None:
        assert parse_account(text) == account
        return
    with pytest.raises(ValidationFailed) as refused:
        parse_account(text)
    assert list(refused.value.details or {}) == ["account"]


def test_all_that_was_linked_belongs_together_and_nothing_else() -> None:
    listed = [
        OptOut(ANNA, 1),
        OptOut(ID_1, 2, linked="anna"),
        OptOut(named("anna2"), 3, linked="1"),
        OptOut(BERT, 4),
        OptOut(ID_2, 5),
    ]
    for one in (ANNA, ID_1, named("anna2")):
        assert same_account(listed, one) == {ANNA, ID_1, named("anna2")}
    assert same_account(listed, BERT) == {BERT}
    assert same_account(listed, named("carl")) == set()


def test_a_link_to_what_was_taken_off_leads_nowhere() -> None:
    listed = [OptOut(ID_1, 2, linked="anna"), OptOut(named("x"), 3, linked="1")]
    assert same_account(listed, ANNA) == set()
    assert same_account(listed, named("x")) == {ID_1, named("x")}


def request(target: Target, owner: str | None = None, owner_name: str | None = None) -> RequestRecord:
    return RequestRecord(
        "req_1", "acc_1", "stories", target, "bulk", "succeeded", 1, 1, owner=owner, owner_name=owner_name
    )


@pytest.mark.parametrize(
    ("about", "has"),
    [
        (request(ANNA), True),
        (request(ID_1), True),
        (request(Target(STORY_ID, "7"), "1", "other"), True),
        (request(Target(STORY_ID, "7"), "9", "anna"), True),
        (request(BERT, "2", "bert"), False),
        (request(Target(STORY_ID, "1")), False),
        (request(named("1")), False),
        (request(Target(USER_ID, "3")), False),
    ],
)
def test_a_request_is_about_whom_it_asked_for_and_whom_it_brought(about: RequestRecord, has: bool) -> None:
    assert Subjects.of([ANNA, ID_1]).has(about) is has


def test_an_open_request_for_a_story_may_be_about_anybody() -> None:
    subjects = Subjects.of([ANNA])
    assert subjects.may_have(request(Target(STORY_ID, "7")))
    assert subjects.may_have(request(ANNA))
    assert not subjects.may_have(request(BERT))
    assert not subjects.may_have(request(ID_2))


def test_subjects_learn_of_themselves_only() -> None:
    subjects = Subjects.of([ANNA])
    assert not subjects.learn("bert", "2")
    assert not subjects.learn("anna", "")
    assert subjects.learn("anna", "1")
    assert not subjects.learn("anna", "1")
    assert subjects.learn("anna2", "1")
    assert (subjects.names, subjects.user_ids, len(subjects)) == ({"anna", "anna2"}, {"1"}, 3)
