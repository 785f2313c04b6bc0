"""Ids and URLs that people give: of users, stories and highlights, and of media files on the CDN."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Sequence
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from service.domain.errors import ValidationFailed
from service.domain.hosts import parse_host
from service.domain.shortcodes import media_id

INSTAGRAM_HOSTS = frozenset({"instagram.com", "www.instagram.com", "m.instagram.com"})
CDN_HOSTS = ("cdninstagram.com", "fbcdn.net")
URL_MAX = 2_000
MEDIA_URL_MAX = 4_096

_PORTS = {None, 80, 443}
_PRINTABLE = re.compile(r"[!-\[\]-~]*")  # ASCII without spaces, control characters and the backslash
_HIGHLIGHT = "highlight:"

_NOT_INSTAGRAM = "Only URLs of instagram.com are accepted."
_STORY_EXAMPLE = "https://www.instagram.com/stories/name/1234567890123456789/"
_SHARE_EXAMPLE = "https://www.instagram.com/s/aGlnaGxpZ2h0OjE3ODkzMjA5ODI1MjgxMjIx"
_HIGHLIGHT_EXAMPLE = "https://www.instagram.com/stories/highlights/12345678901234567/"


def parse_user_id(text: str, field: str = "userId") -> str:
    """Return a user's id: digits without leading zeros. Raises ValidationFailed naming ``field``."""
    found = media_id(text.strip())
    if found is None:
        raise _bad(field, "Give the numeric id of an Instagram user: 1 to 19 digits, such as 787132.")
    return found


def parse_story_id(text: str, field: str = "storyId") -> str:
    """Return a story's pk; ``pk_ownerid`` is taken too. Raises ValidationFailed naming ``field``."""
    pk, underscore, owner = text.strip().partition("_")
    found = media_id(pk)
    if found is None or (underscore and media_id(owner) is None):
        raise _bad(
            field,
            "Give the numeric id of a story: 1 to 19 digits, alone or followed by _ and the id of its owner.",
        )
    return found


def parse_highlight_id(text: str, field: str = "highlightId") -> str:
    """Return a highlight's number; ``highlight:number`` is taken too. Raises ValidationFailed naming
    ``field``."""
    found = media_id(text.strip().removeprefix(_HIGHLIGHT))
    if found is None:
        raise _bad(field, "Give the numeric id of a highlight: 1 to 19 digits, alone or after 'highlight:'.")
    return found


def parse_story_url(url: str, field: str = "url") -> str:
    """Return the pk of the story that a story page's URL or a share link names.

    Raises ValidationFailed naming ``field`` for all else, and says what to use instead.
    """
    parts = _instagram(url, field)
    match _segments(parts):
        case ["stories", "highlights", *_]:
            raise _bad(field, "This is the URL of a highlight: ask for the highlight instead.")
        case ["stories", _, pk]:
            return _story_in(pk, field)
        case ["stories", *_]:
            raise _bad(
                field,
                "This URL names an account but none of its stories. Open the story and copy its URL, such as "
                f"{_STORY_EXAMPLE}, or ask for the stories of the account by its username.",
            )
        case ["s", shared]:
            return _shared_story(parts, shared, field)
    raise _bad(field, f"Give the URL of a story, such as {_STORY_EXAMPLE}.")


def parse_highlight_url(url: str, field: str = "url") -> str:
    """Return the number of the highlight that a highlight page's URL or a share link names.

    Raises ValidationFailed naming ``field`` for all else, and says what to use instead.
    """
    parts = _instagram(url, field)
    match _segments(parts):
        case ["stories", "highlights", number]:
            found = media_id(number)
        case ["s", shared]:
            found = _shared_highlight(shared)
        case ["stories", _, _]:
            raise _bad(field, "This is the URL of a story: ask for the story instead.")
        case _:
            found = None
    if found is None:
        raise _bad(field, f"Give the URL of a highlight, such as {_HIGHLIGHT_EXAMPLE}.")
    return found


def parse_share_url(url: str, field: str = "url") -> str:
    """Return the number of the highlight that a share link (``/s/...``) names. Raises ValidationFailed."""
    match _segments(_instagram(url, field)):
        case ["s", shared]:
            return parse_share_code(shared, field)
    raise _bad(field, f"Give a share link, such as {_SHARE_EXAMPLE}.")


def parse_share_code(code: str, field: str = "code") -> str:
    """Return the number of the highlight that the code of a share link names. Raises ValidationFailed."""
    found = _shared_highlight(code)
    if found is None:
        raise _bad(field, "This is not the code of a share link: base64 of 'highlight:' and its number.")
    return found


