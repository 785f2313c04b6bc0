"""A request's life: its states, the legal transitions, what a caller may ask for."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from service.domain.errors import ValidationFailed
from service.domain.links import is_instagram, split_url
from service.domain.operations import Ask
from service.domain.options import PLAIN, Options
from service.domain.rows import among, entry_id, moment, reading, whole
from service.domain.targets import USERNAME, Target

T = TypeVar("T")

QUEUED = "queued"
PROCESSING = "processing"
SUCCEEDED = "succeeded"
FAILED = "failed"
CANCELLED = "cancelled"

FINAL = frozenset({SUCCEEDED, FAILED, CANCELLED})
STATES = (QUEUED, PROCESSING, SUCCEEDED, FAILED, CANCELLED)

# processing -> processing is a second worker taking over after the first one's lease ran out,
# processing -> queued a worker that stops giving back what it has not done.
TRANSITIONS: dict[str, frozenset[str]] = {
    QUEUED: frozenset({PROCESSING, CANCELLED, FAILED}),
    PROCESSING: frozenset({PROCESSING, QUEUED, SUCCEEDED, FAILED}),
    SUCCEEDED: frozenset(),
    FAILED: frozenset(),
    CANCELLED: frozenset(),
}

INTERACTIVE = "interactive"  # somebody waits
BULK = "bulk"  # nobody waits: webhook or batch
DELIVERIES = "deliver"  # webhooks, worked on by deliverers

# Names of the tasks behind the queues; workers.tasks gives them code.
SCRAPE = "scrape"
GATHER = "gather"  # takes what waits in the bulk queue
DELIVER = "deliver"

USERNAME_MAX = 30

_USERNAME = re.compile(r"^[A-Za-z0-9._]{1,30}$")
# What the website's own addresses begin with; they would pass for names, and be paid for.
_PAGES = frozenset(
    {
        "about", "accounts", "api", "challenge", "developer", "direct", "directory", "explore", "graphql",
        "legal", "oauth", "p", "reel", "reels", "s", "stories", "tv", "web",
    }
)  # fmt: skip
_HIGHLIGHT = (
    "This is the URL of a highlight, which names no account: ask for the highlight instead, by "
    "POST /api/instagram/highlight with its number as highlightId."
)
_SHARED = "This is the share link of a story or highlight: ask for that instead, with the link as its url."


def may_become(state: str, target: str) -> bool:
    """Tell whether a request in ``state`` may go to ``target``."""
    return target in TRANSITIONS[state]


def parse_username(text: str) -> str:
    """Reduce ``name``, ``@name`` or a profile URL to the lower-case name.

    Instagram's names are 1 to 30 characters of letters, digits, dots and underscores and ignore
    case. Raises ValidationFailed naming the field ``username``.
    """
    name = text.strip()
    if "/" in name:
        name = _name_in_url(name)
    name = name.removeprefix("@")
    if not name:
        raise _bad_username("Give a username: 1 to 30 letters, digits, dots or underscores.")
    if len(name) > USERNAME_MAX:
        raise _bad_username(f"A username has at most {USERNAME_MAX} characters; this one has {len(name)}.")
    if not _USERNAME.match(name):
        raise _bad_username("A username holds only letters, digits, dots and underscores.")
    return name.lower()


def _name_in_url(text: str) -> str:
    try:
        parts = split_url(text)
    except ValueError:
        raise _bad_username("This is no URL of an Instagram profile.") from None
    if not is_instagram(parts):
        raise _bad_username("Only profile URLs of instagram.com are accepted.")
    match [part.lower() for part in parts.path.split("/") if part]:
        case ["stories", "highlights", *_]:
            raise _bad_username(_HIGHLIGHT)
        case ["s", _]:
            raise _bad_username(_SHARED)
        case [name] | ["stories", name, *_] if name.removeprefix("@") not in _PAGES:
            return name
    raise _bad_username("Give the URL of a profile, such as https://www.instagram.com/name/.")


def _bad_username(sentence: str) -> ValidationFailed:
    return ValidationFailed(details={"username": [sentence]})


@dataclass(frozen=True)
class Run:
    """That a request is the run of a watch. ``next_in`` (ms) is when the one after it is due, None when that
    stays as it is."""

    watch_id: str
    next_in: int | None = None


@dataclass(frozen=True)
class Submission:
    """A request as accepted, before it is stored. Times are Unix milliseconds."""

    request_id: str
    account_id: str
    operation: str
    target: Target
    queue: str
    hold: int
    webhook_url: str | None = None
    idempotency_key: str | None = None
    max_age: int = 0
    watch: Run | None = None
    options: Options = PLAIN

    @property
    def fingerprint(self) -> str:
        """What is asked, in a form that compares: the same key must ask the same."""
        asked = [self.operation, self.target.text, self.webhook_url, self.max_age]
        if self.options != PLAIN:
            asked.append(self.options.text)
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


@dataclass(frozen=True)
class RequestRecord:
    """A request as stored. Times are Unix milliseconds; 0 or None means not yet.

    ``max_age`` (seconds) is how old a shared result may be, ``cached`` that it ended with one, ``silent``
    that it ended without its webhook, ``source`` which upstream served it, ``owner`` and ``owner_name`` the
    id and name of the account the result is about. ``parked`` is for how long it was put back because no
    session was free, milliseconds. An item of a batch knows which, the caller's own id of it, and the host to
    which the batch's summary goes, and, cancelled with it, the ledger entry that ``released`` the price of
    all that was. One that was handed in just now knows how many credits are ``available``
    to its account, and, put into the bulk queue, for how many requests there nobody was called; one that was
    looked at knows the former and its final ``envelope`` (JSON).
    """

    request_id: str
    account_id: str
    operation: str
    target: Target
    queue: str
    status: str
    hold: int
    created_at: int
    webhook_url: str | None = None
    outcome: str | None = None
    code: str | None = None
    charged: int = 0
    item_count: int = 0
    retry_after: int = 0
    attempts: int = 0
    finished_at: int = 0
    max_age: int = 0
    cached: bool = False
    batch_id: str | None = None
    batch_host: str | None = None
    external_id: str | None = None
    watch_id: str | None = None
    silent: bool = False
    parked: int = 0
    options: Options = PLAIN
    source: str | None = None
    owner: str | None = None
    owner_name: str | None = None
    released: str | None = None
    available: int | None = field(default=None, compare=False)
    uncalled: int | None = field(default=None, compare=False)
    envelope: bytes | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, request_id: str, fields: Mapping[str, str]) -> RequestRecord:
        """Return the record that stands in ``fields`` as the store keeps it. Raises BrokenRow."""
        with reading("request", request_id):
            return cls(
                request_id=request_id,
                account_id=fields["account"],
                operation=fields["operation"],
                target=Target.of(fields),
                queue=fields["queue"],
                status=among(fields, "status", STATES),
                hold=whole(fields, "hold"),
                created_at=moment(fields, "created_at"),
                webhook_url=fields.get("webhook_url"),
                outcome=fields.get("outcome") or None,
                code=fields.get("code") or None,
                charged=whole(fields, "charged", 0),
                item_count=whole(fields, "item_count", 0),
                retry_after=whole(fields, "retry_after", 0),
                attempts=whole(fields, "attempts", 0),
                finished_at=moment(fields, "finished_at", 0),
                max_age=whole(fields, "max_age", 0),
                cached=fields.get("cached") == "1",
                batch_id=fields.get("batch"),
                batch_host=fields.get("batch_host"),
                external_id=fields.get("external_id"),
                watch_id=fields.get("watch"),
                silent=fields.get("silent") == "1",
                parked=whole(fields, "parked", 0),
                options=Options.of(fields.get("options")),
                source=fields.get("source"),
                owner=fields.get("owner") or None,
                owner_name=fields.get("owner_name") or None,
                released=entry_id(fields, "released"),
            )

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    @property
    def username(self) -> str | None:
        """The name it was asked for by, None when it was asked for by something else."""
        return self.target.value if self.target.kind == USERNAME else None

    @property
    def ask(self) -> Ask:
        return Ask(self.operation, self.target, self.options.force)


@dataclass(frozen=True)
class Claim:
    """A worker's right to work on a request until ``lease_until`` (Unix ms), proven by ``fence``."""

    request: RequestRecord
    fence: int
    lease_until: int


