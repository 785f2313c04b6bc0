"""The heaviest calls of every route, a table. A route that is not in it fails `test_siege`.

`NUMBER` in a path, a header or a body becomes another number in each call, so that what is to be new is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

from service.api.hiker.table import ROUTES
from service.domain import targets
from workers.simulator.ids import highlight_id, user_id_of

NUMBER = "@@NUMBER"  # eight characters that become eight digits: a body keeps its length
BODY_MOST = 65_536
BATCH_MOST = 2_097_152
NAMES_MOST = 10_000

JSON, TEXT, CSV, NDJSON = "application/json", "text/plain", "text/csv", "application/x-ndjson"
BATCH = "/api/instagram/stories/batch"
LONG_KEY = {"Idempotency-Key": NUMBER + "k" * 247}
HUGE, SLOW = "huge_siege", "slow_14_siege"


@dataclass(frozen=True)
class Known:
    """What was prepared for whoever besieges: ids, and where files and receivers are.

    The batches are one of very many names, one of `huge_` reels and one that does not end; a request is one
    of a `huge_` reel or one that does not end.
    """

    request_id: str
    open_request_id: str
    batch_id: str
    huge_batch_id: str
    open_batch_id: str
    delivery_id: str
    watch_id: str
    story_id: str
    media_url: str
    archive_path: str  # with its signature
    hook: str
    hanging_hook: str
    email: str


@dataclass(frozen=True)
class Call:
    """One heavy call. ``route`` is as in the OpenAPI document, ``path`` has its query.

    ``holds`` is for calls that may keep their caller waiting for long. ``then`` is a call that follows: the
    field of the answer that fills the braces of its path, its method, its path.
    """

    method: str
    route: str
    path: str
    what: str
    body: str = ""
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    holds: bool = False
    then: tuple[str, str, str] | None = None

    @property
    def operation(self) -> tuple[str, str]:
        return self.method, self.route


def heaviest(known: Known) -> list[Call]:
    """Return every call of the table."""
    return [
        *_fetches(known),
        *_files(known),
        *_batches(),
        *_batch_looks(known),
        *_requests(known),
        *_watches(known),
        *_webhooks(known),
        *_accounts(known),
        *_hiker(known),
        *_plain(),
    ]


def routes(calls: list[Call]) -> list[tuple[str, str]]:
    """Return the operations of these calls, each once, in their order."""
    return list(dict.fromkeys(call.operation for call in calls))


# --- bodies ----------------------------------------------------------------------------------------------


def filled(line: str, size: int = BATCH_MOST, *, first: str = "", last: str = "") -> str:
    """Return a body of ``line`` again and again that is as long as it may be."""
    return first + line * ((size - len(first) - len(last)) // len(line)) + last


def nested(size: int, field_name: str) -> str:
    """Return a JSON object with a list in a list in a list ... that is as long as it may be."""
    depth = (size - len(field_name) - 5) // 2
    return f'{{"{field_name}":{"[" * depth}{"]" * depth}}}'


def names(count: int = NAMES_MOST) -> str:
    """Return so many names nobody has asked for yet, a line each."""
    return "".join(f"s{NUMBER}_{number:05d}\n" for number in range(count))


# --- the table -------------------------------------------------------------------------------------------


def _fetches(known: Known) -> Iterator[Call]:
    huge_id = str(user_id_of(HUGE))
    highlight = str(highlight_id(user_id_of(HUGE), 0))
    told = {
        "stories": {"username": f"{HUGE}{NUMBER}"},
        "story": {"storyId": known.story_id},
        "highlights": {"userId": huge_id},
        "highlight": {"highlightId": highlight},
        "user": {"username": f"{SLOW}{NUMBER}"},
        "download": {"storyId": known.story_id},
    }
    for operation, target in told.items():
        route = f"/api/instagram/{operation}"
        anew = json.dumps({**target, "maxAge": 0})
        yield Call("POST", route, route, "waits for a new result", anew, holds=True)
        yield Call("POST", route, route, "64 KiB of lists in lists", nested(BODY_MOST, next(iter(target))))
    stories = "/api/instagram/stories"
    unknown = filled('"a":1,', BODY_MOST, first='{"username":"nasa",', last='"b":1}')
    yield Call("POST", stories, stories, "64 KiB of the same unknown field", unknown)
    many = "{" + ",".join(f'"{number}":1' for number in range(BODY_MOST // 10)) + "}"
    yield Call("POST", stories, stories, "64 KiB of unknown fields", many)
    slow = json.dumps({"username": f"{SLOW}{NUMBER}", "maxAge": 0})
    wait = {"Prefer": "wait=60"}
    yield Call("POST", stories, stories, "waits 60 s for a slow account", slow, headers=wait, holds=True)
    hooked = json.dumps({"username": f"{HUGE}{NUMBER}", "maxAge": 0, "webhookUrl": known.hanging_hook})
    yield Call("POST", stories, stories, "to a receiver that hangs, longest key", hooked, headers=LONG_KEY)


def _files(known: Known) -> Iterator[Call]:
    download = "/api/instagram/download"
    yield Call("GET", download, f"{download}?storyId={known.story_id}", "a whole file", holds=True)
    by_url = f"{download}?url={quote(known.media_url, safe='')}"
    yield Call("GET", download, by_url, "a whole file by its address", holds=True)
    yield Call("GET", "/archive/{name}", known.archive_path, "a whole file", holds=True)
    yield Call("GET", "/archive/{name}", f"/archive/{'a' * 8_000}?expires=1&signature=x", "a long wrong name")


def _batches() -> Iterator[Call]:
    def post(what: str, content_type: str, body: str) -> Call:
        return Call("POST", BATCH, BATCH, what, body, content_type)

    yield post("2 MiB of one name", TEXT, filled("ab\n"))
    yield post("2 MiB of blank lines", TEXT, filled("\n"))
    yield post("2 MiB whose last byte is no UTF-8", TEXT, filled("ab\n", last="\xff"))
    yield post("2 MiB of quoted cells", CSV, filled('"ab","1"\n', first="username,externalId\n"))
    yield post("2 MiB of blank rows", CSV, filled("\n"))
    yield post("2 MiB of lists in lists", JSON, nested(BATCH_MOST, "usernames"))
    yield post("2 MiB of empty names", JSON, filled('"",', first='{"usernames":[', last='"ab"]}'))
    yield post("2 MiB of objects", NDJSON, filled('{"username":"ab"}\n'))
    yield post("2 MiB of blank lines", NDJSON, filled("\n"))
    yield post("10,000 lines that are no names", TEXT, "no name at all\n" * (NAMES_MOST - 1) + "ab\n")
    cancel = ("batchId", "POST", "/api/batches/{}/cancel")
    yield Call("POST", BATCH, BATCH, "10,000 names, then cancelled", names(), TEXT, LONG_KEY, then=cancel)


def _batch_looks(known: Known) -> Iterator[Call]:
    one, results = "/api/batches/{batch_id}", "/api/batches/{batch_id}/results"
    yield Call("GET", "/api/batches", "/api/batches?limit=100", "the longest page")
    yield Call("GET", one, f"/api/batches/{known.open_batch_id}?wait=60", "waits 60 s", holds=True)
    huge = f"/api/batches/{known.huge_batch_id}/results"
    many = f"/api/batches/{known.batch_id}/results"
    yield Call("GET", results, f"{huge}?limit=200", "the longest page of huge reels")
    yield Call("GET", results, f"{huge}?limit=200&data=false", "the same without data")
    yield Call("GET", results, f"{many}?limit=200", "the longest page of many")
    yield Call("GET", results, f"{huge}?format=ndjson", "a stream of huge reels", holds=True)
    yield Call("GET", results, f"{many}?format=ndjson&data=false", "a stream of all", holds=True)
    cancel = "/api/batches/{batch_id}/cancel"
    yield Call("POST", cancel, f"/api/batches/{known.batch_id}/cancel", "a large one that has ended")


def _requests(known: Known) -> Iterator[Call]:
    one = "/api/requests/{request_id}"
    nothing = "status=cancelled&username=nobody.at.all&limit=100"
    yield Call("GET", "/api/requests", f"/api/requests?{nothing}", "filters that match nothing")
    yield Call("GET", one, f"/api/requests/{known.request_id}", "a huge reel")
    yield Call("GET", one, f"/api/requests/{known.open_request_id}?wait=60", "waits 60 s", holds=True)
    yield Call("DELETE", one, f"/api/requests/{known.open_request_id}", "one that has not ended")
    cancel = f"/api/requests/{known.open_request_id}/cancel"
    yield Call("POST", "/api/requests/{request_id}/cancel", cancel, "one that has begun")
    yield Call("GET", "/api/credits", "/api/credits", "")
    ledger = "/api/credits/ledger"
    yield Call("GET", ledger, f"{ledger}?requestId=x&limit=100", "an id of no shape")
    yield Call("GET", ledger, f"{ledger}?requestId={known.open_request_id}&limit=100", "one entry of many")
    yield Call("GET", ledger, f"{ledger}?limit=100", "the longest page")
    yield Call("GET", "/api/prices", "/api/prices", "")


def _watches(known: Known) -> Iterator[Call]:
    one, path = "/api/watches/{watch_id}", f"/api/watches/{known.watch_id}"
    new = {"username": f"s{NUMBER}_watched", "every": "5m", "webhookUrl": known.hanging_hook}
    yield Call("GET", "/api/watches", "/api/watches?limit=100", "the longest page")
    yield Call("POST", "/api/watches", "/api/watches", "another one", json.dumps(new), headers=LONG_KEY)
    cron = json.dumps({**new, "every": "0 0 29 2 *"})
    yield Call("POST", "/api/watches", "/api/watches", "one that runs every four years", cron)
    yield Call("GET", one, path, "")
    yield Call("DELETE", one, "/api/watches/" + "w" * 2_000, "a long wrong id")
    for verb in ("pause", "resume", "run"):
        yield Call("POST", f"{one}/{verb}", f"{path}/{verb}", "again and again")


def _webhooks(known: Known) -> Iterator[Call]:
    base = "/api/webhooks"
    one, path = f"{base}/deliveries/{{delivery_id}}", f"{base}/deliveries/{known.delivery_id}"
    nothing = f"{base}/deliveries?status=gone&limit=100"
    yield Call("GET", f"{base}/deliveries", nothing, "filters that match nothing")
    yield Call("GET", one, path, "")
    yield Call("POST", f"{one}/replay", f"{path}/replay", "again and again")
    since = json.dumps({"since": "1970-01-01T00:00:00Z"})
    yield Call("POST", f"{base}/replay", f"{base}/replay", "all there ever was", since)
    hanging = json.dumps({"url": known.hanging_hook})
    yield Call("POST", f"{base}/test", f"{base}/test", "a receiver that hangs", hanging, holds=True)
    yield Call("GET", f"{base}/secret", f"{base}/secret", "")
    yield Call("POST", f"{base}/secret/rotate", f"{base}/secret/rotate", "again and again")


def _accounts(known: Known) -> Iterator[Call]:
    password = "p" * 256

    def credentials(email: str) -> str:
        return json.dumps({"email": email, "password": password})

    login, register = "/auth/login", "/auth/register"
    yield Call("POST", login, login, "nobody's address", credentials(f"s{NUMBER}@example.com"))
    yield Call("POST", login, login, "somebody's address", credentials(known.email))
    yield Call("POST", login, login, "a text that is no address", credentials(f"{NUMBER}{'a' * 240}"))
    yield Call("POST", login, login, "64 KiB of lists in lists", nested(BODY_MOST, "email"))
    yield Call("POST", register, register, "a new address", credentials(f"r{NUMBER}@example.com"))
    changed = json.dumps({"current": password, "new": password})
    yield Call("POST", "/auth/password", "/auth/password", "a wrong password", changed)
    yield Call("POST", "/auth/logout-all", "/auth/logout-all", "again and again")
    yield Call("GET", "/keys", "/keys", "")
    yield Call("POST", "/keys", "/keys", "another one", json.dumps({"name": "n" * 100}))
    yield Call("DELETE", "/keys/{key_id}", "/keys/" + "k" * 2_000, "a long wrong id")


def _hiker(known: Known) -> Iterator[Call]:
    huge_id = str(user_id_of(HUGE))
    highlight = str(highlight_id(user_id_of(HUGE), 0))
    story_url = f"https://www.instagram.com/stories/{HUGE}/{known.story_id}/"
    values = {
        targets.USERNAME: f"{HUGE}{NUMBER}",
        targets.USER_ID: huge_id,
        targets.STORY_ID: known.story_id,
        targets.HIGHLIGHT_ID: highlight,
        targets.MEDIA_URL: known.media_url,
    }
    urls = {
        targets.STORY_ID: story_url,
        targets.HIGHLIGHT_ID: f"https://www.instagram.com/stories/highlights/{highlight}/",
        targets.MEDIA_URL: known.media_url,
    }
    for route in ROUTES:
        value = (urls if route.by.name == "url" else values)[route.by.kind]
        query = f"{route.by.name}={quote(value, safe='@')}" + (
            "&amount=10000&force=on" if route.lists else ""
        )
        yield Call("GET", route.path, f"{route.path}?{query}", "a huge account, anew", holds=True)
    for by, value in (("url", "https://www.instagram.com/s/" + "a" * 1_900), ("code", "a" * 8_000)):
        yield Call("GET", f"/v1/share/by/{by}", f"/v1/share/by/{by}?{by}={value}", "a long text")
    yield Call("GET", "/sys/balance", "/sys/balance", "")


def _plain() -> Iterator[Call]:
    for path in ("/", "/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"):
        yield Call("GET", path, path, "")
    yield Call("GET", "/docs/assets/{name}", "/docs/assets/swagger-ui-bundle.js", "the largest file")
