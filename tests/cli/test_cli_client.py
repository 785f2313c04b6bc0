"""The client's one call: retried as one request, waited for, given up in time."""

from __future__ import annotations

import time
from email.utils import formatdate
from pathlib import Path

import pytest
from werkzeug import Response

from service.cli.client import Api
from service.cli.demo import free_ports
from service.cli.servers import Server
from service.cli.transport import BACKOFF_MOST, HOLD_MOST, NoAnswer, Stopped
from tests.cli.support import KEY, NoSleep, Service, answer, failed, found, refused, running


@pytest.fixture
def stop() -> NoSleep:
    return NoSleep()


@pytest.fixture
def api(service: Service, stop: NoSleep) -> Api:
    return Api(Server(service.url, KEY), wait=60, stop=stop)


def test_the_envelope_comes_as_it_was_sent(api: Api, service: Service) -> None:
    text = '{"requestId":"req_1", "finishedAt":"x",  "odd":1.50}'
    service.will("nasa", answer(text))
    assert api.stories("nasa").body == text.encode()
    [request] = service.requests
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.get_json() == {"username": "nasa"}
    assert request.headers["Prefer"] == f"wait={HOLD_MOST:.0f}"


def test_the_age_that_is_asked_for_is_in_the_body(api: Api, service: Service) -> None:
    api.stories("nasa", 0)
    assert service.requests[0].get_json() == {"username": "nasa", "maxAge": 0}


def no_archive(sentence: str) -> Response:
    details = {"archive": [sentence]}
    return answer({**refused("validation_error"), "details": details}, 422)


@pytest.mark.parametrize("sentence", ["This service keeps no media: leave it out.", "Unknown field."])
def test_a_server_without_an_archive_is_asked_for_one_once_a_run(
    api: Api, service: Service, sentence: str
) -> None:
    service.will("nasa", no_archive(sentence), answer(found("nasa")))
    assert api.stories("nasa", 5, archive=True).succeeded
    assert api.stories("esa", archive=True).succeeded
    assert [request.get_json() for request in service.requests] == [
        {"username": "nasa", "maxAge": 5, "archive": True},
        {"username": "nasa", "maxAge": 5},
        {"username": "esa"},
    ]
    assert service.keys()[0] == service.keys()[1], "nasa could be charged twice"


def test_an_archive_is_asked_for_each_name(api: Api, service: Service) -> None:
    for name in ("nasa", "esa"):
        assert api.stories(name, archive=True).succeeded
    assert all(request.get_json()["archive"] is True for request in service.requests)


@pytest.mark.parametrize(("status", "field"), [(422, "username"), (400, "archive"), (503, "archive")])
def test_another_refusal_is_not_about_the_archive(
    service: Service, stop: NoSleep, status: int, field: str
) -> None:
    api = Api(Server(service.url, KEY), wait=0, stop=stop)
    service.will("nasa", answer({**refused("some_code"), "details": {field: ["No."]}}, status))
    with pytest.raises(NoAnswer):
        api.stories("nasa", archive=True)
    assert api.stories("esa", archive=True).succeeded
    assert [request.get_json().get("archive") for request in service.requests] == [True, True]


@pytest.mark.parametrize("status", [403, 404, 451, 503, 504, 502, 409])
def test_an_outcome_is_an_answer_whatever_its_status(api: Api, service: Service, status: int) -> None:
    service.will("nasa", answer(failed("nasa", "some_code"), status, Retry_After="9"))
    assert api.stories("nasa").envelope["code"] == "some_code"
    assert len(service.requests) == 1


def test_a_request_under_way_is_polled_at_the_servers_pace(api: Api, service: Service, stop: NoSleep) -> None:
    service.will("nasa", answer(running("nasa"), 202, Retry_After="20"))
    service.looks("req_nasa", answer(running("nasa"), Retry_After="20"), answer(found("nasa")))
    assert api.stories("nasa").ended
    assert [request.method for request in service.requests] == ["POST", "GET", "GET"]
    assert float(service.requests[1].args["wait"]) == HOLD_MOST
    assert len(stop.waits) == 2
    # The server did not hold these, but a busy machine may have been slow to answer.
    assert all(8 < waited <= 20 for waited in stop.waits)


@pytest.mark.parametrize(
    "trouble",
    [
        answer(refused("service_unavailable"), 503, Retry_After="7"),
        answer(refused("rate_limited"), 429, Retry_After="7"),
        Response("<html>Bad Gateway</html>", 502, {"Retry-After": "7"}),
    ],
    ids=["503", "429", "a proxy's 502"],
)
def test_what_passes_is_sent_again_as_the_same_request(
    api: Api, service: Service, stop: NoSleep, trouble: Response
) -> None:
    service.will("nasa", trouble, trouble, answer(found("nasa")))
    assert api.stories("nasa").succeeded
    assert len(set(service.keys())) == 1
    assert len(service.keys()) == 3
    assert all(6 <= waited <= 8.5 for waited in stop.waits)


def test_the_server_may_name_a_date(api: Api, service: Service, stop: NoSleep) -> None:
    in_a_while = formatdate(time.time() + 30, usegmt=True)
    service.will("nasa", answer(refused("rate_limited"), 429, Retry_After=in_a_while), answer(found("nasa")))
    assert api.stories("nasa").succeeded
    assert 15 <= stop.waits[0] <= 31


