"""Ids and URLs as people give them, and those that only look right."""

from __future__ import annotations

import base64
from collections.abc import Callable
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import ValidationFailed
from service.domain.links import (
    CDN_HOSTS,
    is_media_url,
    media_pk,
    parse_highlight_id,
    parse_highlight_url,
    parse_media_url,
    parse_story_id,
    parse_story_url,
    parse_user_id,
)

PK = "3741925019028375123"
HIGHLIGHT = "17895485401104052"
SHARED = base64.b64encode(f"highlight:{HIGHLIGHT}".encode()).decode()
PARSERS = (
    parse_user_id,
    parse_story_id,
    parse_highlight_id,
    parse_story_url,
    parse_highlight_url,
    parse_media_url,
)
MEDIA = "https://scontent-fra3-1.cdninstagram.com/v/t66.30100-16/1_n.mp4?efg=e30&oe=69DC5BBB"

pks = st.integers(1, 2**63 - 1).map(str)


def complaint(parse: Callable[[str], str], text: str) -> str:
    """Return the sentence with which ``text`` is refused."""
    with pytest.raises(ValidationFailed) as caught:
        parse(text)
    ((sentence,),) = (caught.value.details or {}).values()
    return sentence


@pytest.mark.parametrize("parse", [parse_user_id, parse_story_id, parse_highlight_id])
@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("787132", "787132"),
        (" 787132\n", "787132"),
        ("007", "7"),
        ("1", "1"),
        (str(2**63 - 1), str(2**63 - 1)),
    ],
)
def test_a_number_is_an_id_without_its_leading_zeros(
    parse: Callable[[str], str], text: str, number: str
) -> None:
    assert parse(text) == number


@pytest.mark.parametrize("parse", [parse_user_id, parse_story_id, parse_highlight_id])
@pytest.mark.parametrize(
    "text",
    ["", " ", "0", "000", "-1", "+1", "1.0", "1e3", "nasa", "1 2", "1_", "_1", "1_2_3", "1_a", "highlight:",
     "highlight:a", str(2**63), "1" * 20, "1" * 5000, "٣", "１２", "²", "0x10"],
)  # fmt: skip
def test_what_is_no_64_bit_number_is_no_id(parse: Callable[[str], str], text: str) -> None:
    assert "numeric id" in complaint(parse, text)


def test_a_story_id_may_name_its_owner() -> None:
    assert parse_story_id(f"{PK}_787132") == PK
    with pytest.raises(ValidationFailed):
        parse_user_id(f"{PK}_787132")


def test_a_highlight_id_may_say_what_it_is() -> None:
    assert parse_highlight_id(f"highlight:{HIGHLIGHT}") == HIGHLIGHT


