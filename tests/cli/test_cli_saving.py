"""Stories as files: from where, under which name, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from service.cli import saving
from service.cli.client import Answer
from service.cli.dev_cert import dev_cert
from service.cli.media_sources import MediaError, StoryFile, archived_at, best, check_media_url
from service.cli.saving import Saved, Saver, stem
from service.cli.servers import Server
from service.domain.errors import ConfigurationError
from tests.cli.support import CDN, KEY, NoSleep, found, photo, video

JPEG = b"\xff\xd8\xff" + b"x" * 200_000
PHOTO_NAME = "20261121T010011Z_{}.jpg"


@pytest.mark.parametrize(
    "url",
    [
        "https://scontent-fra5-1.cdninstagram.com/v/a.jpg?oe=1&x=%20",
        "https://scontent.xx.fbcdn.net/a.mp4",
        "https://SCONTENT.CDNINSTAGRAM.COM/a.jpg",
        "https://scontent.cdninstagram.com:443/a.jpg",
        "https://cdninstagram.com/a.jpg",
    ],
)
def test_addresses_of_the_cdn(url: str) -> None:
    assert check_media_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://scontent.cdninstagram.com/a.jpg",
        "ftp://scontent.cdninstagram.com/a.jpg",
        "https://evilcdninstagram.com/a.jpg",
        "https://scontent-cdninstagram.com/a.jpg",
        "https://scontent.cdninstagram.com.evil.example/a.jpg",
        "https://scontent.cdninstagram.com./a.jpg",
        "https://evil.example/cdninstagram.com/a.jpg",
        "https://evil.example?.cdninstagram.com/a.jpg",
        "https://evil.example#.cdninstagram.com",
        "https://evil.example\\.cdninstagram.com/a.jpg",
        "https://evil.example\\@scontent.cdninstagram.com/a.jpg",
        "https://user@scontent.cdninstagram.com/a.jpg",
        "https://user:secret@scontent.cdninstagram.com/a.jpg",
        "https://scontent.cdninstagram.com@evil.example/a.jpg",
        "https://scontent.cdninstagram.com:8443/a.jpg",
        "https://scontent.cdninstagram.com:80/a.jpg",
        "https://scontent.cdninstagram.com:/a.jpg",
        "https://scontent.cdninstagram.com:٤٤٣/a.jpg",
        "https://scontent。cdninstagram.com/a.jpg",
        "https://scontent.cdn\tinstagram.com/a.jpg",
        " https://scontent.cdninstagram.com/a.jpg",
        "https://127.0.0.1/a.jpg",
        "http://127.0.0.1:3223/a.jpg",
        "https://[::1]/a.jpg",
        "https://[scontent.cdninstagram.com/a.jpg",
        "//scontent.cdninstagram.com/a.jpg",
        "file:///etc/passwd",
        "",
        None,
        5,
    ],
)
def test_what_only_looks_like_the_cdn(url: object) -> None:
    with pytest.raises(MediaError, match=r"no address of Instagram's CDN"):
        check_media_url(url)


def test_the_largest_image_is_the_best() -> None:
    item = photo(1, (480, 853), (1080, 1920), (1200, 1200))
    assert best(item) == StoryFile(f"{CDN}/i/1_1080x1920.jpg?oe=1", "image")


def test_a_video_is_taken_before_its_cover() -> None:
    assert best(video(1, (480, 853), (720, 1280))) == StoryFile(f"{CDN}/v/1_720x1280.mp4", "video")


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"image_versions2": None},
        {"image_versions2": {"candidates": []}},
        {"image_versions2": {"candidates": [{}]}},
        {"image_versions2": [], "video_versions": 5},
    ],
)
def test_an_item_without_media_is_told(item: dict[str, Any]) -> None:
    with pytest.raises(MediaError):
        best(item)


def test_a_file_is_named_by_time_and_pk() -> None:
    assert stem({"pk": "38", "taken_at": 0}) == "19700101T000000Z_38"


@pytest.mark.parametrize(
    "item",
    [
        {"pk": "../../x", "taken_at": 0},
        {"pk": "", "taken_at": 0},
        {"taken_at": 0},
        {"pk": "1"},
        {"pk": "1", "taken_at": "0"},
        {"pk": "1", "taken_at": 10**20},
    ],
)
def test_an_item_that_gives_no_name_is_told(item: dict[str, Any]) -> None:
    with pytest.raises(MediaError):
        stem(item)


# --- saving, from a server in the CDN's place ------------------------------------------------------


class Cdn:
    """Answers at the addresses of `photo` and `video`."""

    def __init__(self, server: HTTPServer) -> None:
        self.server = server
        self.url = server.url_for("").rstrip("/")

    def will(self, path: str, *answers: Response) -> None:
        left = list(answers)
        self.server.expect_request(path).respond_with_handler(
            lambda _: left.pop(0) if len(left) > 1 else left[0]
        )

    @property
    def asked(self) -> list[Request]:
        return [request for request, _ in self.server.log]


@pytest.fixture
def cdn(httpserver: HTTPServer) -> Cdn:
    cdn = Cdn(httpserver)
    cdn.will("/i/1_1080x1920.jpg", jpeg())
    cdn.will("/v/2_720x1280.mp4", Response(JPEG, content_type="video/mp4"))
    return cdn


def jpeg(body: bytes = JPEG) -> Response:
    return Response(body, content_type="image/jpeg")


def cut_short(body: bytes) -> Response:
    # As a list, or werkzeug sets the length right.
    return Response([body], content_type="image/jpeg", headers={"Content-Length": str(len(JPEG))})


@pytest.fixture
def stop() -> NoSleep:
    return NoSleep()


@pytest.fixture
def saver(tmp_path: Path, cdn: Cdn, stop: NoSleep) -> Saver:
    return Saver(tmp_path / "out", Server(f"{cdn.url}/prefix", KEY, simulated=cdn.url), stop=stop)


PHOTO = photo(1, (1080, 1920))
VIDEO = video(2, (720, 1280))


def reel(*items: dict[str, Any], **changes: Any) -> Answer:
    envelope = found("nasa", *items, **changes)
    return Answer(json.dumps(envelope).encode(), envelope)


def saved_in(tmp_path: Path) -> list[str]:
    return sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))


def test_stories_and_envelope_are_saved(saver: Saver, cdn: Cdn, tmp_path: Path) -> None:
    answer = reel(PHOTO, VIDEO)
    saved = saver.save("nasa", answer)
    names = [PHOTO_NAME.format(1), "20261121T010011Z_2.mp4"]
    assert saved == Saved([tmp_path / "out/nasa" / name for name in names], [])
    assert [path.read_bytes() for path in saved.files] == [JPEG, JPEG]
    assert (tmp_path / "out/nasa/req_nasa.json").read_bytes() == answer.body
    assert saved_in(tmp_path) == sorted(f"nasa/{name}" for name in [*names, "req_nasa.json"])
    # The CDN's own name is asked for, and nobody's key goes there.
    assert cdn.asked[0].headers["Host"] == CDN.removeprefix("https://")
    assert "Authorization" not in cdn.asked[0].headers


def test_what_is_there_is_not_fetched_again(saver: Saver, cdn: Cdn) -> None:
    saver.save("nasa", reel(PHOTO))
    again = saver.save("nasa", reel({**PHOTO, "taken_at": 5}, VIDEO))
    assert [path.suffix for path in again.files] == [".mp4"]
    assert len(cdn.asked) == 2


@pytest.mark.parametrize(
    ("item", "content_type", "ending"),
    [
        (PHOTO, "image/webp", "webp"),
        (PHOTO, "image/heic", "heic"),
        (PHOTO, "IMAGE/PNG; x=y", "png"),
        (PHOTO, "image/jpg", "jpg"),
        (PHOTO, "image/avif", "bin"),
        (VIDEO, "video/mp4; codecs=avc1", "mp4"),
        (VIDEO, "video/webm", "bin"),
    ],
)
def test_a_file_of_the_cdn_is_named_by_what_it_is(
    saver: Saver, cdn: Cdn, item: dict[str, Any], content_type: str, ending: str
) -> None:
    cdn.server.clear()
    cdn.will("/i/1_1080x1920.jpg", Response(JPEG, content_type=content_type))
    cdn.will("/v/2_720x1280.mp4", Response(JPEG, content_type=content_type))
    [path] = saver.save("nasa", reel(item)).files
    assert path.name == f"20261121T010011Z_{item['pk']}.{ending}"
    assert path.read_bytes() == JPEG
    assert saver.save("nasa", reel(item)) == Saved(), "it is there already, whatever it is called"
    assert len(cdn.asked) == 1


def test_a_photo_in_a_videos_place_is_not_saved(saver: Saver, cdn: Cdn) -> None:
    cdn.will("/v/9_1x1.mp4", jpeg())
    assert saver.save("nasa", reel(video(9, (1, 1)))) == Saved(
        [], ["story 9 not saved: the CDN sent 'image/jpeg' in place of the video"]
    )


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([Response("gone", 404)], "the CDN answered 404"),
        ([Response("URL signature expired", 403, content_type="text/plain")], "the CDN answered 403"),
        ([Response("<html>", content_type="text/html")], "the CDN sent 'text/html'"),
        ([Response(JPEG, 206, content_type="image/jpeg")], "the CDN answered 206"),
        ([jpeg(b"")], "the CDN sent nothing"),
        ([Response(status=302, headers={"Location": "http://127.0.0.1:1/x"})], "no address of Instagram's"),
        ([Response(status=302, headers={"Location": "https://evil.example/x"})], "no address of Instagram's"),
        ([Response(status=302, headers={"Location": "/i/1_1080x1920.jpg"})], "in circles"),
    ],
)
def test_what_is_not_saved_is_told_and_the_rest_saved(
    saver: Saver, cdn: Cdn, tmp_path: Path, answers: list[Response], told: str
) -> None:
    cdn.server.clear()
    cdn.will("/i/1_1080x1920.jpg", *answers)
    cdn.will("/v/2_720x1280.mp4", Response(JPEG, content_type="video/mp4"))
    saved = saver.save("nasa", reel(PHOTO, VIDEO, {"pk": "3"}, photo(4, (1, 1), host="https://evil.example")))
    assert [path.suffix for path in saved.files] == [".mp4"]
    assert len(saved.failures) == 3
    assert told in saved.failures[0]
    assert saved.failures[0].startswith("story 1 not saved: ")
    assert saved_in(tmp_path) == ["nasa/20261121T010011Z_2.mp4", "nasa/req_nasa.json"]


def test_a_redirect_within_the_cdn_is_followed(saver: Saver, cdn: Cdn) -> None:
    moved = Response(status=302, headers={"Location": "https://scontent.fbcdn.net/moved.jpg"})
    cdn.will("/i/5_1x1.jpg", moved)
    cdn.will("/moved.jpg", jpeg())
    assert len(saver.save("nasa", reel(photo(5, (1, 1)))).files) == 1
    assert cdn.asked[-1].headers["Host"] == "scontent.fbcdn.net"


def test_what_passes_is_tried_again(saver: Saver, cdn: Cdn, stop: NoSleep, tmp_path: Path) -> None:
    cut = cut_short(JPEG[:100_000])
    cdn.will("/i/6_1x1.jpg", Response("busy", 503), cut, jpeg())
    [path] = saver.save("nasa", reel(photo(6, (1, 1)))).files
    assert path.read_bytes() == JPEG
    assert len(stop.waits) == 2


def test_a_body_that_is_always_cut_short_leaves_nothing(saver: Saver, cdn: Cdn, tmp_path: Path) -> None:
    cdn.will("/i/7_1x1.jpg", cut_short(b"x"))
    saved = saver.save("nasa", reel(photo(7, (1, 1))))
    assert (saved.files, len(saved.failures)) == ([], 1)
    assert saved_in(tmp_path) == ["nasa/req_nasa.json"]


def test_a_body_without_end_is_given_up(
    saver: Saver, cdn: Cdn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(saving, "MEDIA_MAX", 100_000)
    saved = saver.save("nasa", reel(PHOTO))
    assert "given up after" in saved.failures[0]
    assert saved_in(tmp_path) == ["nasa/req_nasa.json"]


@pytest.mark.parametrize(("name", "request_id"), [("..", "req_1"), (".", "req_1"), ("nasa", "../../x")])
def test_nothing_gets_out_of_the_folder(saver: Saver, tmp_path: Path, name: str, request_id: str) -> None:
    saved = saver.save(name, reel(requestId=request_id))
    assert saved.failures
    assert saved_in(tmp_path) == []
    assert not list(tmp_path.rglob("*.json"))


def test_what_a_killed_run_left_is_removed_in_time(saver: Saver, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "nasa"
    folder.mkdir()
    old, young = folder / f".old.jpg.{'a' * 32}.part", folder / f".young.jpg.{'b' * 32}.part"
    for part in (old, young):
        part.write_bytes(b"half")
    os.utime(old, (time.time() - 7_200,) * 2)
    saver.save("nasa", reel())
    assert (old.exists(), young.exists()) == (False, True)


def test_a_file_in_the_folders_place_is_told(saver: Saver, tmp_path: Path) -> None:
    (tmp_path / "out" / "nasa").write_text("mine")
    assert "not saved: " in saver.save("nasa", reel(PHOTO)).failures[0]


def test_a_folder_that_cannot_be_is_refused_before_anything_is_asked(tmp_path: Path, stop: NoSleep) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"--save .*file"):
        Saver(tmp_path / "file" / "out", Server(), stop=stop)


def test_abandoning_removes_what_is_half_written(saver: Saver, tmp_path: Path) -> None:
    def write() -> None:
        with saver.parts.written(tmp_path / "out" / "x.jpg") as file:
            file.write(b"half")
            assert len(list((tmp_path / "out").iterdir())) == 1
            saver.parts.abandon()
            assert list((tmp_path / "out").iterdir()) == []

    with pytest.raises(FileNotFoundError):  # where the process would end, the name is not given
        write()
    assert list((tmp_path / "out").iterdir()) == []


# --- from the archive ------------------------------------------------------------------------------

HEIC = b"kept" * 30_000
QUERY = "expires=1795827611&signature=abc-_"


def archived(item: dict[str, Any], body: bytes = HEIC, content_type: str = "image/heic") -> dict[str, Any]:
    """Return an item of media that a server of another name keeps."""
    digest, ending = hashlib.sha256(body).hexdigest(), content_type.partition("/")[2]
    url = f"https://stories.example/archive/{digest}.{'jpg' if ending == 'jpeg' else ending}?{QUERY}"
    kept = {"sha256": digest, "contentType": content_type, "size": len(body)}
    return {**item, "archiveUrl": url, "archive": kept}


def archive_path(item: dict[str, Any]) -> str:
    return f"/prefix{archived_at(item['archiveUrl'])}".partition("?")[0]


KEPT = archived(PHOTO)


def kept(body: bytes = HEIC) -> Response:
    return Response(body, content_type="image/heic")


def paths(cdn: Cdn) -> list[str]:
    return [request.path for request in cdn.asked]


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://a.example/archive/{}.jpg?x=1&y=2#z", "/archive/{}.jpg?x=1&y=2"),
        ("https://a.example/some/archive/archive/{}.mp4?", "/archive/{}.mp4?"),
        ("/archive/{}.webp?x=1", "/archive/{}.webp?x=1"),
        ("https://a.example/archive/{}.html?x=1", None),
        ("https://a.example/archive/../{}.jpg?x=1", None),
        ("https://a.example/archive/{}.jpg/?x=1", None),
        ("https://a.example/{}.jpg?x=1", None),
        ("https://a.example\\archive/{}.jpg", None),
        ("https://a.example/archive/{}.jpg?x=1\r\nHost: b", None),
        ("https://[/archive/{}.jpg", None),
        ("", None),
        (None, None),
        ({"{}": 1}, None),
    ],
)
def test_what_is_an_address_of_the_archive(url: Any, place: str | None) -> None:
    digest = "0f" * 32
    given = url.format(digest) if isinstance(url, str) else url
    assert archived_at(given) == (place and place.format(digest))


@pytest.mark.parametrize(
    ("content_type", "ending"),
    [
        ("image/jpeg", "jpg"),
        ("image/png", "png"),
        ("image/webp", "webp"),
        ("image/heic", "heic"),
        ("video/mp4", "mp4"),
    ],
)
def test_what_is_kept_comes_from_the_configured_server_only(
    saver: Saver, cdn: Cdn, tmp_path: Path, content_type: str, ending: str
) -> None:
    item = archived(PHOTO, content_type=content_type)
    cdn.will(archive_path(item), Response(HEIC, content_type=content_type))
    saved = saver.save("nasa", reel(item))
    assert saved == Saved([tmp_path / f"out/nasa/20261121T010011Z_1.{ending}"], [])
    assert saved.files[0].read_bytes() == HEIC
    [asked] = cdn.asked
    assert (asked.path, asked.query_string.decode()) == (archive_path(item), QUERY)
    assert f"http://{asked.headers['Host']}" == cdn.url
    assert not {"Authorization", "Cookie"} & set(asked.headers.keys())
    assert saver.save("nasa", reel({**PHOTO, "taken_at": 5})) == Saved()
    assert len(cdn.asked) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"archiveError": "too_large"},
        {"archiveUrl": None},
        {"archiveUrl": "https://stories.example/other/x.jpg"},
        {"archive": None},
        {"archive": {**KEPT["archive"], "sha256": "x"}},
        {"archive": {**KEPT["archive"], "contentType": "text/html"}},
    ],
)
def test_what_is_not_kept_comes_from_the_cdn(saver: Saver, cdn: Cdn, changes: dict[str, Any]) -> None:
    cdn.will(archive_path(KEPT), kept())
    [path] = saver.save("nasa", reel({**KEPT, **changes})).files
    assert (path.name, path.read_bytes()) == (PHOTO_NAME.format(1), JPEG)
    assert paths(cdn) == ["/i/1_1080x1920.jpg"]


@pytest.mark.parametrize(
    ("answer", "tries"),
    [
        (Response("expired", 403), 1),
        (Response("gone", 404), 1),
        (Response(status=302, headers={"Location": "/elsewhere"}), 1),
        (Response("<html>", content_type="text/html"), 1),
        (Response("busy", 503), saving.TRIES),
    ],
)
def test_a_link_that_fails_leads_to_the_cdn(saver: Saver, cdn: Cdn, answer: Response, tries: int) -> None:
    cdn.will(archive_path(KEPT), answer)
    saved = saver.save("nasa", reel(KEPT))
    assert ([path.name for path in saved.files], saved.failures) == ([PHOTO_NAME.format(1)], [])
    assert paths(cdn) == [archive_path(KEPT)] * tries + ["/i/1_1080x1920.jpg"]


def test_what_both_refuse_is_told_of_both(saver: Saver, cdn: Cdn) -> None:
    cdn.server.clear()
    cdn.will(archive_path(KEPT), Response("expired", 403))
    cdn.will("/i/1_1080x1920.jpg", Response("gone", 404))
    assert saver.save("nasa", reel(KEPT)).failures == [
        "story 1 not saved: the archive answered 403; the CDN answered 404"
    ]


def test_other_bytes_than_were_kept_are_asked_for_again(saver: Saver, cdn: Cdn, stop: NoSleep) -> None:
    cdn.will(archive_path(KEPT), kept(HEIC[:-1] + b"x"), kept())
    [path] = saver.save("nasa", reel(KEPT)).files
    assert path.read_bytes() == HEIC
    assert len(stop.waits) == 1


@pytest.mark.parametrize("body", [HEIC + b"x", HEIC[:-1], b""])
def test_other_bytes_than_were_kept_are_never_saved(
    saver: Saver, cdn: Cdn, tmp_path: Path, body: bytes
) -> None:
    cdn.will(archive_path(KEPT), kept(body))
    saved = saver.save("nasa", reel(KEPT, VIDEO))
    assert saved.failures == ["story 1 not saved: the archive sent other bytes than it kept"]
    assert paths(cdn) == [archive_path(KEPT)] * saving.TRIES + ["/v/2_720x1280.mp4"]
    assert saved_in(tmp_path) == ["nasa/20261121T010011Z_2.mp4", "nasa/req_nasa.json"]


def test_an_archived_item_without_a_name_is_told_once(saver: Saver, cdn: Cdn) -> None:
    saved = saver.save("nasa", reel({**KEPT, "taken_at": None}))
    assert saved.failures == ["story 1 not saved: it has no pk or no taken_at"]
    assert cdn.asked == []


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[tuple[HTTPServer, Path]]:
    """A server that speaks https, and the file of its authority."""
    folder = tmp_path / "tls"
    assert CliRunner().invoke(dev_cert, ["--folder", str(folder)]).exit_code == 0
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    with HTTPServer(ssl_context=context) as server:
        yield server, folder / "ca.pem"


@pytest.mark.parametrize("trusted", [True, False])
def test_the_archive_is_trusted_as_the_server_is(
    tls_server: tuple[HTTPServer, Path], cdn: Cdn, stop: NoSleep, tmp_path: Path, trusted: bool
) -> None:
    served, authority = tls_server
    served.expect_request(archive_path(KEPT)).respond_with_response(kept())
    url = served.url_for("/prefix")
    server = Server(url, KEY, simulated=cdn.url, ca_file=str(authority) if trusted else "")
    [path] = Saver(tmp_path / "out", server, stop=stop).save("nasa", reel(KEPT)).files
    assert path.read_bytes() == (HEIC if trusted else JPEG)