def test_waits_grow_where_the_server_names_none(api: Api, service: Service, stop: NoSleep) -> None:
    service.will("nasa", *[answer(refused("service_unavailable"), 503)] * 7, answer(found("nasa")))
    assert api.stories("nasa").succeeded
    assert 0.2 < stop.waits[0] <= 0.5
    assert stop.waits[5] > 2 * stop.waits[0]
    assert max(stop.waits) <= BACKOFF_MOST


def test_a_lost_answer_is_asked_for_again(api: Api, service: Service) -> None:
    cut = Response([b"{"], 200, {"Content-Length": "500"})  # as a list, or werkzeug sets the length right
    service.will("nasa", cut, answer(found("nasa")))
    assert api.stories("nasa").succeeded
    assert len(set(service.keys())) == 1


def test_trouble_while_polling_is_outlasted(api: Api, service: Service) -> None:
    service.will("nasa", answer(running("nasa"), 202))
    service.looks("req_nasa", answer(refused("service_unavailable"), 503), answer(found("nasa")))
    assert api.stories("nasa").succeeded
    assert len(service.keys()) == 1


def test_each_name_and_each_run_has_a_key_of_its_own(service: Service, stop: NoSleep) -> None:
    for _ in range(2):
        run = Api(Server(service.url, KEY), wait=5, stop=stop)
        run.stories("nasa")
        run.stories("esa")
        run.stories("esa")
    assert (len(service.keys()), len(set(service.keys()))) == (6, 4)


@pytest.mark.parametrize(
    ("status", "code", "everywhere"),
    [
        (401, "unauthorized", True),
        (403, "forbidden", True),
        (404, "not_found", True),  # no such route: this is another server, or another address of it
        (402, "insufficient_credits", False),
        (409, "conflict", False),
        (422, "validation_error", False),
    ],
)
def test_a_refusal_is_not_sent_again(
    api: Api, service: Service, status: int, code: str, everywhere: bool
) -> None:
    service.will("nasa", answer(refused(code, "Not you."), status))
    with pytest.raises(NoAnswer, match="refused: Not you") as told:
        api.stories("nasa")
    assert (told.value.code, told.value.everywhere) == (code, everywhere)
    assert len(service.requests) == 1


@pytest.mark.parametrize(("status", "everywhere"), [(404, False), (409, False), (401, True)])
def test_a_refused_look_is_about_the_request_or_about_the_key(
    api: Api, service: Service, status: int, everywhere: bool
) -> None:
    service.will("nasa", answer(running("nasa"), 202))
    service.looks("req_nasa", answer(refused("some_code", "There is no request of this id."), status))
    with pytest.raises(NoAnswer, match="no request of this id") as told:
        api.stories("nasa")
    assert told.value.everywhere is everywhere


def test_what_is_wrong_is_told_by_field(api: Api, service: Service) -> None:
    service.will("nasa", answer({**refused("validation_error"), "details": {"maxAge": ["Too old."]}}, 422))
    with pytest.raises(NoAnswer, match="maxAge: Too old"):
        api.stories("nasa")


def test_another_kind_of_server_is_told_as_that(api: Api, service: Service) -> None:
    service.will("nasa", Response("<h1>Welcome to nginx</h1>", 200, content_type="text/html"))
    with pytest.raises(NoAnswer, match="no answer of Storyhook"):
        api.stories("nasa")


def test_a_key_does_not_follow_a_redirect(api: Api, service: Service) -> None:
    there = service.server.url_for("/elsewhere")
    service.will("nasa", Response(status=301, headers={"Location": there}))
    with pytest.raises(NoAnswer, match=f"new address, {there}"):
        api.stories("nasa")
    assert len(service.server.log) == 1


def test_a_wait_past_the_deadline_is_not_begun(api: Api, service: Service, stop: NoSleep) -> None:
    service.will("nasa", answer(refused("rate_limited", "Full."), 429, Retry_After="3600"))
    with pytest.raises(NoAnswer, match=r"Full\. \(rate_limited\)") as told:
        api.stories("nasa")
    assert told.value.everywhere
    assert stop.waits == []


def test_a_server_that_is_not_there_is_given_up_at_the_deadline(stop: NoSleep) -> None:
    [port] = free_ports(1)
    api = Api(Server(f"http://127.0.0.1:{port}", KEY), wait=0.3, stop=stop)
    with pytest.raises(NoAnswer, match=r"could not be reached: .*Connection refused") as told:
        api.stories("nasa")
    assert told.value.code == "unreachable"


def test_what_has_not_ended_in_time_is_an_answer_too(service: Service, stop: NoSleep) -> None:
    service.will("nasa", answer(running("nasa"), 202, Retry_After="2"))
    kept = Api(Server(service.url, KEY), wait=0, stop=stop).stories("nasa")
    assert not kept.ended
    assert service.requests[0].headers["Prefer"] == "wait=0"


def test_a_run_that_stops_waits_no_longer(api: Api, service: Service, stop: NoSleep) -> None:
    stop.set()
    service.will("nasa", answer(refused("service_unavailable"), 503))
    with pytest.raises(Stopped):
        api.stories("nasa")
    service.will("esa", answer(running("esa"), 202))
    assert not api.stories("esa").ended


def test_nothing_gets_between_a_client_and_its_own_machine(
    api: Api, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert api.stories("nasa").succeeded


def test_a_netrc_is_not_put_over_the_key(
    service: Service, stop: NoSleep, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, service.url)  # which answers for a server elsewhere
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    elsewhere = Api(Server("http://stories.example", KEY), wait=5, stop=stop)
    assert elsewhere.stories("nasa").succeeded
    assert service.requests[0].headers["Host"] == "stories.example"
    assert service.requests[0].headers["Authorization"] == f"Bearer {KEY}"