@pytest.mark.parametrize(
    "url",
    [
        f"https://www.instagram.com/stories/nasa/{PK}/", f"https://www.instagram.com/stories/nasa/{PK}",
        f"http://instagram.com/stories/nasa/{PK}/", f"m.instagram.com/stories/nasa/{PK}",
        f"www.instagram.com/stories/nasa/{PK}/", f"HTTPS://WWW.INSTAGRAM.COM/stories/nasa/{PK}/",
        f"https://www.instagram.com/stories/nasa/{PK}/?igsh=abc%3D%3D&utm_source=ig_story_item_share#top",
        f"https://www.instagram.com:443/stories/nasa/{PK}/", f" https://www.instagram.com/stories/nasa/{PK}/\n",
        f"https://www.instagram.com//stories/nasa/{PK}//",
        f"https://www.instagram.com/stories/nasa/{PK}_787132/",
        f"https://www.instagram.com/s/{SHARED}?story_media_id={PK}_787132&igsh=NzByc",
        f"https://www.instagram.com/s/{SHARED}?igsh=NzByc&story_media_id={PK}",
        f"https://www.instagram.com/s/{SHARED}/?story_media_id={PK}_787132",
    ],
)  # fmt: skip
def test_a_url_of_a_story_names_its_pk(url: str) -> None:
    assert parse_story_url(url) == PK


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("https://www.instagram.com/stories/nasa/", "ask for the stories of the account by its username"),
        ("https://www.instagram.com/stories/nasa", "none of its stories"),
        ("https://www.instagram.com/stories/", "none of its stories"),
        (f"https://www.instagram.com/stories/highlights/{HIGHLIGHT}/", "ask for the highlight instead"),
        (f"https://www.instagram.com/s/{SHARED}", "ask for the highlight instead"),
        ("https://www.instagram.com/s/AAAA", "story_media_id is missing"),
        ("https://www.instagram.com/s/AAAA?story_media_id=nasa", "no id of a story"),
        ("https://www.instagram.com/stories/nasa/12ab/", "no id of a story"),
        (f"https://www.instagram.com/stories/nasa/{PK}/more/", "none of its stories"),
        ("https://www.instagram.com/nasa/", "Give the URL of a story"),
        ("https://www.instagram.com/p/DRZBsWEDz8A/", "Give the URL of a story"),
        ("https://www.instagram.com/", "Give the URL of a story"),
        (PK, "Only URLs of instagram.com"),
    ],
)
def test_a_url_of_something_else_is_refused_with_what_to_use_instead(url: str, hint: str) -> None:
    assert hint in complaint(parse_story_url, url)


@pytest.mark.parametrize(
    "url",
    [
        f"https://www.instagram.com/stories/highlights/{HIGHLIGHT}/",
        f"instagram.com/stories/highlights/{HIGHLIGHT}", f"https://www.instagram.com/s/{SHARED}",
        f"https://www.instagram.com/s/{SHARED.rstrip('=')}", f"https://www.instagram.com/s/{quote(SHARED)}",
        f"https://www.instagram.com/s/{SHARED}?story_media_id={PK}_787132&igsh=NzByc",
        f"https://m.instagram.com/stories/highlights/{HIGHLIGHT}?hl=en#top",
    ],
)  # fmt: skip
def test_a_url_of_a_highlight_names_its_number(url: str) -> None:
    assert parse_highlight_url(url) == HIGHLIGHT


@given(pks)
def test_every_share_link_is_read_with_and_without_its_padding(number: str) -> None:
    shared = base64.urlsafe_b64encode(f"highlight:{number}".encode()).decode()
    assert parse_highlight_url(f"https://www.instagram.com/s/{shared}") == number
    assert parse_highlight_url(f"https://www.instagram.com/s/{shared.rstrip('=')}") == number


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        (f"https://www.instagram.com/stories/nasa/{PK}/", "ask for the story instead"),
        ("https://www.instagram.com/stories/highlights/", "Give the URL of a highlight"),
        ("https://www.instagram.com/stories/highlights/abc/", "Give the URL of a highlight"),
        ("https://www.instagram.com/s/!!!!", "Give the URL of a highlight"),
        ("https://www.instagram.com/s/AAAA", "Give the URL of a highlight"),
        (
            f"https://www.instagram.com/s/{base64.b64encode(b'user:1').decode()}",
            "Give the URL of a highlight",
        ),
        (f"https://www.instagram.com/s/{base64.b64encode(b'highlight:x').decode()}", "Give the URL"),
        ("https://www.instagram.com/nasa/", "Give the URL of a highlight"),
    ],
)
def test_a_url_of_no_highlight_is_refused_with_what_to_use_instead(url: str, hint: str) -> None:
    assert hint in complaint(parse_highlight_url, url)