def is_media_url(url: str, hosts: Sequence[str] = CDN_HOSTS) -> bool:
    """Tell whether ``url`` is an https URL of a file on one of ``hosts`` or below one of them."""
    return _media_complaint(url, hosts) is None


def parse_media_url(url: str, hosts: Sequence[str] = CDN_HOSTS, field: str = "url") -> str:
    """Return the URL of a media file as it came. Raises ValidationFailed naming ``field``."""
    complaint = _media_complaint(url, hosts)
    if complaint:
        raise _bad(field, complaint)
    return url


def media_pk(url: str) -> str | None:
    """Return the pk of the story that a CDN URL names in its ``ig_cache_key``; None when it names none."""
    try:
        keys = parse_qs(urlsplit(url).query).get("ig_cache_key", [])
    except ValueError:
        return None
    return media_id(_decoded(keys[0].partition(".")[0]) or "") if keys else None


def split_url(text: str) -> SplitResult:
    """Return the parts of a URL, with https:// where no scheme is given.

    Raises ValueError for what is no URL, is over-long, or holds characters that no URL holds.
    """
    if len(text) > URL_MAX or not _PRINTABLE.fullmatch(text):
        raise ValueError
    parts = urlsplit(text if "://" in text else f"https://{text}")
    if parts.port not in _PORTS:  # an impossible port raises by itself
        raise ValueError
    return parts


def is_instagram(parts: SplitResult) -> bool:
    """Tell whether a URL is one of Instagram's website, with no user name in it that hides another host."""
    return parts.scheme in {"http", "https"} and parts.hostname in INSTAGRAM_HOSTS and "@" not in parts.netloc


def _instagram(text: str, field: str) -> SplitResult:
    try:
        parts = split_url(text.strip())
    except ValueError:
        sentence = f"This is no URL: give at most {URL_MAX} characters, encoded, without spaces."
        raise _bad(field, sentence) from None
    if not is_instagram(parts):
        raise _bad(field, _NOT_INSTAGRAM)
    return parts


def _segments(parts: SplitResult) -> list[str]:
    return [segment for segment in parts.path.split("/") if segment]


def _story_in(text: str, field: str) -> str:
    try:
        return parse_story_id(text, field)
    except ValidationFailed:
        raise _bad(field, f"This URL holds no id of a story. It ends like {_STORY_EXAMPLE}.") from None


def _shared_story(parts: SplitResult, shared: str, field: str) -> str:
    told = parse_qs(parts.query).get("story_media_id", [])
    if told:
        return _story_in(told[0], field)
    if _shared_highlight(shared):
        raise _bad(field, "This link shares a whole highlight: ask for the highlight instead.")
    raise _bad(field, "This share link names no story: its story_media_id is missing. Copy the link anew.")


def _shared_highlight(shared: str) -> str | None:
    text = _decoded(unquote(shared))
    return media_id(text.removeprefix(_HIGHLIGHT)) if text and text.startswith(_HIGHLIGHT) else None


def _decoded(text: str) -> str | None:
    """Return the text inside base64 of either alphabet, its padding complete or not."""
    digits = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return b64decode(digits + "=" * (-len(digits) % 4), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return None


def _media_complaint(url: str, hosts: Sequence[str]) -> str | None:
    if len(url) > MEDIA_URL_MAX:
        return f"The URL of a media file has at most {MEDIA_URL_MAX} characters."
    if not _PRINTABLE.fullmatch(url):
        return "Give the URL encoded: no spaces, control characters, backslashes or letters beyond ASCII."
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return "This is no valid URL."
    if parts.scheme != "https":
        return "Give an absolute https:// URL."
    if not parts.path.strip("/"):
        return "The URL names no file."
    return _host_complaint(host, parts.netloc.lower(), hosts)


def _host_complaint(host: str, netloc: str, hosts: Sequence[str]) -> str | None:
    # The host and nothing else: no user name, no other port.
    if not _is_plain(host) or netloc not in {host, f"{host}:443"}:
        return "The URL may hold no user name and no port, only a plain host name."
    if not any(host == known or host.endswith(f".{known}") for known in hosts):
        return f"Only files on {' and '.join(hosts)} are fetched."
    return None


def _is_plain(host: str) -> bool:
    """Tell whether this is a name in its one form; its length is looked at first."""
    try:
        return parse_host(host) == host and "_" not in host
    except ValueError:
        return False


def _bad(field: str, sentence: str) -> ValidationFailed:
    return ValidationFailed(details={field: [sentence]})
