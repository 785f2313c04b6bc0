"""What the specification declares holds for thousands of calls nobody thought of."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service import config
from service.domain.deliveries import DELIVERED, Attempt, Plan
from service.domain.ports import Services
from service.domain.ports.media import MediaFile
from tests.api.answers import EverySource
from tests.api.support import BATCH, HIKER, JSON, Front, fake_store, make_front
from tests.conftest import SECRET, SHARDS, RecordingQueue
from workers import gather, scrape
from workers.places import Places
from workers.sources.contract import Source
from workers.sources.files import WithFiles

EXAMPLES = 12
EXAMPLES_OF_THEIRS = 4  # two dozen routes that differ in little
CHECKED = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

OPERATIONS = [
    ("POST", "/api/instagram/stories"),
    ("POST", "/api/instagram/story"),
    ("POST", "/api/instagram/highlights"),
    ("POST", "/api/instagram/highlight"),
    ("POST", "/api/instagram/user"),
    ("POST", "/api/instagram/download"),
    ("GET", "/api/instagram/download"),
    ("POST", "/api/instagram/stories/batch"),
    ("GET", "/api/batches"),
    ("GET", "/api/batches/{batch_id}"),
    ("GET", "/api/batches/{batch_id}/results"),
    ("POST", "/api/batches/{batch_id}/cancel"),
    ("GET", "/api/requests"),
    ("GET", "/api/requests/{request_id}"),
    ("DELETE", "/api/requests/{request_id}"),
    ("POST", "/api/requests/{request_id}/cancel"),
    ("GET", "/api/credits"),
    ("GET", "/api/credits/ledger"),
    ("GET", "/api/prices"),
    ("GET", "/api/webhooks/secret"),
    ("POST", "/api/webhooks/secret/rotate"),
    ("GET", "/api/webhooks/deliveries"),
    ("GET", "/api/webhooks/deliveries/{delivery_id}"),
    ("POST", "/api/webhooks/deliveries/{delivery_id}/replay"),
    ("POST", "/api/webhooks/replay"),
    ("POST", "/api/webhooks/test"),
    ("GET", "/api/watches"),
    ("POST", "/api/watches"),
    ("GET", "/api/watches/{watch_id}"),
    ("DELETE", "/api/watches/{watch_id}"),
    ("POST", "/api/watches/{watch_id}/pause"),
    ("POST", "/api/watches/{watch_id}/resume"),
    ("POST", "/api/watches/{watch_id}/run"),
    ("POST", "/auth/login"),
    ("POST", "/auth/register"),
    ("POST", "/auth/password"),
    ("POST", "/auth/logout-all"),
    ("GET", "/keys"),
    ("POST", "/keys"),
    ("DELETE", "/keys/{key_id}"),
    ("GET", "/archive/{name}"),
    *(("GET", path) for path in HIKER),
]
WITH_TARGET = {"/api/instagram/download", *HIKER} - {"/sys/balance"}
TARGETS = {
    "stories": {"username": "nasa"},
    "story": {"storyId": "3411111111111111111"},
    "highlights": {"userId": "528817151"},
    "highlight": {"highlightId": "17983616051768088"},
    "user": {"username": "nasa"},
    "download": {"storyId": "3411111111111111111"},
}


class FourBytes:
    """A CDN of which every file is an MP4 of four bytes, and tells of ranges."""

    def probe(self, url: str) -> MediaFile:
        return MediaFile(url, "video/mp4", 4)

    def open(self, url: str, range: str | None = None) -> FourBytes:
        self.status = 206 if range else 200
        self.content_type = "video/mp4"
        self.content_range = "bytes 0-3/4" if range else None
        self.content_length = 4
        return self

    def chunks(self) -> Iterator[bytes]:
        yield b"mp4!"

    def close(self) -> None:
        pass

    def __enter__(self) -> FourBytes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class InlineQueue(RecordingQueue):
    """Does the work at once, in place of workers."""

    services: Services

    @cached_property
    def source(self) -> Source:
        return WithFiles(EverySource(), self.services.media)

    def enqueue(self, task: str, queue: str, *args: str) -> bool:
        if task == "scrape":
            scrape.run(self.services, self.source, args[0])
        elif task == "gather":
            gather.run(self.services, self.source, Places(1), lambda: False)
        elif claim := self.services.deliveries.claim(*args):
            made = Attempt(at=1_790_000_000, duration=0.1, status=200)
            self.services.deliveries.record(claim, made, Plan(DELIVERED))
        return True


@pytest.fixture(scope="module")
def fed() -> Front:
    """A front end that never runs dry, and where something is to be found."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "ENVIRONMENT": "development",
            "SECRET_KEY": SECRET,
            "WEBHOOK_ALLOW": "127.0.0.0/8,localhost",
            "SHARDS": str(SHARDS),
            "RATE_LIMITS": "",
            "ARCHIVE_URL": "",
            "SYNC_DEADLINE": "0.05",
            "SYNC_DEADLINE_MAX": "0.05",
        }.items():
            patch.setenv(name, value)
        settings = config.load()
    queue = InlineQueue()
    front = make_front(settings, fake_store(), queue, media=FourBytes())
    queue.services = front.services
    front.services.credits.add(front.me.account.account_id, 1_000_000, entry_type="topup", note="plenty")
    return front