@pytest.mark.parametrize(
    "origin",
    [
        "https://instagram.com.evil.example", "https://evilinstagram.com", "https://evil-instagram.com",
        "https://instagram.co", "https://help.instagram.com", "https://instagram.com@evil.example",
        "https://evil@instagram.com", "https://user:pw@instagram.com", "https://@instagram.com",
        "https://evil.example/instagram.com", "https://evil.example#instagram.com",
        "https://evil.example\\@instagram.com", "https://instagram.com\\.evil.example", "https://ınstagram.com",
        "https://instagram。com", "https://instagram．com", "https://instagram.com.", "https://instagram.com:22",
        "https://instagram.com:port", "https://[instagram.com", "https://[::1]", "ftp://instagram.com",
        "javascript://instagram.com", "file://instagram.com", "//instagram.com", "https:instagram.com",
        "https://insta\tgram.com", "https://instagram.com\n.evil.example", "https://insta gram.com", "https://",
        "\x00https://instagram.com", "http://" + "a" * 2000 + ".instagram.com",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("parse", "path"),
    [(parse_story_url, f"/stories/nasa/{PK}/"), (parse_highlight_url, f"/stories/highlights/{HIGHLIGHT}/")],
)
def test_a_host_that_only_looks_like_instagram_is_refused(
    parse: Callable[[str], str], path: str, origin: str
) -> None:
    assert "URL" in complaint(parse, origin + path)


def test_an_over_long_url_is_refused_and_the_limit_named() -> None:
    url = f"https://www.instagram.com/stories/nasa/{PK}/?x="
    assert parse_story_url(url.ljust(2000, "a")) == PK
    assert "2000" in complaint(parse_story_url, url.ljust(2001, "a"))


@pytest.mark.parametrize(
    "url",
    [
        MEDIA, "https://cdninstagram.com/a.jpg", "https://instagram.ftia13-1.fna.fbcdn.net/v/1_n.jpg?oh=1#t",
        "https://scontent.cdninstagram.com:443/a.jpg", "HTTPS://SCONTENT.CDNINSTAGRAM.COM/a.jpg",
        "https://fbcdn.net/a".ljust(4096, "a"),
    ],
)  # fmt: skip
def test_a_file_of_the_cdn_is_taken_as_it_came(url: str) -> None:
    assert parse_media_url(url) == url
    assert is_media_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "", "scontent.cdninstagram.com/a.jpg", "//scontent.cdninstagram.com/a.jpg",
        "http://scontent.cdninstagram.com/a.jpg", "ftp://scontent.cdninstagram.com/a.jpg",
        "data:text/plain,x",
        "https://cdninstagram.com.evil.example/a.jpg", "https://evilcdninstagram.com/a.jpg",
        "https://evil.example/cdninstagram.com/a.jpg", "https://evil.example#.cdninstagram.com/a.jpg",
        "https://evil.example?.cdninstagram.com/a.jpg", "https://cdninstagram.com@evil.example/a.jpg",
        "https://a@cdninstagram.com/a.jpg", "https://a:b@cdninstagram.com/a.jpg", "https://@cdninstagram.com/a.jpg",
        "https://evil.example\\.cdninstagram.com/a.jpg", "https://evil.example\\@cdninstagram.com/a.jpg",
        "https://cdninstagram.com./a.jpg", "https://.cdninstagram.com/a.jpg", "https://a..cdninstagram.com/a.jpg",
        "https://-.cdninstagram.com/a.jpg", "https://a_b.cdninstagram.com/a.jpg", "https://%61.cdninstagram.com/a.jpg",
        "https://cdninstagram.com:8443/a.jpg", "https://cdninstagram.com:80/a.jpg", "https://cdninstagram.com:/a.jpg",
        "https://cdninstagram.com:port/a.jpg", "https://cdninstagram。com/a.jpg", "https://ｃdninstagram.com/a.jpg",
        "https://cdnınstagram.com/a.jpg", "https://scontent.cdninstagram.com/ä.jpg", "https://127.0.0.1/a.jpg",
        "https://[::1]/a.jpg", "https://[cdninstagram.com/a.jpg", "https://scontent.cdninstagram.com",
        "https://scontent.cdninstagram.com/", "https://scontent.cdninstagram.com/?a=b", "https:///a.jpg",
        " https://cdninstagram.com/a.jpg", "https://cdninstagram.com/a.jpg\n",
        "https://cdninstagram.com/a b.jpg",
        "https://cdninstagram.com/\ta.jpg", "https://cdninstagram.com/a.jpg\x00", "https://cdn\tinstagram.com/a.jpg",
        "https://fbcdn.net/a".ljust(4097, "a"), "https://localhost/a.jpg", "https://net/a.jpg",
    ],
)  # fmt: skip
def test_what_is_no_file_of_the_cdn_is_refused(url: str) -> None:
    assert complaint(parse_media_url, url)
    assert not is_media_url(url)


