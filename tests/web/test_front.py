"""What the front door hands to the app, and whom it lets in when."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest

from service.domain.admission import HASH, HEAVY, LINK, LOOK, STRANGER, WORK
from service.web import front
from tests.conftest import await_true
from tests.web.support import BODY_MOST, KEY, Answer, Door, call, read_answer, some

MANY = 64


def at_once(count: int, ask: Callable[[int], Answer]) -> list[Answer]:
    """Make so many calls, each in a thread of its own."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(ask, range(count)))


# --- what the app gets ---------------------------------------------------------------------------------


def test_an_environment_is_what_was_sent(door: Door) -> None:
    answer = door.ask(
        "/a%20b/%C3%BC?q=%20", method="POST", body=b"body", Content_Type="text/plain", X_One="1"
    )
    assert (answer.status, answer.body) == (200, b"HTTP/1.1 ok")
    [environ] = door.behind.seen
    assert door.behind.bodies == [b"body"]
    assert environ["PATH_INFO"].encode("latin-1").decode() == "/a b/ü"
    assert environ["QUERY_STRING"] == "q=%20"
    assert (environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"]) == ("text/plain", "4")
    assert (environ["HTTP_X_ONE"], environ["REMOTE_ADDR"]) == ("1", "127.0.0.1")


def test_a_header_with_an_underscore_never_passes_for_one_with_a_hyphen(door: Door) -> None:
    with door.connect(b"GET /x HTTP/1.1\r\nHost: x\r\nX_Forwarded_For: 6.6.6.6\r\n\r\n") as line:
        assert read_answer(line).status == 200
    [environ] = door.behind.seen
    assert "HTTP_X_FORWARDED_FOR" not in environ


def test_a_chunked_body_comes_whole(door: Door) -> None:
    with door.connect(call(method="POST", Transfer_Encoding="chunked")) as line:
        for chunk in (b"3\r\nabc\r\n", b"2\r\nde\r\n", b"0\r\n\r\n"):
            line.sendall(chunk)
        assert read_answer(line).status == 200
    assert door.behind.bodies == [b"abcde"]


def test_of_a_body_that_is_too_large_the_app_gets_one_byte_more_than_is_allowed(door: Door) -> None:
    with door.connect(call(method="POST", body=b"x" * (BODY_MOST * 3))) as line:
        assert read_answer(line).status == 200
    assert [len(body) for body in door.behind.bodies] == [BODY_MOST + 1]
    assert door.idle()


def test_a_body_without_end_is_not_read_to_its_end(door: Door) -> None:
    with door.connect(call(method="POST", Transfer_Encoding="chunked")) as line:
        chunk = b"40000\r\n" + b"x" * 0x40000 + b"\r\n"

        def send() -> None:
            try:
                while True:
                    line.sendall(chunk)
            except OSError:
                pass  # hung up on

        sender = threading.Thread(target=send)
        sender.start()
        await_true(lambda: door.behind.bodies)
        sender.join(60)
        assert not sender.is_alive()
    assert len(door.behind.bodies[0]) == BODY_MOST + 1


def test_a_caller_who_hangs_up_in_the_middle_of_a_body_leaves_nothing(door: Door) -> None:
    door.connect(call(method="POST", body=b"x" * 90_000, Content_Length="99999")).close()
    await_true(door.idle)
    assert door.ask().status == 200
    assert len(door.behind.seen) == 1


def test_many_calls_come_over_one_connection(door: Door) -> None:
    with door.connect() as line:
        for number in range(20):
            line.sendall(call(f"/x?size={number * 10_000 + 2}"))
            assert len(read_answer(line).body) == number * 10_000 + 2


def test_a_call_that_follows_at_once_is_answered_after_the_first(door: Door) -> None:
    with door.connect(call("/x?size=5") + call("/x?size=7") + call("/x?size=9")) as line:
        data = b""
        while not data.endswith(b"\r\n\r\nHTTP/1.1 "):  # the nine bytes of the last one
            data += line.recv(65_536)
    sizes = [part.split(b"\r\n")[0] for part in data.split(b"content-length: ")[1:]]
    assert sizes == [b"5", b"7", b"9"]


# --- who is let in -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "method", "cost"),
    [
        ("/api/requests/req_1?hold", "GET", LOOK),
        ("/api/instagram/stories?hold", "POST", WORK),
        ("/api/credits/ledger?hold", "GET", HEAVY),
        ("/auth/login?hold", "POST", HASH),
        ("/archive/name.jpg?hold", "GET", LINK),
    ],
)
def test_of_64_at_a_time_no_more_run_than_there_are_places(
    door: Door, path: str, method: str, cost: str
) -> None:
    total = door.admission.gates[cost].total
    room = path.partition("?")[0]

    def whom(number: int) -> dict[str, str]:
        named = cost not in (HASH, LINK)
        return {} if named else {"key": "", "X_Test_Address": f"10.0.0.{number}"}

    def let_go() -> None:
        most = total if cost in (HASH, LINK) else max(total // 2, 1)  # many callers, or one
        await_true(lambda: door.behind.running[room] == most)
        door.behind.go_on.set()

    release = threading.Thread(target=let_go)
    release.start()
    answers = at_once(MANY, lambda number: door.ask(path, method=method, **whom(number)))
    release.join()
    assert door.behind.most[room] <= total
    assert {answer.status for answer in answers} <= {200, 429, 503}
    assert any(answer.status == 200 for answer in answers)
    for answer in answers:
        if answer.status != 200:
            assert int(answer.headers["retry-after"]) > 0
            assert cost in answer.json["error"]
    await_true(door.idle)


def test_a_customer_who_takes_all_leaves_room_for_another(door: Door) -> None:
    door.admission.callers.remember("another", "acc_other")
    room = "/api/requests/req_1"
    lines = [door.connect(call(f"{room}?hold")) for _ in range(MANY)]
    await_true(lambda: door.behind.running[room] == door.admission.gates[LOOK].total // 2)
    assert door.ask(room, key="another").status == 200
    door.behind.go_on.set()
    for line in lines:
        with line:
            assert read_answer(line).status == 200


def test_health_is_answered_whatever_is_under_way(door: Door) -> None:
    lines = [
        door.connect(call("/api/requests/r?hold", key=key, X_Test_Address=f"10.0.{place}.1"))
        for place, key in enumerate(("sk_live_known", "", "wrong"))
        for _ in range(MANY)
    ]
    await_true(lambda: door.behind.running["/api/requests/r"] >= 2)
    assert door.ask("/healthz", key="").status == 200
    door.behind.go_on.set()
    for line in lines:
        line.close()


def test_who_waits_gives_the_place_back_and_others_go_on(door: Door) -> None:
    lines = [door.connect(call("/api/instagram/stories?wait", method="POST")) for _ in range(8)]
    await_true(lambda: door.behind.running["/api/instagram/stories"] == 8)
    assert door.admission.gates[WORK].free == door.admission.gates[WORK].total
    assert door.ask("/api/instagram/story", method="POST").status == 200
    door.behind.go_on.set()
    for line in lines:
        with line:
            assert read_answer(line).status == 200


def test_a_stranger_takes_no_place_of_a_customer(door: Door) -> None:
    path = "/api/instagram/stories"
    lines = [door.connect(call(f"{path}?hold", method="POST", key=f"guess{n}")) for n in range(MANY)]
    await_true(lambda: door.behind.running[path] > 0)
    assert door.behind.running[path] <= door.admission.gates[STRANGER].total
    assert door.ask("/api/instagram/story", method="POST").status == 200
    for line in lines:
        line.close()


@pytest.mark.parametrize(("query", "status", "key"), [("unauthorized", 401, "wrong"), ("limited", 429, KEY)])
def test_who_is_refused_keeps_the_place_a_moment_longer(
    door: Door, monkeypatch: pytest.MonkeyPatch, query: str, status: int, key: str
) -> None:
    monkeypatch.setattr(front, "REFUSED_SECONDS", 2.0)
    assert door.ask(f"/api/credits?{query}", key=key).status == status
    assert not door.idle(), "the place is given back later"
    await_true(door.idle)


def test_large_bodies_under_way_have_a_bound(door: Door) -> None:
    total = door.admission.bodies.total
    door.admission.bodies.add("somebody else", total)
    assert door.ask("/api/credits", key="").status == 200, "a small one is nobody's trouble"
    refused = door.ask("/api/instagram/stories", method="POST", body=b"x" * 70_000)
    assert (refused.status, refused.json["code"]) == (503, "too_busy")
    assert door.ask("/healthz", key="").status == 200
    door.admission.bodies.give("somebody else", total)
    assert door.ask("/api/instagram/stories", method="POST", body=b"x" * 70_000).status == 200


def test_pieces_that_cost_are_made_under_a_place_each(door: Door) -> None:
    lines = [door.connect(call(f"/api/batches/b/results?pieces={quote(HEAVY)}")) for _ in range(6)]
    for line in lines:
        while b"xxxx" not in some(line):
            pass
    assert door.behind.most["piece"] <= door.admission.gates[HEAVY].total
    for line in lines:
        line.close()
    await_true(lambda: door.behind.closed == 6)
    await_true(door.idle)


def test_a_caller_who_hangs_up_ends_a_stream(door: Door) -> None:
    line = door.connect(call("/api/batches/b/results?pieces="))
    line.recv(65_536)
    line.close()
    await_true(lambda: door.behind.closed == 1)


def test_a_link_keeps_its_place_until_it_was_sent(door: Door) -> None:
    with door.connect(call("/archive/a.jpg?pieces=", key="")) as line:
        line.recv(1_000)
        assert door.admission.gates[LINK].free == door.admission.gates[LINK].total - 1
    await_true(door.idle)


# --- before a body is read -----------------------------------------------------------------------------

LARGE = "2000000"
BATCH = "/api/instagram/stories/batch"


def test_of_a_stranger_with_a_wrong_key_no_large_body_is_read(door: Door) -> None:
    with door.connect(call(BATCH, method="POST", key="wrong", body=b"x", Content_Length=LARGE)) as line:
        answer = read_answer(line)
    assert (answer.status, answer.headers["connection"]) == (401, "close")
    assert door.behind.seen == []
    await_true(door.idle)


def test_of_a_customer_who_is_new_here_it_is(door: Door) -> None:
    answer = door.ask(BATCH, method="POST", key="sk_live_new", body=b"x" * 90_000)
    assert answer.status == 200
    assert door.behind.bodies == [b"x" * 90_000]
    assert door.admission.callers.account_of("sk_live_new") == "acc_new"


def test_who_was_over_a_limit_is_told_so_again_without_reading(door: Door) -> None:
    first = door.ask(f"{BATCH}?limited", method="POST", body=b"x" * 90_000)
    assert first.status == 429
    with door.connect(call(f"{BATCH}?limited", method="POST", body=b"x", Content_Length=LARGE)) as line:
        again = read_answer(line)
    assert (again.status, again.json["code"]) == (429, "rate_limited")
    assert 0 < int(again.headers["retry-after"]) <= int(first.headers["retry-after"])
    assert len(door.behind.seen) == 1
    assert door.ask("/api/credits").status == 200, "what is small is not meant"
