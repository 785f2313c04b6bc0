"""How callers name what they ask for: which fields there are, and what is said of wrong ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import ValidationFailed
from service.domain.inputs import inputs_of, target_of
from service.domain.links import MEDIA_URL_MAX, URL_MAX
from service.domain.operations import (
    DOWNLOAD,
    HIGHLIGHT,
    HIGHLIGHTS,
    OPERATIONS,
    STORIES,
    STORY,
    USER,
    Operation,
)
from service.domain.targets import HIGHLIGHT_ID, MEDIA_URL, STORY_ID, USER_ID, USERNAME, Target

PK = "3411111111111111111"
STORY_URL = f"https://www.instagram.com/stories/nasa/{PK}/"
HIGHLIGHT_URL = "https://www.instagram.com/stories/highlights/17983616051768088/"
MEDIA = "https://scontent.cdninstagram.com/v/1_2_n.mp4?oh=00_ab"

FIELDS = {
    STORIES: ["username", "userId"],
    STORY: ["storyId", "url"],
    HIGHLIGHTS: ["username", "userId"],
    HIGHLIGHT: ["highlightId", "url"],
    USER: ["username", "userId"],
    DOWNLOAD: ["storyId", "url"],
}
every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


def refusal(operation: str, given: dict[str, str | None]) -> dict[str, list[str]]:
    with pytest.raises(ValidationFailed) as caught:
        target_of(OPERATIONS[operation], given)
    return caught.value.details or {}


@every_operation
def test_every_operation_has_its_fields(operation: Operation) -> None:
    inputs = inputs_of(operation)
    assert [each.field for each in inputs] == FIELDS[operation.name]
    for each in inputs:
        assert each.description
        target = target_of(operation, {each.field: each.example})
        assert target.kind in operation.targets, "an example works"
        assert len(each.example) <= each.longest


@every_operation
def test_every_kind_of_target_can_be_named(operation: Operation) -> None:
    texts = ["nasa", PK, STORY_URL, HIGHLIGHT_URL, MEDIA]
    found = set()
    for each in inputs_of(operation):
        for text in texts:
            try:
                found.add(each.read(text).kind)
            except ValidationFailed as error:
                assert list(error.details or {}) == [each.field]  # noqa: PT017 - most are refused
    assert found == set(operation.targets)


@pytest.mark.parametrize(
    ("operation", "given", "target"),
    [
        (STORIES, {"username": "@NASA"}, Target(USERNAME, "nasa")),
        (STORIES, {"username": None, "userId": "0528817151"}, Target(USER_ID, "528817151")),
        (STORY, {"storyId": f"{PK}_5"}, Target(STORY_ID, PK)),
        (STORY, {"url": f" {STORY_URL} "}, Target(STORY_ID, PK)),
        (HIGHLIGHT, {"highlightId": "highlight:5"}, Target(HIGHLIGHT_ID, "5")),
        (HIGHLIGHT, {"url": HIGHLIGHT_URL, "highlightId": None}, Target(HIGHLIGHT_ID, "17983616051768088")),
        (DOWNLOAD, {"url": STORY_URL}, Target(STORY_ID, PK)),
        (DOWNLOAD, {"url": f"{STORY_URL}?igsh=1"}, Target(STORY_ID, PK)),
        (DOWNLOAD, {"url": f"instagram.com/stories/nasa/{PK}"}, Target(STORY_ID, PK)),
        (DOWNLOAD, {"url": MEDIA}, Target(MEDIA_URL, MEDIA)),
        (DOWNLOAD, {"url": MEDIA, "webhook_url": "x"}, Target(MEDIA_URL, MEDIA)),
    ],
)
def test_one_field_names_the_target(operation: str, given: dict[str, str | None], target: Target) -> None:
    assert target_of(OPERATIONS[operation], given) == target


@every_operation
def test_none_of_them_is_told_at_the_first(operation: Operation) -> None:
    first, second = FIELDS[operation.name]
    for texts in ({}, {first: None, second: None}, {"other": "5"}):
        assert refusal(operation.name, texts) == {first: [f"Give {first} or {second}."]}


@every_operation
def test_two_of_them_are_told_at_both(operation: Operation) -> None:
    first, second = FIELDS[operation.name]
    said = [f"Give {first} or {second}, one of them only."]
    assert refusal(operation.name, {first: "5", second: "5"}) == {first: said, second: said}


@every_operation
def test_an_empty_text_is_given_and_wrong(operation: Operation) -> None:
    for field in FIELDS[operation.name]:
        assert list(refusal(operation.name, {field: ""})) == [field]


@pytest.mark.parametrize(
    ("operation", "url", "hint"),
    [
        (STORY, HIGHLIGHT_URL, "highlight"),
        (STORY, "https://www.instagram.com/stories/nasa/", "username"),
        (STORY, MEDIA, "instagram.com"),
        (HIGHLIGHT, STORY_URL, "story"),
        (DOWNLOAD, HIGHLIGHT_URL, "highlight"),
        (DOWNLOAD, "https://www.instagram.com/stories/nasa/", "copy its URL"),
        (DOWNLOAD, "https://www.instagram.com/nasa/", "URL of a story"),
        (DOWNLOAD, "https://evil.example/a.mp4", "cdninstagram.com"),
        (DOWNLOAD, "http://scontent.cdninstagram.com/a.mp4", "https"),
        (DOWNLOAD, f"https://instagram.com@evil.example/stories/nasa/{PK}/", "user name"),
    ],
)
def test_a_url_of_something_else_is_told_what_to_give(operation: str, url: str, hint: str) -> None:
    [sentence] = refusal(operation, {"url": url})["url"]
    assert hint in sentence


def test_a_page_of_instagram_is_never_fetched_as_a_file() -> None:
    """It is told from a file by its host, and what is on that host is no file."""
    for host in ("instagram.com", "www.instagram.com", "m.instagram.com"):
        assert list(refusal(DOWNLOAD, {"url": f"https://{host}/a.mp4"})) == ["url"]


def test_a_url_is_as_long_as_such_urls_are() -> None:
    longest = {
        (operation.name, each.field): each.longest
        for operation in OPERATIONS.values()
        for each in inputs_of(operation)
    }
    assert longest[DOWNLOAD, "url"] == MEDIA_URL_MAX
    assert longest[STORY, "url"] == longest[HIGHLIGHT, "url"] == URL_MAX
    assert target_of(OPERATIONS[DOWNLOAD], {"url": MEDIA.ljust(MEDIA_URL_MAX, "a")}).kind == MEDIA_URL
    assert refusal(DOWNLOAD, {"url": MEDIA.ljust(MEDIA_URL_MAX + 1, "a")})
    assert refusal(DOWNLOAD, {"url": f"{STORY_URL}?".ljust(URL_MAX + 1, "a")})


@given(
    st.sampled_from(sorted(OPERATIONS)),
    st.dictionaries(
        st.sampled_from(["username", "userId", "storyId", "highlightId", "url"]),
        st.none() | st.text() | st.sampled_from([PK, STORY_URL, HIGHLIGHT_URL, MEDIA, "nasa"]),
    ),
)
def test_whatever_is_given_a_target_or_a_refusal_of_its_fields_comes_out(
    operation: str, given: dict[str, str | None]
) -> None:
    told: set[str] = set()
    try:
        target = target_of(OPERATIONS[operation], given)
    except ValidationFailed as error:
        told = set(error.details or {})
    if told:
        assert told <= set(FIELDS[operation])
    else:
        assert target.kind in OPERATIONS[operation].targets
        assert target.value