def test_other_hosts_may_be_allowed_instead() -> None:
    assert is_media_url("https://media.example.org/a.jpg", ["example.org"])
    assert not is_media_url(MEDIA, ["example.org"])
    assert not is_media_url(MEDIA, [])


@given(pks, st.sampled_from([".3", ".3-ccb7-5", ".2-ccb7-5", ""]), st.booleans())
def test_a_cdn_url_may_tell_the_pk_of_its_story(pk: str, version: str, encoded: bool) -> None:
    key = base64.b64encode(pk.encode()).decode() + version
    url = f"https://a.fbcdn.net/1_n.jpg?stp=x&ig_cache_key={quote(key, safe='') if encoded else key}&oe=6AA"
    assert media_pk(url) == pk


@pytest.mark.parametrize(
    "url",
    [
        MEDIA, "https://a.fbcdn.net/1_n.jpg?ig_cache_key=", "https://a.fbcdn.net/1_n.jpg?ig_cache_key=.3",
        "https://a.fbcdn.net/1_n.jpg?ig_cache_key=YW5vbnltb3VzX3Byb2ZpbGVfcGlj.2-ccb7-5",
        "https://a.fbcdn.net/1_n.jpg?ig_cache_key=GMtnWycgJADV_og-ALziGDNYzSpfbmNDAQAB1501500j-ccb7-5",
        "https://a.fbcdn.net/1_n.jpg?ig_cache_key=////.3", "https://[a/?ig_cache_key=MQ==.3", "",
    ],
)  # fmt: skip
def test_most_cdn_urls_tell_no_pk(url: str) -> None:
    assert media_pk(url) is None


@pytest.mark.parametrize(
    ("parse", "field"),
    [(parse_user_id, "userId"), (parse_story_id, "storyId"), (parse_highlight_id, "highlightId"),
     (parse_story_url, "url"), (parse_highlight_url, "url"), (parse_media_url, "url")],
)  # fmt: skip
def test_the_field_is_named_as_the_caller_knows_it(parse: Callable[..., str], field: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        parse("?")
    assert list(caught.value.details or {}) == [field]
    with pytest.raises(ValidationFailed) as caught:
        parse("?", field="id")
    assert list(caught.value.details or {}) == ["id"]


hosts = st.sampled_from(
    ["instagram.com", "www.instagram.com", "evil.example", "a.cdninstagram.com", "fbcdn.net"]
)
odd = st.sampled_from(
    ["@", ":", "\\", "/", "?", "#", ".", "%2e", "[", "]", "\t", "。", "stories", "s", SHARED, PK]
)
urls = st.builds(
    lambda scheme, parts: scheme + "".join(parts),
    st.sampled_from(["https://", "http://", "", "//", "ftp://"]),
    st.lists(hosts | odd | st.text(max_size=5), max_size=8),
)


@given(st.text() | urls, st.sampled_from(PARSERS))
def test_whatever_comes_in_only_an_id_or_a_refusal_comes_out(text: str, parse: Callable[[str], str]) -> None:
    try:
        found = parse(text)
    except ValidationFailed:
        return
    if parse is parse_media_url:
        assert found == text
    else:
        assert found.isascii()
        assert 0 < int(found) < 2**63
        assert found == str(int(found))


@given(st.text() | urls)
def test_a_media_url_that_is_taken_leads_to_the_cdn(url: str) -> None:
    media_pk(url)
    if is_media_url(url):
        host = urlsplit(url).netloc.removesuffix(":443").lower()
        assert any(host == known or host.endswith("." + known) for known in CDN_HOSTS)