@dataclass(frozen=True)
class Ending:
    """How a request ends: what is stored, charged and sent, in one step.

    ``silent`` sends no webhook after all. ``remember`` is what its watch has seen: items, and until when to
    know them (Unix seconds). ``source`` is the upstream that served it; ``owner`` and ``owner_name`` are the
    id and name of the account the result is about. ``burdens``: an upstream was asked in vain, which counts
    against what the account may have for nothing.
    """

    status: str
    envelope: bytes
    charge: int
    outcome: str = ""
    code: str = ""
    item_count: int = 0
    retry_after: int = 0
    cached: bool = False
    silent: bool = False
    remember: Mapping[str, int] = field(default_factory=dict)
    source: str = ""
    owner: str = ""
    owner_name: str = ""
    burdens: bool = False

    def free(self) -> Ending:
        """Return the same ending at no charge."""
        envelope = json.loads(self.envelope) | {"creditsCharged": 0}
        body = json.dumps(envelope, separators=(",", ":")).encode()
        return replace(self, envelope=body, charge=0, burdens=True)


@dataclass(frozen=True)
class Owed:
    """A webhook that is owed, and the host (``name:port``) it goes to."""

    delivery_id: str
    host: str


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of a list, newest first; ``next_cursor`` is None on the last one."""

    items: list[T] = field(default_factory=list)
    next_cursor: str | None = None