@pytest.fixture(scope="module")
def specification(fed: Front) -> BaseSchema:
    return schemathesis.openapi.from_wsgi("/openapi.json", fed.app, config=SchemathesisConfig(seed=1))


def test_every_documented_operation_is_tried(specification: BaseSchema) -> None:
    documented = {
        (operation.method.upper(), operation.path)
        for operation in (result.ok() for result in specification.get_all_operations())
    }

    assert documented == set(OPERATIONS)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_every_answer_is_as_documented(
    specification: BaseSchema, fed: Front, method: str, path: str, mode: GenerationMode
) -> None:
    cases = specification[path][method].as_strategy(generation_mode=mode)

    @hypothesis.settings(
        max_examples=EXAMPLES_OF_THEIRS if path in HIKER else EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=cases)
    def run(case: schemathesis.Case) -> None:
        response = case.call(headers=fed.me.headers)
        case.validate_response(response, checks=CHECKED)

    run()


def test_answers_about_what_exists_are_as_documented(specification: BaseSchema, fed: Front) -> None:
    ended = fed.stories(fields={"webhookUrl": "https://example.com/hook"}).json["requestId"]
    failed = fed.stories("nobody").json["requestId"]
    delivery = fed.get("/api/webhooks/deliveries").json["deliveries"][0]["id"]
    key = fed.call("POST", "/keys", json={"name": "short-lived"}).json["id"]
    batch = fed.call("POST", BATCH, json={"usernames": ["nasa", "bbc", "no name", "nasa"]}).json["batchId"]
    hook = {"username": "nasa", "every": "15m", "webhookUrl": "https://example.com/hook"}
    watch = {"watch_id": fed.call("POST", "/api/watches", json=hook).json["watchId"]}
    known = [
        ("GET", "/api/watches/{watch_id}", watch),
        ("POST", "/api/watches/{watch_id}/run", watch),
        ("POST", "/api/watches/{watch_id}/pause", watch),
        ("POST", "/api/watches/{watch_id}/run", watch),
        ("POST", "/api/watches/{watch_id}/resume", watch),
        ("DELETE", "/api/watches/{watch_id}", watch),
        ("GET", "/api/batches/{batch_id}", {"batch_id": batch}),
        ("GET", "/api/batches/{batch_id}/results", {"batch_id": batch}),
        ("POST", "/api/batches/{batch_id}/cancel", {"batch_id": batch}),
        ("GET", "/api/requests/{request_id}", {"request_id": ended}),
        ("GET", "/api/requests/{request_id}", {"request_id": failed}),
        ("POST", "/api/requests/{request_id}/cancel", {"request_id": failed}),
        ("GET", "/api/webhooks/deliveries/{delivery_id}", {"delivery_id": delivery}),
        ("POST", "/api/webhooks/deliveries/{delivery_id}/replay", {"delivery_id": delivery}),
        ("DELETE", "/keys/{key_id}", {"key_id": key}),
        ("DELETE", "/api/requests/{request_id}", {"request_id": ended}),
        ("DELETE", "/api/requests/{request_id}", {"request_id": ended}),
        *(
            (method, path, {})
            for method, path in OPERATIONS
            if method == "GET" and "{" not in path and path not in WITH_TARGET
        ),
    ]
    statuses = []
    for method, path, parameters in known:
        case = specification[path][method].Case(path_parameters=parameters)
        response = case.call(headers=fed.me.headers)
        statuses.append(response.status_code)
        if response.status_code < 400:  # the shape of errors has its own tests
            case.validate_response(response, checks=CHECKED)

    watched = [200, 202, 200, 409, 200, 204]
    assert statuses == [*watched, *[200] * 5, 409, 200, 202, 204, 204, 404, *[200] * (len(known) - 17)]


@pytest.mark.parametrize("shape", ["raw", "story"])
@pytest.mark.parametrize("operation", TARGETS)
def test_results_of_every_operation_are_as_documented(
    specification: BaseSchema, fed: Front, operation: str, shape: str
) -> None:
    body = TARGETS[operation] | ({"shape": shape} if operation not in ("user", "download") else {})
    case = specification[f"/api/instagram/{operation}"]["POST"].Case(body=body, media_type=JSON)
    response = case.call(headers=fed.me.headers)
    assert response.status_code == 200, response.text
    case.validate_response(response, checks=CHECKED)


@pytest.mark.parametrize("path", HIKER)
def test_results_of_hikerapis_routes_are_as_documented(
    specification: BaseSchema, fed: Front, path: str
) -> None:
    operation = specification[path]["GET"]
    examples = {
        each["name"]: each["example"]
        for each in operation.definition.raw.get("parameters", [])
        if each["in"] == "query" and "example" in each
    }
    if path == "/v1/story/download/by/url":
        examples["url"] = "https://scontent.cdninstagram.com/1_2_n.mp4?oh=00_ab"
    case = operation.Case(query=examples)
    response = case.call(headers=fed.me.headers)
    assert response.status_code == 200, response.text
    case.validate_response(response, checks=CHECKED)


@pytest.mark.parametrize("status", [200, 206])
def test_a_download_is_as_documented(specification: BaseSchema, fed: Front, status: int) -> None:
    headers = {"Range": "bytes=0-"} if status == 206 else {}
    case = specification["/api/instagram/download"]["GET"].Case(query=TARGETS["download"], headers=headers)
    response = case.call(headers=fed.me.headers)
    assert response.status_code == status, response.text
    case.validate_response(response, checks=CHECKED)
