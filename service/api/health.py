"""GET /healthz, /readyz, /metrics."""

from __future__ import annotations

import hmac

from flask import Blueprint, Response, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from service.api.answers import json_response
from service.api.context import context, services
from service.api.metrics import StoreCollector
from service.domain.errors import StoreUnavailable, Unauthorized

# Plain Flask, not in the API's documentation: these are for machines that watch the service.
blueprint = Blueprint("health", __name__)

KINDS = ("worker", "deliverer")


@blueprint.get("/healthz")
def healthz() -> Response:
    """The process answers."""
    return json_response({"status": "ok"})


@blueprint.get("/readyz")
def readyz() -> Response:
    """The store answers, and a worker and a deliverer are alive."""
    checks = dict.fromkeys(("store", *KINDS), "down")
    try:
        # A worker is called kind.process@host.
        alive = {name.partition(".")[0] for name in services().stats.workers()}
        checks.update({"store": "ok"}, **{kind: "ok" for kind in KINDS if kind in alive})
    except StoreUnavailable:
        pass
    ready = set(checks.values()) == {"ok"}
    response = json_response(
        {"status": "ready" if ready else "not ready", "checks": checks}, 200 if ready else 503
    )
    if not ready:
        response.headers["Retry-After"] = "2"
    return response


@blueprint.get("/metrics")
def metrics() -> Response:
    """Prometheus metrics, read from the store, so every web process tells the same."""
    token = context().metrics_token
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if token and not hmac.compare_digest(token.encode(), given.encode()):
        raise Unauthorized("Send METRICS_TOKEN as the bearer token.")
    registry = CollectorRegistry()
    registry.register(StoreCollector(services()))
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
