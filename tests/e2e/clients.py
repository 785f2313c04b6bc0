"""Who a test is towards a running service: a customer, and whoever turns the simulator's knobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import requests

CALL_LIMIT = 90.0


class Customer:
    """Somebody who calls the API with a key."""

    def __init__(self, base_url: str, api_key: str, ca_file: str = "") -> None:
        self.base_url = base_url
        self.api_key = api_key
        self.ca_file = ca_file

    def call(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> requests.Response:
        """Make a call on a connection of its own; threads may share the customer."""
        with requests.Session() as session:
            session.trust_env = False
            session.verify = self.ca_file or True
            given = {"Authorization": f"Bearer {self.api_key}", **(headers or {})}
            return session.request(
                method, self.base_url + path, headers=given, **{"timeout": CALL_LIMIT, **options}
            )

    def stories(
        self, username: str, *, webhook: str | None = None, prefer: str = "", **fields: Any
    ) -> requests.Response:
        """Ask for somebody's stories; ``fields`` go into the body too."""
        body = {"username": username, **({"webhookUrl": webhook} if webhook else {}), **fields}
        headers = {"Prefer": prefer} if prefer else None
        return self.call("POST", "/api/instagram/stories", json=body, headers=headers)

    def queue(self, username: str, *, webhook: str | None = None) -> str:
        """Ask for stories without waiting; return the request's id."""
        answer = self.stories(username, webhook=webhook, prefer="respond-async")
        assert answer.status_code == 202, answer.text
        return str(answer.json()["requestId"])

    def look(self, request_id: str, wait: float = 0) -> requests.Response:
        """Look at a request, up to ``wait`` seconds long."""
        return self.call("GET", f"/api/requests/{request_id}", params={"wait": wait} if wait else None)

    def outcome(self, request_id: str, seconds: float = 30) -> dict[str, Any]:
        """Return the final envelope of a request, waited for."""
        body: dict[str, Any] = self.look(request_id, wait=seconds).json()
        assert "finishedAt" in body, f"not ended after {seconds} seconds: {body}"
        return body

    def credits(self) -> dict[str, int]:
        found: dict[str, int] = self.call("GET", "/api/credits").json()
        return found

    def ledger(self, request_id: str | None = None) -> list[tuple[str, int]]:
        """Return (type, amount) of up to 100 entries, oldest first."""
        query = {"limit": 100, **({"requestId": request_id} if request_id else {})}
        entries = self.call("GET", "/api/credits/ledger", params=query).json()["entries"]
        return [(entry["type"], entry["amount"]) for entry in reversed(entries)]

    def delivery(self, delivery_id: str) -> dict[str, Any]:
        """Return what is known of a webhook, its attempts in ``log``."""
        found: dict[str, Any] = self.call("GET", f"/api/webhooks/deliveries/{delivery_id}").json()
        return found

    def secret(self) -> str:
        """Return what this customer's webhooks are signed with."""
        return str(self.call("GET", "/api/webhooks/secret").json()["secret"])


class Simulator:
    """The knobs and counters of the simulated Instagram."""

    def __init__(self, url: str) -> None:
        self.url = url

    def knobs(self, **changes: Any) -> dict[str, Any]:
        return self._ask("POST", "knobs", json=changes)

    def reset(self) -> None:
        """Knobs and counters as they were at the start."""
        self._ask("POST", "reset")

    def calls(self) -> dict[str, Any]:
        """Return ``total`` and the counts ``by_endpoint``, ``by_session`` and ``by_username``."""
        return self._ask("GET", "calls")

    def about(self, username: str) -> int:
        """Return how many calls were about a username."""
        return int(self.calls()["by_username"].get(username, 0))

    def _ask(self, method: str, what: str, **options: Any) -> dict[str, Any]:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(method, f"{self.url}/_sim/{what}", timeout=60, **options)
        answer.raise_for_status()
        body: dict[str, Any] = answer.json()
        return body
