"""/healthz, /readyz, /metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.app import create_app
from service.broker import make_celery
from service.domain import errors
from service.queue import CeleryQueue
from tests.api.support import EMPTY, JSON, Front, Timer, assert_error, failing


def test_healthz_answers_without_a_credential(front: Front) -> None:
    response = front.client.get("/healthz")

    assert response.status_code == 200
    assert response.json == {"status": "ok"}
    assert response.headers["X-Request-Id"]


# --- readiness -------------------------------------------------------------------------------------


def test_readyz_is_down_without_workers(front: Front) -> None:
    response = front.client.get("/readyz")

    assert response.status_code == 503
    assert response.content_type == JSON
    assert int(response.headers["Retry-After"]) > 0
    assert response.json["status"] == "not ready"
    assert response.json["checks"] == {"store": "ok", "worker": "down", "deliverer": "down"}


@pytest.mark.parametrize("kind", ["worker", "deliverer"])
def test_readyz_is_down_while_one_kind_is_missing(front: Front, kind: str) -> None:
    front.services.stats.beat(f"{kind}.1@here")
    response = front.client.get("/readyz")

    assert response.status_code == 503
    assert response.json["checks"][kind] == "ok"
    assert sorted(response.json["checks"].values()) == ["down", "ok", "ok"]


def test_readyz_is_ready_with_a_worker_and_a_deliverer(front: Front) -> None:
    for name in ("worker.1@here", "worker.1@there", "deliverer.1@here"):
        front.services.stats.beat(name)
    response = front.client.get("/readyz")

    assert response.status_code == 200
    assert response.json["status"] == "ready"
    assert set(response.json["checks"].values()) == {"ok"}

    front.services.stats.gone("deliverer.1@here")
    assert front.client.get("/readyz").status_code == 503


def test_readyz_forgets_a_worker_that_fell_silent(front: Front) -> None:
    for name in ("worker.1@here", "deliverer.1@here"):
        front.services.stats.beat(name)
    assert front.client.get("/readyz").status_code == 200
    for name in ("worker.1@here", "deliverer.1@here"):
        front.redis.zincrby("g:workers", -60, name)

    assert front.client.get("/readyz").status_code == 503


# --- metrics ---------------------------------------------------------------------------------------


def scrape(front: Front, **options: Any) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the samples by name, then by the values of their labels."""
    response = front.client.get("/metrics", **options)
    assert response.status_code == 200
    assert response.content_type.startswith("text/plain")
    samples: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(response.text):
        assert family.documentation, family.name
        for sample in family.samples:
            labels = tuple(sample.labels.values())
            assert labels not in samples.setdefault(sample.name, {}), "a sample told twice"
            samples[sample.name][labels] = sample.value
    return samples


def test_metrics_of_an_idle_installation_can_be_read(front: Front) -> None:
    samples = scrape(front)

    assert samples["storyhook_requests_accepted_total"] == {(): 0}
    assert samples["storyhook_requests_open"] == {(): 0}
    assert samples["storyhook_workers"] == {(): 0}
    assert samples["storyhook_job_seconds_count"] == {(): 0}


def test_metrics_count_what_happened(make: Callable[..., Front]) -> None:
    front = make(pickup_grace=0)
    front.ended()
    front.ended()
    front.ended(answer=EMPTY)
    front.ended(answer=failing(errors.UserNotFound))
    front.call("POST", f"/api/requests/{front.accept()}/cancel")
    accepted = front.stories(fields={"webhookUrl": "https://example.com/hook"}, prefer="")
    front.work(accepted.json["requestId"])
    front.accept(by=front.other)
    front.stories(fields={"webhookUrl": "nonsense"})
    front.services.stats.beat("worker.1@here")
    samples = scrape(front)

    assert samples["storyhook_requests_accepted_total"] == {(): 7}
    assert samples["storyhook_requests_total"] == {
        ("found",): 3, ("empty",): 1, ("user_not_found",): 1, ("cancelled",): 1
    }  # fmt: skip
    assert samples["storyhook_requests_open"] == {(): 1}
    assert samples["storyhook_credits_held"] == {(): 1}
    assert samples["storyhook_deliveries_due"] == {(): 1}
    assert samples["storyhook_workers"] == {(): 1}
    assert set(samples["storyhook_queue_depth"]) == {("interactive",), ("bulk",), ("deliver",)}


def test_metrics_count_what_was_put_back(front: Front) -> None:
    request_id = front.accept()
    front.work(request_id, errors.NoSessionFree(60))
    samples = scrape(front)

    assert samples["storyhook_requests_parked_total"] == {(): 1}
    assert samples["storyhook_requests_open"] == {(): 1}


def test_the_histogram_of_jobs_is_one(front: Front) -> None:
    for _ in range(3):
        front.ended()
    samples = scrape(front)
    buckets = samples["storyhook_job_seconds_bucket"]

    bounds = sorted((float(bound), count) for (bound,), count in buckets.items())
    counts = [count for _, count in bounds]
    assert counts == sorted(counts)
    assert bounds[-1] == (float("inf"), 3)
    assert samples["storyhook_job_seconds_count"] == {(): 3}
    assert 0 <= samples["storyhook_job_seconds_sum"][()] < 100


def test_counters_outlive_the_process(front: Front) -> None:
    front.ended()
    again = replace(front, app=create_app(front.settings, front.services))

    assert scrape(again) == scrape(front)


def test_metrics_name_no_account(front: Front) -> None:
    front.ended("somebody")
    text = front.client.get("/metrics").text

    for secret in ("somebody", front.me.account.email, front.me.account.account_id, front.me.key):
        assert secret not in text


@pytest.mark.parametrize(
    "given", [None, "", "Bearer", "Bearer wrong", "Bearer sesame-open", "Basic open-sesame"]
)
def test_metrics_want_the_token_where_one_is_set(make: Callable[..., Front], given: str | None) -> None:
    front = make(metrics_token="open-sesame")
    headers = {} if given is None else {"Authorization": given}

    assert_error(front.client.get("/metrics", headers=headers), 401, "unauthorized")
    assert_error(front.get("/metrics"), 401, "unauthorized")
    scrape(front, headers={"Authorization": "Bearer open-sesame"})


def test_metrics_of_the_store_are_told_while_the_broker_is_out(quick: Callable[..., Front]) -> None:
    # Most of all then: whoever watches wants to see why nothing is picked up.
    front = quick()
    front.ended()
    broken = replace(front.services, queue=CeleryQueue(make_celery("redis://127.0.0.1:1/0")))
    front = replace(front, services=broken, app=create_app(front.settings, broken))
    with Timer() as timer:
        samples = scrape(front)

    assert timer.seconds < 15
    assert samples["storyhook_requests_total"] == {("found",): 1}


def test_metrics_show_batches_and_who_waits_for_a_turn(front: Front) -> None:
    answer = front.call("POST", "/api/instagram/stories/batch", json={"usernames": ["nasa", "bbc"]})
    assert answer.status_code == 202
    samples = scrape(front)
    assert samples["storyhook_batches_accepted_total"] == {(): 1}
    assert samples["storyhook_bulk_waiting"] == {(): 2}
