"""What each call costs."""

from __future__ import annotations

import pytest

from service.api.costs import cost_of
from service.domain.admission import FREE, HASH, HEAVY, LINK, LOOK, WORK


@pytest.mark.parametrize(
    ("method", "path", "cost"),
    [
        ("GET", "/healthz", FREE),
        ("GET", "/readyz", LOOK),
        ("GET", "/metrics", HEAVY),
        ("GET", "/openapi.json", HEAVY),
        ("GET", "/docs", LOOK),
        ("POST", "/auth/login", HASH),
        ("POST", "/auth/register", HASH),
        ("GET", "/auth/login", LOOK),
        ("POST", "/api/instagram/stories", WORK),
        ("POST", "/api/instagram/stories/batch", HEAVY),
        ("GET", "/api/instagram/download", WORK),
        ("GET", "/v1/user/stories", WORK),
        ("GET", "/api/requests", HEAVY),
        ("GET", "/api/requests/req_1", LOOK),
        ("DELETE", "/api/requests/req_1", WORK),
        ("GET", "/api/batches/bat_1", LOOK),
        ("GET", "/api/batches/bat_1/results", HEAVY),
        ("POST", "/api/batches/bat_1/cancel", HEAVY),
        ("GET", "/api/credits", LOOK),
        ("GET", "/api/credits/ledger", HEAVY),
        ("GET", "/api/webhooks/deliveries", HEAVY),
        ("POST", "/api/webhooks/replay", HEAVY),
        ("GET", "/archive/name.jpg", LINK),
    ],
)
def test_a_route_has_its_cost(method: str, path: str, cost: str) -> None:
    assert cost_of(method, path) == cost
