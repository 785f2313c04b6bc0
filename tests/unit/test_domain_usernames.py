"""What callers send as a username, and what is made of it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import ValidationFailed
from service.domain.requests import parse_username

names = st.from_regex(r"[A-Za-z0-9._]{1,30}", fullmatch=True)


@pytest.mark.parametrize(
    "text",
    [
        "some.name_1", "@some.name_1", "Some.Name_1", "  some.name_1\n",
        "https://www.instagram.com/some.name_1/", "https://instagram.com/some.name_1",
        "http://m.instagram.com/some.name_1/",
        "https://www.instagram.com/some.name_1/?igsh=abc&utm_source=qr",
        "https://www.instagram.com/some.name_1#top",
        "instagram.com/some.name_1", "www.instagram.com/some.name_1/",
        "HTTPS://WWW.INSTAGRAM.COM/Some.Name_1",
        "https://www.instagram.com/@some.name_1", "https://www.instagram.com/stories/some.name_1/",
        "https://www.instagram.com:443/some.name_1",
    ],
)  # fmt: skip
def test_a_name_is_read_however_it_is_written(text: str) -> None:
    assert parse_username(text) == "some.name_1"


@given(names)
def test_every_name_instagram_allows_is_kept_in_lower_case(name: str) -> None:
    assert parse_username(name) == name.lower()
    assert parse_username(f"@{name}") == name.lower()


@given(st.text())
def test_whatever_comes_in_only_a_well_formed_name_comes_out(text: str) -> None:
    try:
        name = parse_username(text)
    except ValidationFailed:
        return
    assert re.fullmatch(r"[a-z0-9._]{1,30}", name)


@pytest.mark.parametrize(
    "text",
    ["", " ", "@", "@@name", "na me", "na-me", "name!", "näme", "имя", "ｎａｍｅ", "name\u200b", "na\x00me",
     "na\nme", "名前", "٣٤"],
)  # fmt: skip
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValidationFailed):
        parse_username(text)


@pytest.mark.parametrize(
    "text", ["a" * 31, "@" + "a" * 31, "https://instagram.com/" + "a" * 31, "a" * 100_000]
)
def test_a_name_of_more_than_30_characters_is_refused_and_the_limit_named(text: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        parse_username(text)
    assert list(caught.value.details or {}) == ["username"]
    assert "30" in str(caught.value.details)


def test_a_name_of_30_characters_is_taken() -> None:
    assert parse_username("@" + "a" * 30) == "a" * 30


@pytest.mark.parametrize(
    "text",
    [
        "https://instagram.com.evil.example/name", "https://evil-instagram.com/name",
        "https://instagram.co/name",
        "https://xinstagram.com/name", "https://instagram.com.:80.evil.example/name",
        "https://ınstagram.com/name",
        "https://instagram。com/name", "https://help.instagram.com/name",
        "https://instagram.com@evil.example/name",
        "https://evil.example\\@instagram.com/name", "https://user@instagram.com/name",
        "https://user:pw@instagram.com/name",
        "https://@instagram.com/name", "https://evil.example/instagram.com/name",
        "https://evil.example#instagram.com/name",
        "//instagram.com/name", "javascript://instagram.com/name", "ftp://instagram.com/name",
        "file:///instagram.com/name",
        "/name", "name/", "https:///name", "https://[instagram.com/name", "https://[::1]/name",
    ],
)  # fmt: skip
def test_a_url_of_another_host_or_with_a_user_in_it_is_refused(text: str) -> None:
    with pytest.raises(ValidationFailed):
        parse_username(text)


@pytest.mark.parametrize(
    "path",
    ["", "/", "/stories", "/stories/", "/p/Cabc123/", "/name/reels/", "/name/name2", "/na%6De",
     "/name%2Fother", "/..%2f..", "/na me", "/@@name"],
)  # fmt: skip
def test_a_url_of_something_else_than_a_profile_is_refused(path: str) -> None:
    with pytest.raises(ValidationFailed):
        parse_username(
            f"https://www.instagram.com{path}/" if not path else f"https://www.instagram.com{path}"
        )


@pytest.mark.parametrize(
    "path",
    ["/stories/highlights/17983616051768088/", "/stories/highlights/17983616051768088",
     "/stories/highlights/", "/stories/highlights/17983616051768088/?igsh=abc",
     "/Stories/Highlights/17983616051768088/"],
)  # fmt: skip
def test_a_url_of_a_highlight_is_refused_and_the_way_to_it_told(path: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        parse_username(f"https://www.instagram.com{path}")
    [sentence] = (caught.value.details or {})["username"]
    assert "POST /api/instagram/highlight" in sentence
    assert "highlightId" in sentence


def test_a_share_link_is_refused_and_told_from_a_profile() -> None:
    with pytest.raises(ValidationFailed) as caught:
        parse_username("https://www.instagram.com/s/aGlnaGxpZ2h0OjE3ODkzMjA5ODI1MjgxMjIx?story_media_id=1_2")
    [sentence] = (caught.value.details or {})["username"]
    assert "share link" in sentence


@pytest.mark.parametrize(
    "path",
    ["p", "reel", "reels", "tv", "s", "explore", "stories", "accounts", "direct", "Explore", "@explore",
     "stories/explore", "stories/reels/1234567890123456789"],
)  # fmt: skip
def test_the_sites_own_pages_are_nobodys_profile(path: str) -> None:
    with pytest.raises(ValidationFailed):
        parse_username(f"https://www.instagram.com/{path}/")


@pytest.mark.parametrize("text", ["highlights", "@highlights", "https://www.instagram.com/highlights/"])
def test_an_account_that_is_called_highlights_may_be_asked_for(text: str) -> None:
    assert parse_username(text) == "highlights"
